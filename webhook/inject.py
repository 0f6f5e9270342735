"""`python -m webhook.inject -f pod.yaml`: what the webhook would do, without a cluster.

In: a manifest (any workload kind, many documents, `-` for stdin). Out: the manifest with what the
webhook adds, or with `--explain` the plan, each path's volume and each reason. The engine is the
webhook's own; warnings go to stderr.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from runtime.settings import SettingsError
from webhook.cluster import ClusterFacts, Namespace
from webhook.explanation import explain
from webhook.mutate import admit_pod
from webhook.settings import DEFAULT_CONFIG, OperatorConfig, load_operator_config
from webhook.yaml_text import dump_manifests, load_manifests

DONE, DENIED, USAGE = 0, 1, 2
MAX_CHARACTERS = 64 * 1024 * 1024

_TEMPLATE = ("spec", "template")
_PODS: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "ReplicationController": _TEMPLATE,
    "Deployment": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
"""Kind → where in it a pod stands."""
_OWNERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job")
"""Kinds that are themselves the controlling owner of their pods."""


@dataclass(frozen=True, slots=True)
class Found:
    """One pod, or one pod template, in a manifest."""

    title: str
    namespace: str
    part: dict[str, Any]
    """The part of the document with `metadata` and `spec` of the pod; patched in place."""
    pod: dict[str, Any]
    """The pod as it would be sent to the webhook; shares its members with `part`."""


def find_namespaces(documents: Sequence[Any]) -> dict[str, Namespace]:
    """Return the Namespaces of the documents by name: they say what holds for their pods."""
    found: dict[str, Namespace] = {}
    for document in filter(_is_object, documents):
        metadata = document.get("metadata")
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            found |= find_namespaces(document["items"])
        elif document.get("kind") == "Namespace" and isinstance(metadata, dict):
            texts = (_texts(metadata.get(key)) for key in ("labels", "annotations"))
            found[str(metadata.get("name"))] = Namespace(*texts)
    return found


def _texts(value: Any) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {key: text for key, text in pairs if isinstance(key, str) and isinstance(text, str)}


def _is_object(document: Any) -> bool:
    return isinstance(document, dict)


def find_pods(documents: Sequence[Any], namespace: str) -> Iterator[Found]:
    """Yield every pod of the documents; `namespace` is for objects that name none."""
    for document in filter(_is_object, documents):
        kind, metadata = document.get("kind"), document.get("metadata")
        if kind == "List" and isinstance(document.get("items"), list):
            yield from find_pods(document["items"], namespace)
        elif isinstance(kind, str) and kind in _PODS:
            part: Any = document
            for name in _PODS[kind]:
                part = part.get(name) if isinstance(part, dict) else None
            if isinstance(part, dict):
                yield _found(kind, document, metadata, part, namespace)


def _found(kind: str, document: Any, metadata: Any, part: dict[str, Any], namespace: str) -> Found:
    metadata = metadata if isinstance(metadata, dict) else {}
    name = str(metadata.get("name") or metadata.get("generateName") or "?")
    place = str(metadata.get("namespace") or namespace)
    pod = part
    own = part.get("metadata")
    if kind in _OWNERS and (own is None or isinstance(own, dict)):
        owner = {
            "apiVersion": document.get("apiVersion"),
            "kind": kind,
            "name": name,
            "uid": "preview",
            "controller": True,
        }
        pod = {**part, "metadata": {**(own or {}), "ownerReferences": [owner]}}
    return Found(f"{kind} {place}/{name}", place, part, pod)


def main(arguments: Sequence[str], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Run the command; return its exit status.

    0: done. 1: `on_error: deny` denies a pod. 2: the manifest or the config cannot be read.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options.config)
        documents = load_manifests(_read(options.file, stdin))
    except (OSError, ValueError, SettingsError) as error:
        stderr.write(f"inject: {error}\n")
        return USAGE
    minor = options.kubernetes_version
    facts = ClusterFacts(minor, minor, namespaces=find_namespaces(documents) or None)
    status = DONE
    for found in find_pods(documents, options.namespace):
        if options.explain:
            stdout.write(explain(found.pod, found.title, found.namespace, settings, facts))
        elif not _inject(found, settings, facts, stderr):
            status = DENIED
    if not options.explain:
        stdout.write(dump_manifests(documents))
    return status


def _inject(found: Found, settings: OperatorConfig, facts: ClusterFacts, stderr: TextIO) -> bool:
    """Patch one pod in place and say its warnings; return whether it is admitted."""
    import jsonpatch

    admission = admit_pod(found.pod, found.namespace, settings=settings, facts=facts)
    stderr.writelines(f"{found.title}: warning: {text}\n" for text in admission.warnings)
    if admission.denied is not None:
        stderr.write(f"{found.title}: denied: {admission.denied.message}\n")
        return False
    operations: list[Any] = list(admission.patch)
    jsonpatch.apply_patch(found.part, operations, in_place=True)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m webhook.inject",
        description="Prints a manifest as the webhook would change its pods.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-f", "--file", required=True, metavar="F", help="a manifest; - is stdin")
    add("--config", metavar="F", help="the operator config; without it the built-in one holds")
    add("--namespace", default="default", help="of objects that name none")
    add(
        "--kubernetes-version",
        type=_minor,
        metavar="1.N",
        help="of the API server and all nodes; without it nothing is known of them, and the"
        " sidecar is an ordinary container",
    )
    add("--explain", action="store_true", help="print the plan and the reasons instead")
    return parser


def _minor(text: str) -> int:
    match = re.fullmatch(r"v?1\.([0-9]{1,3})(?:\..*)?", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text[:40]!a}, expected 1.N")
    return int(match[1])


def _settings(path: str | None) -> OperatorConfig:
    if path is None:
        return DEFAULT_CONFIG
    return load_operator_config(Path(path).read_text(encoding="utf-8"))


def _read(path: str, stdin: TextIO) -> str:
    if path != "-":
        return Path(path).read_text(encoding="utf-8")
    text = stdin.read(MAX_CHARACTERS + 1)
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"stdin: got more than {MAX_CHARACTERS} characters")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin, sys.stdout, sys.stderr))

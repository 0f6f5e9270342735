"""The cluster of the end-to-end tests: everything goes through kubectl and the API server.

Nothing but the kubeconfig is needed: what runs in the cluster is asked through the API server's
proxy to pods, so that it does not matter whether this machine reaches their addresses.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contract import VERSION

Json = dict[str, Any]

LONG_SECONDS = 240.0
"""For what a cluster does in seconds; one that pulls images takes its time."""
MARK = "e2e.sidetail.dev/run"
"""A label on every namespace of ours but `sidetail-system`; its value is the run."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be set from outside; each is an environment variable, SIDETAIL_E2E_… ."""

    webhook_image: str
    sidecar_image: str
    app_image: str
    """Any Linux with Python 3.11 or newer as `python3`."""
    pull_policy: str
    overlay: str
    """Of manifests/overlays; install.yaml where it is empty."""
    prefix: str
    """Of the names of namespaces."""
    seeded: str
    """A folder with files in the image of the application, for the test of seeding."""
    starts: int
    """Pods of each kind, to measure how long they take to start."""
    lines: int
    """Of each stream, in the large scenarios."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Options":
        def get(name: str, default: str) -> str:
            return environ.get(f"SIDETAIL_E2E_{name}") or default

        return cls(
            webhook_image=get("WEBHOOK_IMAGE", f"registry.example/sidetail-webhook:{VERSION}"),
            sidecar_image=get("SIDECAR_IMAGE", f"registry.example/sidetail-sidecar:{VERSION}"),
            app_image=get("APP_IMAGE", "docker.io/library/python:3.11-slim"),
            pull_policy=get("PULL_POLICY", "IfNotPresent"),
            overlay=get("OVERLAY", ""),
            prefix=get("PREFIX", "sidetail-e2e"),
            seeded=get("SEEDED", "/var/lib/dpkg"),
            starts=int(get("STARTS", "7")),
            lines=int(get("LINES", "20000")),
        )


def wait_for(done: Callable[[], bool], seconds: float = LONG_SECONDS) -> None:
    """Wait until `done()`; after `seconds` fail. Each look is a process: they come slowly."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"{done!r} did not come true in {seconds:.0f} s")
        time.sleep(0.5)


class KubectlError(AssertionError):
    """kubectl failed; the text is what it said."""


@dataclass
class Cluster:
    """A cluster with a kubeconfig, and the namespaces that this run has made in it."""

    options: Options
    kubectl_path: str
    run: str = field(default_factory=lambda: secrets.token_hex(3))
    namespaces: list[str] = field(default_factory=list)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, seconds: float = LONG_SECONDS
    ) -> str:
        """Run kubectl and return what it prints.

        Raises:
            KubectlError: its exit status is not 0.
        """
        done = subprocess.run(
            [self.kubectl_path, *arguments],
            input=stdin, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[:2000]}")
        return done.stdout

    def get(self, *arguments: str) -> Json:
        """Return an object or a list, as kubectl's `-o json` gives it."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def apply(self, *objects: Json, dry_run: bool = False) -> str:
        extra = ["--dry-run=server", "-o", "json"] if dry_run else []
        return self.kubectl("apply", *extra, "-f", "-", stdin=yaml.safe_dump_all(objects))

    def versions(self) -> str:
        """Return what the cluster is made of, in a line."""
        server = json.loads(self.kubectl("get", "--raw", "/version"))["gitVersion"]
        nodes = [node["status"]["nodeInfo"] for node in self.get("nodes")["items"]]
        kinds = {
            f"kubelet {node['kubeletVersion']}, {node['containerRuntimeVersion']},"
            f" kernel {node['kernelVersion']}, {node['architecture']}"
            for node in nodes
        }
        return f"API server {server}; {len(nodes)} nodes: {'; '.join(sorted(kinds))}"

    def raw(self, path: str, body: object = None) -> str:
        """Ask the API server for a path: GET, or POST where there is a body."""
        if body is None:
            return self.kubectl("get", "--raw", path)
        return self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def through(self, namespace: str, pod: str, port: int, path: str, body: object = None) -> str:
        """Ask a pod, through the API server."""
        return self.raw(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}", body)

    def new_namespace(self, name: str, *, inject: bool = True, **labels: str) -> str:
        """Make a namespace; the run removes it in the end. `__` in a label's key is a slash."""
        full = f"{self.options.prefix}-{self.run}-{name}"
        # Some clusters enforce more than nothing where a namespace does not say otherwise.
        labels = {"pod-security.kubernetes.io__enforce": "privileged", MARK: self.run, **labels}
        labels = {key.replace("__", "/"): value for key, value in labels.items()}
        if inject:
            labels["sidetail.dev/inject"] = "enabled"
        self.namespaces.append(full)
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": full, "labels": labels}}
        )
        # Its account comes a moment later, and without it no pod is created by hand.
        wait_for(lambda: self.exists("serviceaccount", "default", "-n", full))
        return full

    def exists(self, *arguments: str) -> bool:
        return bool(self.kubectl("get", "--ignore-not-found", "-o", "name", *arguments).strip())

    def remove_namespace(self, name: str) -> None:
        """Have a namespace removed; `close` waits for it."""
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")

    def close(self) -> None:
        """Remove every namespace of this run, and wait until they are gone."""
        for name in self.namespaces:
            self.remove_namespace(name)
        self.kubectl(
            "wait", "--for=delete", "namespace", "-l", f"{MARK}={self.run}", "--timeout=240s",
            seconds=300,
        )  # fmt: skip

    def pods(self, namespace: str, **labels: str) -> list[Json]:
        """Return the pods of a namespace that are not about to go."""
        chosen = [f"-l{','.join(f'{key}={value}' for key, value in labels.items())}"]
        found = self.get("pods", "-n", namespace, *(chosen if labels else []))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_for_pods(
        self, namespace: str, done: Callable[[list[Json]], bool], **labels: str
    ) -> list[Json]:
        """Wait until the pods are as wanted; else fail and say how they are."""
        pods: list[Json] = []

        def come() -> bool:
            pods[:] = self.pods(namespace, **labels)
            return done(pods)

        try:
            wait_for(come)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.described(namespace)}") from None
        return pods

    def described(self, namespace: str) -> str:
        """Return what a person would look at: pods, their containers, the last events."""
        texts = []
        for pod in self.get("pods", "-n", namespace)["items"]:
            status = pod["status"]
            states = {
                one["name"]: one.get("state")
                for kind in ("initContainerStatuses", "containerStatuses")
                for one in status.get(kind, [])
            }
            texts.append(f"{pod['metadata']['name']} {status.get('phase')} {json.dumps(states)}")
            with contextlib.suppress(KubectlError):
                name = pod["metadata"]["name"]
                texts.append(
                    self.kubectl(
                        "logs", "-n", namespace, name, "--all-containers", "--tail=5", "--prefix"
                    )
                )
        with contextlib.suppress(KubectlError):
            events = self.kubectl("get", "events", "-n", namespace, "--sort-by=.lastTimestamp")
            texts += events.splitlines()[-15:]
        return "\n".join(texts)


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def all_ready(count: int) -> Callable[[list[Json]], bool]:
    """Return the wish that there are `count` pods, all of them ready."""
    return lambda pods: len(pods) == count and all(map(is_ready, pods))


def restarts(pod: Json, container: str | None = None) -> int:
    """Return how often containers were started again: one, or all of the pod's."""
    return sum(
        one["restartCount"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in pod["status"].get(kind, [])
        if container in {None, one["name"]}
    )


def why_not(environ: Mapping[str, str]) -> str | None:
    """Return why there is no cluster to run against, or None."""
    kubectl = find_kubectl(environ)
    if kubectl is None:
        return "no kubectl in $PATH, $KUBEBUILDER_ASSETS or $SIDETAIL_E2E_KUBECTL"
    home = Path(environ.get("HOME", "/nowhere"))
    if not environ.get("KUBECONFIG") and not (home / ".kube" / "config").exists():
        return "no kubeconfig in $KUBECONFIG or ~/.kube/config"
    done = subprocess.run(
        [kubectl, "get", "nodes", "-o", "json", "--request-timeout=20s"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return f"the cluster does not answer: {done.stderr.strip()[:300]}"
    if not any(is_ready(node) for node in json.loads(done.stdout)["items"]):
        return "the cluster has no node that is ready"
    return None


def find_kubectl(environ: Mapping[str, str]) -> str | None:
    """Return the program, or None."""
    assets = Path(environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin") / "kubectl"
    named = environ.get("SIDETAIL_E2E_KUBECTL")
    if named:
        return shutil.which(named)
    return shutil.which("kubectl") or (str(assets) if os.access(assets, os.X_OK) else None)


@contextlib.contextmanager
def scenario(cluster: Cluster, name: str, **options: Any) -> Iterator[str]:
    """A namespace for one scenario."""
    namespace = cluster.new_namespace(name, **options)
    try:
        yield namespace
    finally:
        cluster.remove_namespace(namespace)

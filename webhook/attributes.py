"""The facts about a pod that stand on its records, by OpenTelemetry's semantic conventions.

In: the pod at its creation. Out: attributes of the whole pod and of each container. Nothing is
looked up (design D10), and an author can set nothing but `service.*`.
Source: OpenTelemetry, "Specify resource attributes using Kubernetes annotations".
"""

import re

from webhook.pod import Container, Pod
from webhook.settings import OperatorConfig
from webhook.values import UNPRINTABLE

MAX_VALUE = 256
_ANNOTATION = "resource.opentelemetry.io/"
_SERVICE = re.compile(r"service\.[a-z][a-z0-9_.]{0,62}", re.ASCII)
_MAX_SERVICE = 8
_HASH_LABEL = "pod-template-hash"
_CRON_SUFFIX = re.compile(r"(.+)-[0-9]{8,}", re.ASCII)
_OWNERS = ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")
"""In the order in which they name a service."""
_API_GROUPS = {"ReplicaSet": "apps", "StatefulSet": "apps", "DaemonSet": "apps", "Job": "batch"}
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-fA-F]{32,}", re.ASCII)


def pod_attributes(pod: Pod, settings: OperatorConfig) -> dict[str, str]:
    """Return what holds for every record of the pod."""
    attributes = dict(settings.attributes)
    for key in settings.pod_labels:
        if key in pod.labels:
            attributes[f"k8s.pod.label.{key}"] = pod.labels[key]
    attributes["k8s.namespace.name"] = pod.namespace
    for kind, name in owners(pod).items():
        attributes[f"k8s.{kind}.name"] = name
    return {key: _clean(text) for key, text in attributes.items() if text}


def container_attributes(pod: Pod, container: Container) -> dict[str, str]:
    """Return what holds for the records of one container."""
    attributes = {"k8s.container.name": container.name}
    image = container.raw.get("image")
    name, tag, digest = split_image(image if isinstance(image, str) else "")
    if name:
        attributes["container.image.name"] = name
    attributes |= service_attributes(pod, container.name)
    version = _version(tag, digest)
    if version and "service.version" not in attributes:
        attributes["service.version"] = version
    return {key: _clean(text) for key, text in attributes.items() if text}


def owners(pod: Pod) -> dict[str, str]:
    """Return kind → name of what made the pod, in lower case, as far as its names tell."""
    owner = pod.owner
    if owner is None or _API_GROUPS.get(owner.kind) != owner.api_version.partition("/")[0]:
        return {}
    names = {owner.kind.lower(): owner.name}
    template_hash = pod.labels.get(_HASH_LABEL, "")
    if owner.kind == "ReplicaSet" and template_hash and owner.name.endswith(f"-{template_hash}"):
        names["deployment"] = owner.name[: -len(template_hash) - 1]
    match = _CRON_SUFFIX.fullmatch(owner.name) if owner.kind == "Job" else None
    if match:
        names["cronjob"] = match[1]
    return {kind: name for kind, name in names.items() if name}


def service_attributes(pod: Pod, container: str) -> dict[str, str]:
    """Return `service.*` of one container, but a version that its image would give.

    An empty `container` stands for files of several.
    """
    found = owners(pod)
    candidates = (
        pod.labels.get("app.kubernetes.io/instance"),
        pod.labels.get("app.kubernetes.io/name"),
        *(found.get(kind) for kind in _OWNERS),
        pod.name,
        container,
    )
    attributes = {
        "service.name": next((name for name in candidates if name), ""),
        "service.namespace": pod.namespace,
        "service.version": pod.labels.get("app.kubernetes.io/version", ""),
    }
    attributes |= _annotated(pod)
    return {key: text for key, text in attributes.items() if text}


def _annotated(pod: Pod) -> dict[str, str]:
    found = {}
    for key, text in pod.annotations.items():
        name = key.removeprefix(_ANNOTATION)
        if name != key and _SERVICE.fullmatch(name) and text:
            found[name] = text
        if len(found) == _MAX_SERVICE:
            break
    return found


def split_image(image: str) -> tuple[str, str, str]:
    """Return name, tag and digest of an image reference.

    >>> split_image("registry:5000/team/app:1.2@sha256:" + "0" * 64)[:2]
    ('registry:5000/team/app', '1.2')
    """
    name, _, digest = image.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    return head, tag, digest if _DIGEST.fullmatch(digest) else ""


def _version(tag: str, digest: str) -> str:
    return f"{tag}@{digest}" if tag and digest else tag or digest


def _clean(text: str) -> str:
    """Return a value that any JSON can carry, of bounded length."""
    return UNPRINTABLE.sub("\ufffd", text)[:MAX_VALUE]

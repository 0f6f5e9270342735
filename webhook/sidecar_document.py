"""The configuration of one pod's sidecar, as `contract.sidecar_config` defines it.

In: the plan and the options. Out: the document, and the text of the environment variable.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contract.names import (
    LOGS_DIR,
    STATE_DIR,
    STDOUT_DIR,
    STDOUT_FILE,
    VOLUMES_DIR,
)
from contract.sidecar_config import SidecarConfig, SourceConfig
from webhook.ascii_json import to_ascii
from webhook.attributes import container_attributes, pod_attributes, service_attributes
from webhook.options import Options
from webhook.planned import Followed, Place, Plan, stdout_sub_path
from webhook.pod import Pod, segments
from webhook.quantities import NANO, parse_quantity
from webhook.settings import OperatorConfig
from webhook.stdout import Mirrored

FEW_SOURCES = 4
"""Of so many each says all of its attributes; of more, the document says what they share."""
_DRAIN_RESERVE_SECONDS = 5
"""Of the pod's grace period: for the state, and for the kubelet."""
_DEFAULT_GRACE_SECONDS = 30


def environment_text(document: SidecarConfig) -> str:
    """Return the document as the value of an environment variable.

    The kubelet replaces `$(NAME)` and `$$` in such a value. JSON can say a dollar without
    writing one, so nothing is left that it, or any template on the way, could replace.
    """
    return to_ascii(document).replace("$", "\\u0024")


def build_document(
    pod: Pod, options: Options, plan: Plan, settings: OperatorConfig, *, port: int | None
) -> SidecarConfig:
    """Return the document; `port` is where it serves metrics, if anywhere."""
    choices = options.choices
    sources = [_file_source(options, group) for group in _groups(plan.followed)]
    sources += [_stdout_source(options, one) for one in plan.mirrored]
    attributes = _Attributes(pod)
    for source in sources:
        source["attributes"] = attributes.of(source.get("container", ""))
    shared = _take_shared(sources) if len(sources) > FEW_SOURCES else {}
    limits: dict[str, Any] = {"drain_seconds": drain_seconds(pod)}
    if choices.max_rate is not None:
        limits["max_rate"] = choices.max_rate
    if choices.clean_above is not None:
        limits["clean_above"] = choices.clean_above
    document: SidecarConfig = {
        "sources": sources,
        "backends": [
            settings.backends[name].document_for(pod.namespace) for name in choices.backend
        ],
        "state_dir": STATE_DIR,
        "attributes": pod_attributes(pod, settings) | shared,
        "limits": limits,
    }
    if options.redact:
        document["redact"] = {name: settings.redact[name] for name in options.redact}
    if choices.log_level != "info":
        document["log_level"] = choices.log_level
    if port is not None:
        document["metrics"] = {"port": port}
    if any(one.place.is_new for one in plan.followed) or plan.mirrored:
        size = (parse_quantity(choices.size_limit) or 0) // NANO
        document["volume"] = {"dir": LOGS_DIR, "bytes": max(1, size)}
    return document


def grace_seconds(pod: Pod) -> int:
    """Return the pod's grace period."""
    grace = pod.spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and not isinstance(grace, bool) and grace >= 0:
        return grace
    return _DEFAULT_GRACE_SECONDS


def drain_seconds(pod: Pod) -> int:
    """Return what a stop of the sidecar may take."""
    return max(1, grace_seconds(pod) - _DRAIN_RESERVE_SECONDS)


def root_of(place: Place) -> str:
    """Return where the sidecar mounts a place: a folder of its own, none below another."""
    if place.is_new:
        return f"{LOGS_DIR}/{place.sub_path}"
    if not place.sub_path:
        return f"{VOLUMES_DIR}/{place.volume}"
    identity = json.dumps([place.sub_path, place.is_expression, place.environment], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return f"{VOLUMES_DIR}/{place.volume}.{digest}"  # a volume's name has no dot


@dataclass(frozen=True, slots=True)
class _Group:
    """The accepted paths that lead to the same files."""

    first: Followed
    containers: tuple[str, ...]
    is_certain: bool


def _groups(followed: Iterable[Followed]) -> Iterable[_Group]:
    """Join what leads to the same files, by whatever mount: they are shipped once."""
    groups: dict[tuple[Any, ...], _Group] = {}
    for one in followed:
        place = one.place
        if place.is_expression:
            key: tuple[Any, ...] = (root_of(place), one.glob)
        else:
            key = (place.volume, *segments(place.sub_path), *one.glob.split("/"))
        group = groups.get(key, _Group(one, (), is_certain=True))
        containers = tuple(dict.fromkeys((*group.containers, one.container)))
        groups[key] = _Group(group.first, containers, group.is_certain and one.is_certain)
    return groups.values()


def _file_source(options: Options, group: _Group) -> SourceConfig:
    one = group.first
    own = one.request.own
    source: SourceConfig = {
        "path": f"{root_of(one.place)}/{one.glob}",
        "shown_as": one.shown_as,
    }
    if len(group.containers) == 1 and group.is_certain:
        source["container"] = group.containers[0]
    exclude = own.get("exclude", options.choices.exclude)
    if exclude:
        source["exclude"] = list(exclude)
    return _with_options(source, options, own)


def _stdout_source(options: Options, one: Mirrored) -> SourceConfig:
    source: SourceConfig = {
        "path": f"{LOGS_DIR}/{stdout_sub_path(one.container)}/{STDOUT_FILE}*",
        "shown_as": f"{STDOUT_DIR}/{one.container}",
        "container": one.container,
        "stream": "stdout",
    }
    return _with_options(source, options, {})


def _with_options(source: SourceConfig, options: Options, own: Any) -> SourceConfig:
    """Add what the author chose, where it is not the sidecar's own default."""
    choices = options.choices
    log_format = own.get("format", choices.format)
    if log_format != "text":
        source["format"] = log_format
    multiline = own.get("multiline", choices.multiline)
    if multiline != "none":
        source["multiline"] = multiline
    fields = {**choices.fields, **own.get("fields", {})}
    if fields:
        source["fields"] = fields
    if choices.keep is not None:
        source["keep"] = choices.keep
    if choices.drop is not None:
        source["drop"] = choices.drop
    if options.redact:
        source["redact"] = list(options.redact)
    return source


def _take_shared(sources: Sequence[SourceConfig]) -> dict[str, str]:
    """Take out of the sources the attributes that are the same in all of them, and return them."""
    rows = [source["attributes"] for source in sources]
    shared = {
        key: text for key, text in rows[0].items() if all(row.get(key) == text for row in rows)
    }
    for source in sources:
        own = {key: text for key, text in source.pop("attributes").items() if key not in shared}
        if own:
            source["attributes"] = own
    return shared


class _Attributes:
    """The attributes of each container, worked out once."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._known: dict[str, dict[str, str]] = {}

    def of(self, name: str) -> dict[str, str]:
        """Return those of a container; of files that several write where `name` is empty."""
        if name not in self._known:
            container = self._pod.container(name)
            if container is None:
                self._known[name] = service_attributes(self._pod, "")
            else:
                self._known[name] = container_attributes(self._pod, container)
        return self._known[name]

"""Our annotations: the status, and the list for the cluster's autoscaler, kept within limits.

In: what was planned and what was left out. Out: annotations. Where there is no room, the detail
of the status goes first, then the status, then the list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contract import VERSION
from contract.annotations import STATUS
from contract.names import DEFAULT_CONTAINER, SAFE_TO_EVICT
from contract.plan import LeftOut, Outcome
from contract.plan import Status as StatusDocument
from webhook.ascii_json import to_ascii
from webhook.default_container import default_container
from webhook.faults import Fault, entries
from webhook.injection import Additions
from webhook.options import Options
from webhook.planned import Plan
from webhook.pod import Pod

MAX_ANNOTATIONS = 262_144
"""Bytes of all annotations of an object, keys and values, that the API server takes."""
_FEW = 8
"""Entries of `left_out` that a status without detail keeps."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the patch that the status may take."""

    good: int
    """With detail."""
    most: int
    """Without."""


def outcome_of(plan: Plan) -> Outcome:
    """Return the outcome of a pod that asked for something."""
    if plan.is_empty:
        return "skipped"
    return "partial" if plan.faults else "injected"


def status_document(pod: Pod, options: Options, plan: Plan, volume: str) -> StatusDocument:
    """Return the status in full; `volume` is the name of our log volume."""
    return {
        "version": VERSION,
        "collector": options.choices.collector,
        "outcome": outcome_of(plan),
        "default_container": default_container(pod, options).name,
        "plan": plan.entries(options, volume),
        "left_out": entries(plan.faults, options.more_faults),
    }


def annotations_for(
    status: StatusDocument, pod: Pod, additions: Additions, room: Room
) -> dict[str, str]:
    """Return our annotations, within `room` and within what the API takes.

    The autoscaler's list is merged with the author's.
    """
    authored = pod.annotations
    free = MAX_ANNOTATIONS - sum(_size(key, text) for key, text in authored.items())
    wanted: dict[str, str | None] = {
        SAFE_TO_EVICT: _evictable(authored.get(SAFE_TO_EVICT), additions.local_volumes)
    }
    if DEFAULT_CONTAINER not in authored:
        wanted[DEFAULT_CONTAINER] = additions.default_container
    small = {key: text for key, text in wanted.items() if text is not None}
    for key, text in small.items():
        free -= _size(key, text) - (_size(key, authored[key]) if key in authored else 0)
    fitting = _fitting(status, free, room)
    annotations = {} if fitting is None else {STATUS: fitting}
    return annotations | small if free >= 0 else annotations


def _fitting(status: StatusDocument, free: int, room: Room) -> str | None:
    """Return the status with as much detail as there is room for; the last resort is none."""
    text = None
    for text in _texts(status):
        if _size(STATUS, text) <= free and _cost(text) <= room.good:
            return text
    if text is None or _size(STATUS, text) > free or _cost(text) > room.most:
        return None
    return text


def fits(status: StatusDocument, room: int) -> bool:
    """Return whether the status fits into `room` bytes of a patch, if need be without detail."""
    return any(_cost(text) <= room for text in _texts(status))


def _cost(text: str) -> int:
    """Return the bytes that a JSON text takes in a patch, where it is quoted once more."""
    return len(text) + text.count('"') + text.count("\\") + 2


def _size(key: str, text: str) -> int:
    return len(key.encode("utf-8", "replace")) + len(text.encode("utf-8", "replace"))


def _evictable(authored: str | None, local_volumes: Sequence[str]) -> str | None:
    names = [name.strip() for name in (authored or "").split(",") if name.strip()]
    added = [name for name in local_volumes if name not in names]
    return ",".join([*names, *added]) if added else None


def _texts(status: StatusDocument) -> Iterator[str]:
    """Yield the status with ever less detail."""
    yield to_ascii(status)
    left_out = status["left_out"]
    yield to_ascii(status | {"left_out": [_terse(entry) for entry in left_out]})
    kept = [_terse(entry) for entry in left_out[:_FEW]]
    if len(left_out) > _FEW:
        rest = Fault("…", left_out[_FEW]["reason"], f"and {len(left_out) - _FEW} more")
        kept.append(rest.entry())
    yield to_ascii(status | {"left_out": kept})


def _terse(entry: LeftOut) -> LeftOut:
    return entry | {"message": ""}

"""Our annotations: the status, and the list for the cluster's autoscaler, kept within limits.

In: what was planned and what was left out. Out: annotations. Where there is no room, the detail
of the status goes first, then the status, then the list.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import VERSION
from contract.annotations import STATUS
from contract.names import SAFE_TO_EVICT
from contract.plan import LeftOut, Outcome
from contract.plan import Status as StatusDocument
from webhook.faults import Fault, entries
from webhook.options import Options
from webhook.planned import Plan

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


def status_document(options: Options, plan: Plan, volume: str) -> StatusDocument:
    """Return the status in full; `volume` is the name of our log volume."""
    return {
        "version": VERSION,
        "collector": options.choices.collector,
        "outcome": outcome_of(plan),
        "plan": plan.entries(options, volume),
        "left_out": entries(plan.faults, options.more_faults),
    }


def annotations_for(
    status: StatusDocument, authored: Mapping[str, str], local_volumes: Sequence[str], room: Room
) -> dict[str, str]:
    """Return our annotations, within `room` and within what the API takes.

    `authored` are the author's own annotations; the autoscaler's list is merged with theirs.
    """
    free = MAX_ANNOTATIONS - sum(_size(key, text) for key, text in authored.items())
    evictable = _evictable(authored.get(SAFE_TO_EVICT), local_volumes)
    if evictable is not None:
        there = authored.get(SAFE_TO_EVICT)
        free -= _size(SAFE_TO_EVICT, evictable)
        free += 0 if there is None else _size(SAFE_TO_EVICT, there)
    annotations: dict[str, str] = {}
    text = _fitting(status, free, room)
    if text is not None:
        annotations[STATUS] = text
    if evictable is not None and free >= 0:
        annotations[SAFE_TO_EVICT] = evictable
    return annotations


def _fitting(status: StatusDocument, free: int, room: Room) -> str | None:
    """Return the status with as much detail as there is room for; the last resort is none."""
    texts = [text for text in _texts(status) if _size(STATUS, text) <= free]
    for text in texts:
        if cost(text) <= room.good:
            return text
    return texts[-1] if texts and cost(texts[-1]) <= room.most else None


def least_cost(status: StatusDocument) -> int:
    """Return the cost of the status without any detail."""
    return cost([*_texts(status)][-1])


def cost(value: Any) -> int:
    """Return the bytes that a value takes in a patch: a JSON text in it is quoted once more."""
    return len(json.dumps(value))


def _size(key: str, text: str) -> int:
    return len(key.encode("utf-8", "replace")) + len(text.encode("utf-8", "replace"))


def _evictable(authored: str | None, local_volumes: Sequence[str]) -> str | None:
    names = [name.strip() for name in (authored or "").split(",") if name.strip()]
    added = [name for name in local_volumes if name not in names]
    return ",".join([*names, *added]) if added else None


def _texts(status: StatusDocument) -> Iterator[str]:
    """Yield the status with ever less detail."""
    yield _text(status)
    left_out = status["left_out"]
    yield _text(status | {"left_out": [_terse(entry) for entry in left_out]})
    kept = [_terse(entry) for entry in left_out[:_FEW]]
    if len(left_out) > _FEW:
        rest = Fault("…", left_out[_FEW]["reason"], f"and {len(left_out) - _FEW} more")
        kept.append(rest.entry())
    yield _text(status | {"left_out": kept})


def _terse(entry: LeftOut) -> LeftOut:
    return entry | {"message": ""}


def _text(status: Any) -> str:
    return json.dumps(status, separators=(",", ":"))

"""Entries of `left_out` in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contract.plan import LeftOut
from contract.reasons import BY_CODE, NOT_ALLOWED, UNKNOWN_BACKEND, UNKNOWN_PATTERN
from webhook.settings import OperatorConfig

_NEEDS_CONFIG = frozenset({NOT_ALLOWED, UNKNOWN_BACKEND, UNKNOWN_PATTERN})


def known_reasons(rows: Iterable[LeftOut], config: OperatorConfig | None) -> list[LeftOut]:
    """Return the entries that hold whatever the operator config says, where that is not known."""
    return [row for row in rows if config is not None or row["reason"] not in _NEEDS_CONFIG]


def worded_reason(row: LeftOut) -> str:
    """Return one entry as a line."""
    what = row.get("path") or row.get("key") or "pod"
    return f"{what}: {row['message']} ({row['reason']})"


def remedy_for(rows: Sequence[LeftOut]) -> str:
    """Return what to do about the first entry; empty for a code of a newer webhook."""
    reason = BY_CODE.get(rows[0]["reason"]) if rows else None
    return reason.remedy if reason is not None else ""


def read_left_out(status: Mapping[str, Any]) -> tuple[LeftOut, ...]:
    """Return the entries of a status that anybody may have written."""
    rows = status.get("left_out")
    return tuple(
        LeftOut(
            path=str(row.get("path") or row.get("key")),
            reason=str(row.get("reason")),
            message=str(row.get("message")),
        )
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
    )

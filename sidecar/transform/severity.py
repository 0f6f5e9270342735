"""Severities: the words and numbers that programs use, as the six that a record knows."""

from typing import Final

from contract.record import SEVERITIES

_SPELLINGS: Final = {
    "trace": "trace finest finer verbose silly all",
    "debug": "debug dbg fine d",
    "info": "info information informational notice inf i",
    "warn": "warn warning wrn w",
    "error": "error err severe e",
    "fatal": "fatal critical crit alert emergency emerg panic dpanic ftl f",
}
_PINO: Final = {"trace": b"10", "debug": b"20", "info": b"30", "warn": b"40", "error": b"50"}
"""The numbers of pino and bunyan."""

CODES: Final[dict[bytes, int]] = (
    {
        spelling.encode(): 1 + SEVERITIES.index(severity)
        for severity, spellings in _SPELLINGS.items()
        for spelling in spellings.split()
    }
    | {number: 1 + SEVERITIES.index(severity) for severity, number in _PINO.items()}
    | {b"60": 6}
)
"""Lower-case spelling or number → the severity's bits in `marks`."""

MAX_SPELLING: Final = max(map(len, CODES))


def severity_code(text: bytes) -> int:
    """Return a severity's bits in `marks`, in whatever case it is written; 0 for an unknown one."""
    return CODES.get(text.lower(), 0) if len(text) <= MAX_SPELLING else 0


SPELLINGS: Final = b"".join(
    bytes([len(same_length)]) + b"".join(text + bytes([CODES[text]]) for text in same_length)
    for same_length in ([text for text in CODES if len(text) == length] for length in range(1, 16))
)
"""The same for objects.c: for each length from 1 to 15 how many there are, and they."""

KLOG: Final = {b"I": 3, b"W": 4, b"E": 5, b"F": 6}
"""klog's letters."""

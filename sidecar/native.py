"""The parts of the sidecar that are written in C, if they were built: found and checked.

encode.c encodes (`sidecar.encode_native`), lines.c splits and sifts blocks, automaton.c runs
patterns, objects.c reads JSON, logfmt and Docker's lines (`sidecar.transform.in_c`),
record_batch.c makes Kafka's records (`sidecar.backends.kafka_records`). Each function has a twin
in Python, or in RE2, that says the same, more slowly; without the library, or with
`SIDETAIL_ENCODER=python`, the twins do it all.
"""

import ctypes
import logging
import os
from functools import cache
from typing import Any, Final

INTERFACE: Final = 6
"""Of the C files: a library of another one is not used."""
ENCODER_ENV: Final = "SIDETAIL_ENCODER"
"""Environment variable: `python` turns the library off."""
LIBRARY: Final = os.path.join(os.path.dirname(__file__), "build", "encode.so")

POINTER: Final = ctypes.c_void_p
NUMBER: Final = ctypes.c_int64
TEXT: Final = ctypes.c_char_p

_log = logging.getLogger(__name__)

_SIGNATURES: Final[dict[str, tuple[type | None, tuple[type, ...]]]] = {
    "interface": (NUMBER, ()),
    "encode": (NUMBER, (TEXT, TEXT, TEXT, POINTER, POINTER)),
    "count_lines": (NUMBER, (TEXT, NUMBER)),
    "bits": (NUMBER, (POINTER, NUMBER)),
    "split_lines": (None, (TEXT, POINTER)),
    "split_cri": (None, (TEXT, POINTER)),
    "gather": (NUMBER, (TEXT, POINTER, POINTER, NUMBER, POINTER, POINTER)),
    "find": (None, (TEXT, POINTER, POINTER, NUMBER, POINTER, POINTER)),
    "find_all": (None, (TEXT, POINTER, POINTER, NUMBER, POINTER)),
    "redact": (NUMBER, (TEXT, POINTER, POINTER, NUMBER, POINTER)),
    "find_crossing": (None, (TEXT, POINTER, POINTER, NUMBER, POINTER, NUMBER, POINTER)),
    "find_crossing_pairs": (None, (TEXT, POINTER, POINTER, NUMBER, POINTER, NUMBER, POINTER)),
    "find_escaped": (None, (TEXT, POINTER, POINTER, NUMBER, POINTER, POINTER, POINTER)),
    "move_objects": (None, (NUMBER, *[POINTER] * 7)),
    "set_bits": (None, (TEXT, NUMBER, NUMBER, POINTER)),
    "keep": (NUMBER, (TEXT, NUMBER, POINTER, POINTER)),
    "left_out": (None, (TEXT, NUMBER, POINTER, POINTER, NUMBER, POINTER)),
    "first_bytes": (NUMBER, (TEXT, POINTER, NUMBER, TEXT, POINTER)),
    "read_objects": (None, (TEXT, POINTER)),
    "make_records": (None, (POINTER,)),
}
"""Name, without `sidetail_` → what it returns and takes."""


class Library:
    """The loaded library; its functions keep nothing and let other threads run."""

    c: Any
    """Its functions, by the names that they have in C."""

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        """Load the library.

        Raises:
            OSError: there is none, or it is one of another interface or machine.
        """
        self.c = ctypes.CDLL(os.fspath(path))
        try:
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self.c, f"sidetail_{name}")
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise OSError(f"{path}: not the encoder") from error
        if (got := self.c.sidetail_interface()) != INTERFACE:
            raise OSError(f"{path}: got interface {got}, expected {INTERFACE}")


def members(kind: type, *names: str) -> list[tuple[str, type]]:
    """Return members of one kind, for the fields of a structure."""
    return [(name, kind) for name in names]


@cache
def library() -> Library | None:
    """Return the library, or None where the wheels' way is to be gone; looked for once."""
    # Read here and not in __main__: tests and benchmarks of single functions switch it too.
    if os.environ.get(ENCODER_ENV) == "python":
        return None
    try:
        return Library(LIBRARY)
    except OSError as error:
        _log.debug("no encoder library, using Python", extra={"fields": {"reason": str(error)}})
        return None

r"""Wire forms as data: what one record looks like at a backend, in literals and slots.

A backend writes its form as a list of parts for a file's facts; `Template` makes of it what
both ways of the encoder read. The facts of the record stand in slots, all else is literal:

    Template([b'{"id":"' + facts.file.encode() + b"-", Offset(), b'","message":"',
              Message(), b'"}\n'])

Slots for facts that not every record has carry the bytes that go around them, and write
nothing at all where the fact is absent.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, TypeVar

from contract.record import SEVERITIES
from sidecar.transform.records import PARSE_ERRORS


class Text(IntEnum):
    """How a slot writes text."""

    JSON = 0
    """The inside of a JSON string. Bytes that are not UTF-8 become U+FFFD."""
    UTF8 = 1
    """As it is; bytes that are not UTF-8 become U+FFFD."""
    MSGPACK = 2
    """A msgpack `str 32`. Bytes that are not UTF-8 become U+FFFD. Source: msgpack's spec."""


class Number(IntEnum):
    """How a slot writes a number."""

    DECIMAL = 0
    MSGPACK = 1
    """A msgpack `uint 64`. Source: msgpack's spec."""


class Clock(IntEnum):
    """How a slot writes a time, which is UTC."""

    RFC3339 = 0
    """With nine digits of a second: `2024-05-01T12:00:00.123456789Z`."""
    MICROSECONDS = 1
    """The same with six digits. Source: RFC 5424, 6.2.3 (TIME-SECFRAC)."""
    NANOSECONDS = 2
    """Nanoseconds since the epoch, decimal, at least 0 and at most 2^63 - 1."""
    EVENT_TIME = 3
    """Seconds and nanoseconds, 32 bits each, big-endian: the data of a Fluentd EventTime.
    Source: Fluentd's Forward Protocol Specification v1.5."""


Operands = Sequence[int | bytes]
"""What follows an operation's code in a program; a literal is its place and its length."""


@dataclass(frozen=True, slots=True)
class Offset:
    """The offset of the record's first byte; after `<file>-`, the rest of its id."""

    form: Number = Number.DECIMAL
    code: ClassVar[int] = 1
    """As encode.c knows the slot."""

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form]


@dataclass(frozen=True, slots=True)
class Time:
    """The record's own time, or when it was read."""

    form: Clock = Clock.RFC3339
    code: ClassVar[int] = 2

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form]


@dataclass(frozen=True, slots=True)
class ReadAt:
    """When the record was read."""

    form: Clock = Clock.RFC3339
    code: ClassVar[int] = 3

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form]


@dataclass(frozen=True, slots=True)
class Message:
    """The message."""

    form: Text = Text.JSON
    code: ClassVar[int] = 4

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form]


@dataclass(frozen=True, slots=True)
class RawMessage:
    """The message's bytes in base64, only where they are not UTF-8 (nor redacted).

    It costs nothing after the message, and a look at the message's bytes before it.
    """

    before: bytes
    after: bytes = b""
    form: Text = Text.JSON
    code: ClassVar[int] = 5

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form, self.before, self.after]


@dataclass(frozen=True, slots=True)
class Truncated:
    """How many bytes were left out of the line, only where some were."""

    before: bytes
    after: bytes = b""
    form: Number = Number.DECIMAL
    code: ClassVar[int] = 6

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.form, self.before, self.after]


@dataclass(frozen=True, slots=True)
class Severity:
    """One of these for `trace` … `fatal`, or `absent`."""

    names: Sequence[bytes]
    absent: bytes = b""
    code: ClassVar[int] = 7

    def __post_init__(self) -> None:
        if len(self.names) != len(SEVERITIES):
            raise ValueError(f"severity: got {len(self.names)} names, expected {len(SEVERITIES)}")

    def operands(self) -> Sequence[bytes]:
        """Return what is written for each value of the severity's bits in `marks`."""
        return [self.absent, *self.names, self.absent]


@dataclass(frozen=True, slots=True)
class IoStream:
    """One of these for stdout and stderr, or `absent`."""

    stdout: bytes
    stderr: bytes
    absent: bytes = b""
    code: ClassVar[int] = 8

    def operands(self) -> Sequence[bytes]:
        """Return what is written for each value of the stream's bits in `marks`."""
        return [self.absent, self.stdout, self.stderr, self.absent]


@dataclass(frozen=True, slots=True)
class ParseError:
    """Why a line was not parsed, one of PARSE_ERRORS (ASCII), only where it should have been."""

    before: bytes
    after: bytes = b""
    form: Text = Text.JSON
    code: ClassVar[int] = 9

    def operands(self) -> Sequence[bytes]:
        """Return what is written for each value of the error's bits in `marks`."""
        texts = [self.before + self._text(text) + self.after for text in PARSE_ERRORS]
        return [b"", *texts, *[b""] * (7 - len(texts))]

    def _text(self, text: str) -> bytes:
        encoded = text.encode("ascii")
        return b"\xd9%c%s" % (len(encoded), encoded) if self.form is Text.MSGPACK else encoded


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a JSON or logfmt line says: JSON text, or what `Template.parsed_as` made of it."""

    before: bytes
    after: bytes = b""
    code: ClassVar[int] = 10

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.before, self.after]


@dataclass(frozen=True, slots=True)
class MapHeader:
    """A msgpack `map 16`: `fixed` entries, and one for each fact with a slot that is present.

    Those facts: severity, iostream, message.raw, truncated, parsed, parse_error.
    """

    fixed: int
    code: ClassVar[int] = 11

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.fixed]


@dataclass(frozen=True, slots=True)
class PackedId:
    """The record's id as a msgpack `str 8`: what stands before its offset, and the offset."""

    before: bytes
    """At most 235 bytes: 20 are left for the offset."""
    code: ClassVar[int] = 12

    def __post_init__(self) -> None:
        if len(self.before) > 235:
            raise ValueError(f"id: got {len(self.before)} bytes, expected at most 235")

    def operands(self) -> Operands:
        """Return what encode.c is told."""
        return [self.before]


Slot = (
    Offset
    | Time
    | ReadAt
    | Message
    | RawMessage
    | Truncated
    | Severity
    | IoStream
    | ParseError
    | Parsed
    | MapHeader
    | PackedId
)
Part = bytes | Slot
_LITERAL: Final = 0
_MOST_PARTS: Final = 64
"""What encode.c has room for."""


class Template:
    """A wire form, filled in for one file: made once per file and backend, then only read.

    Attributes:
        parts: what a record is made of; neighbouring literals are one.
        framed: each record is preceded by its length in bytes, decimal, and a space.
            Source: RFC 6587, 3.4.1.
        increasing: the times of a file's records increase: one that stands still or goes back
            by less than a second is moved to a nanosecond after the one before.
        parsed_as: turns the JSON text of `parsed` into what the backend takes.
        program: the parts as numbers for encode.c, pointing into `literals`.
    """

    __slots__ = ("framed", "increasing", "literals", "parsed_as", "parts", "program")

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        framed: bool = False,
        increasing: bool = False,
        parsed_as: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.parts = tuple(join_constants(parts))
        if len(self.parts) > _MOST_PARTS:
            raise ValueError(f"template: got {len(self.parts)} parts, expected {_MOST_PARTS}")
        self.framed = framed
        self.increasing = increasing
        self.parsed_as = parsed_as
        self.program, self.literals = _assemble(self.parts)


_Any = TypeVar("_Any")


def join_constants(parts: Iterable[_Any]) -> list[_Any]:
    """Return the parts with runs of literals (bytes) joined and empty ones left out."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += part
        elif part != b"":
            joined.append(part)
    return joined


def _assemble(parts: Sequence[Part]) -> "tuple[array[int], bytes]":
    program = array("q")
    literals = bytearray()
    for part in parts:
        operands: Operands = [part] if isinstance(part, bytes) else part.operands()
        program.append(_LITERAL if isinstance(part, bytes) else part.code)
        for operand in operands:
            if isinstance(operand, int):
                program.append(operand)
            else:
                program.extend((len(literals), len(operand)))
                literals += operand
    return program, bytes(literals)

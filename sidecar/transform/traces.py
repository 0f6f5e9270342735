r"""Which lines of a block belong to the record before them: traces, and indented lines.

A trace is a record of its own, from its head on; one whose head directly follows a line of
level WARN or above belongs to that line's record, as logging frameworks print it. An indented
line belongs to the record before it, whatever the kind of traces, but where it is a head itself.

What a record is must not depend on the block that it was read in: a block begins where a record
does, so that no rule may look at what stands before that.

All patterns here run over a text in which every line ends with `\n`, from the place where a line
begins; none of them tries anything twice (possessive quantifiers), or a hostile line would cost
the square of its length.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

_MAX_LOOKED_AT: Final = 1024
"""Bytes of a line in which its level is looked for."""

_HIGH: Final = rb"WARN(?:ING)?|ERR(?:OR)?|SEVERE|FATAL|CRIT(?:ICAL)?|ALERT|EMERG(?:ENCY)?|D?PANIC"
_LOW: Final = rb"TRACE|DEBUG|INFO(?:RMATION)?|NOTICE|FINE(?:R|ST)?|CONFIG|VERBOSE"
_LEVEL: Final = re.compile(
    # In capitals a word is a level wherever it stands,
    rb"\b(?:(" + _HIGH + rb")|(?:" + _LOW + rb"))\b"
    # else only as it is set off from a sentence: level=error, [error], "error", error:
    rb"|(?i:=(?:(" + _HIGH + rb")|(?:" + _LOW + rb"))(?![\w=]))"
    rb"|(?i:(?:^|[\s\[<({|:\"'])(?:(" + _HIGH + rb")|(?:" + _LOW + rb"))(?=[\]>)}|:\"',]|$))"
    rb"|^([WEF])\d{4} \d\d:"  # klog's head
    rb"|\b(panic) serving "  # Go's net/http, before the stack of the goroutine
)


def is_high(line: bytes) -> bool:
    """Return whether a line's level is WARN or above: the first level in it counts."""
    match = _LEVEL.search(line[:_MAX_LOOKED_AT])
    return match is not None and any(match.groups())


@dataclass(frozen=True, slots=True)
class Reach:
    """Lines that belong together."""

    stop: int
    """Where the first line behind them begins."""
    is_trace: bool
    """They are a trace from its head on, so a record of their own. Else they belong to the
    record before them, whatever that is."""


class Rules(Protocol):
    """How one kind of trace is recognised."""

    special: "re.Pattern[bytes]"
    """Finds the newline before each line that may begin a trace, or belong to a record before."""
    first_bytes: bytes
    """For each byte whether such a line may begin with it."""

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:
        """Return how far that reaches which begins with the line at `place`; None: nothing does.

        `flush`: no lines will come behind the last one. Else what the lines leave undecided
        reaches to their end.
        """
        ...


def _any(*patterns: bytes) -> bytes:
    return b"(?:" + b"|".join(patterns) + b")"


def _lines_of(*patterns: bytes) -> bytes:
    """Return a pattern for as many lines as begin with one of the patterns."""
    return rb"(?:" + _any(*patterns) + rb"[^\n]*+\n)*+"


def _newline_before(*patterns: bytes) -> "re.Pattern[bytes]":
    return re.compile(rb"\n(?=" + _any(_INDENTED, *patterns) + rb")")


def _byte_set(members: bytes) -> bytes:
    """Return 256 bytes, 1 for a space, a tab and each member."""
    return bytes(byte in members or byte in b" \t" for byte in range(256))


_INDENTED: Final = rb"[ \t]"
_INDENTED_LINES: Final = re.compile(_lines_of(_INDENTED))


def follow(rules: Rules, text: bytes, place: int, *, flush: bool) -> Reach | None:
    """Return how far a trace or indented lines reach that begin with the line at `place`.

    None: it is an ordinary line, a record of its own.
    """
    reach = rules.follow(text, place, flush=flush)
    if reach is None and text[place : place + 1] in {b" ", b"\t"}:
        return Reach(_end_of(_INDENTED_LINES, text, place), is_trace=False)
    return reach


def _end_of(pattern: "re.Pattern[bytes]", text: bytes, place: int) -> int:
    match = pattern.match(text, place)
    return place if match is None else match.end()


class Indented:
    """No traces, only lines that begin with a space or a tab."""

    special = _newline_before()
    first_bytes = _byte_set(b"")

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:  # noqa: ARG002 - Rules
        """Return None."""
        return None


_JAVA_HEADS: Final = (
    rb"Exception in thread \"",
    # Bounded: without it, a hostile line of dots would be kept in memory segment by segment.
    rb"(?:[A-Za-z_$][\w$]*+\.){1,32}+[A-Z][\w$]*(?:Exception|Error|Throwable)(?=:|[ \t]*+\n)",
)
_NAME_BEGINS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_$"
_JAVA_MORE: Final = (rb"[ \t]++(?:at |\.\.\. \d)", rb"[ \t]*+(?:Caused by|Suppressed): ")
"""Parts of a trace even where its head is a part of the line before them."""


class Java:
    """Traces of Java, Kotlin and Scala: frames, causes, suppressed ones.

    Inside of a trace all that is indented belongs to it.
    """

    special = _newline_before(*_JAVA_HEADS, *_JAVA_MORE)
    first_bytes = _byte_set(_NAME_BEGINS)
    _heads: ClassVar[Sequence[bytes]] = _JAVA_HEADS

    def __init__(self) -> None:
        self._head = re.compile(_any(*self._heads) + rb"[^\n]*+\n")
        self._more = re.compile(_any(*_JAVA_MORE))
        self._lines = re.compile(_lines_of(_INDENTED, *_JAVA_MORE))

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:  # noqa: ARG002 - Rules
        """Return how far a trace reaches."""
        head = self._head.match(text, place)
        if head is not None:
            return Reach(_end_of(self._lines, text, head.end()), is_trace=True)
        if self._more.match(text, place):
            return Reach(_end_of(self._lines, text, place), is_trace=False)
        return None


_TRACEBACK: Final = rb"Traceback \(most recent call last\):"
_PYTHON_GROUP: Final = rb"[ \t]++\+ Exception Group " + _TRACEBACK
_PYTHON_HEAD: Final = _any(rb"[ \t|+]*+" + _TRACEBACK, _PYTHON_GROUP)
_PYTHON_INSIDE: Final = rb"(?!" + _PYTHON_GROUP + rb")" + _INDENTED
_PYTHON_LINK: Final = _any(
    rb"During handling of the above exception, another exception occurred:",
    rb"The above exception was the direct cause of the following exception:",
)


class Python:
    """Python's tracebacks: frames, the exception's line, those it was chained to, groups."""

    special = _newline_before(_PYTHON_HEAD)
    first_bytes = _byte_set(b"T|+")
    _group = re.compile(_PYTHON_GROUP + rb"[^\n]*+\n" + _lines_of(_PYTHON_INSIDE))
    _single = re.compile(
        _PYTHON_HEAD
        + rb"[^\n]*+\n"
        + _lines_of(_PYTHON_INSIDE)
        # The exception's line, and those of a long message.
        + rb"(?:(?:[A-Za-z_]\w*+\.){0,32}+[A-Za-z_]\w*+(?:: [^\n]*+|:?)\n"
        + _lines_of(_PYTHON_INSIDE)
        + rb")?+"
    )
    _link = re.compile(rb"\n" + _PYTHON_LINK + rb"\n\n(?=" + _PYTHON_HEAD + rb")")
    _link_so_far = re.compile(rb"(?:\n(?:" + _PYTHON_LINK + rb"\n(?:\n)?+)?+)?+\Z")

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:
        """Return how far a traceback reaches, with those that are chained to it."""
        stop = self._traceback(text, place)
        if stop == place:
            return None
        while (link := self._link.match(text, stop)) is not None:
            stop = self._traceback(text, link.end())
        if not flush and self._link_so_far.match(text, stop):
            stop = len(text)
        return Reach(stop, is_trace=True)

    def _traceback(self, text: bytes, place: int) -> int:
        # The exceptions of a group are indented, too: behind them comes no other line.
        return (
            _end_of(self._group, text, place)
            if self._group.match(text, place)
            else _end_of(self._single, text, place)
        )


_GO_FIRST: Final = (
    rb"fatal error: ",
    rb"runtime: ",
    rb"unexpected fault address ",
    rb"SIG[A-Z]++: ",
)
"""`runtime: goroutine stack exceeds …` comes before its `fatal error: `; behind the stacks that
is another trace."""
_GO_HEADS: Final = (rb"panic: ", *_GO_FIRST, rb"goroutine \d++ ")
_GO_MORE: Final = (
    rb"goroutine \d++ ",
    rb"\t",
    rb"\[(?:signal|originating) ",
    rb"created by ",
    rb"exit status \d++\n",
    rb"runtime stack:\n",
    rb"PC=0x",
    rb"\.\.\.[\w ]*?frames elided",
    rb"[a-z][a-z0-9]{1,5}+ ++0x[0-9a-f]++\n",  # a register
    rb"[^\s(][^\s(]*+\([^\n]*\)\n",  # a function with its arguments
)


class Go:
    """Go's panics and fatal errors, with all goroutines, and `go run`'s `exit status`.

    Empty lines are in a trace if more of it comes behind them.
    """

    special = _newline_before(*_GO_HEADS)
    first_bytes = _byte_set(b"pfruSg")
    _trace = re.compile(
        _any(*_GO_HEADS)
        + rb"[^\n]*+\n"
        + _lines_of(*_GO_FIRST)
        + rb"(?:\n*+(?="
        + _any(*_GO_MORE)
        + rb")[^\n]*+\n)*+"
    )
    _empty_lines = re.compile(rb"\n*+\Z")

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:
        """Return how far a panic reaches."""
        stop = _end_of(self._trace, text, place)
        if stop == place:
            return None
        if not flush and self._empty_lines.match(text, stop):
            stop = len(text)
        return Reach(stop, is_trace=True)


_OTHER_HEAD: Final = rb"(?:Uncaught )?+(?:[A-Z][\w$]*)?(?:Exception|Error)(?=: |:?\n)"
"""Of JavaScript's traces, and of exceptions without a package."""


class Auto(Java):
    """All of these."""

    special = _newline_before(*_JAVA_HEADS, *_JAVA_MORE, _PYTHON_HEAD, *_GO_HEADS, _OTHER_HEAD)
    first_bytes = _byte_set(_NAME_BEGINS + b"|+")
    _heads = (*_JAVA_HEADS, _OTHER_HEAD)

    def __init__(self) -> None:
        super().__init__()
        self._others: Sequence[Rules] = (Python(), Go())

    def follow(self, text: bytes, place: int, *, flush: bool) -> Reach | None:
        """Return how far a trace of any kind reaches."""
        for rules in self._others:
            if (reach := rules.follow(text, place, flush=flush)) is not None:
                return reach
        return super().follow(text, place, flush=flush)


RULES: Final[dict[str, Callable[[], Rules]]] = {
    "indented": Indented,
    "java": Java,
    "python": Python,
    "go": Go,
    "auto": Auto,
}
"""By the names that `multiline` has for them."""

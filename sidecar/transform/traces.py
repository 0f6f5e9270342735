"""Which lines of a block belong to the record before them: traces, and indented lines.

A trace is a record of its own, from its head on; one whose head directly follows a line of
level WARN or above belongs to that line's record, as logging frameworks print it. An indented
line belongs to the record before it, whatever the kind of traces, but where it is a head itself.

What a record is must not depend on the block that it was read in: a block begins where a record
does, so that no rule may look at what stands before that.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

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


class Lines(Protocol):
    """The lines of one stream, by number."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, row: int, /) -> bytes:
        """Return a line without its end."""
        ...


@dataclass(frozen=True, slots=True)
class Reach:
    """Lines that belong together."""

    stop: int
    """Number of the first line behind them."""
    is_trace: bool
    """They are a trace from its head on, so a record of their own. Else they belong to the
    record before them, whatever that is."""


class Rules(Protocol):
    """How one kind of trace is recognised."""

    special: "re.Pattern[bytes]"
    """Finds the newline before each line that may begin a trace, or belong to a record before."""

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:
        """Return how far that reaches which begins with line `row`; None: nothing does.

        `flush`: no lines will come behind the last one. Else what the lines leave undecided
        reaches to their end.
        """
        ...


_INDENTED: Final = rb"[ \t]"


def _starts(*patterns: bytes) -> "re.Pattern[bytes]":
    return re.compile(b"|".join(patterns), re.MULTILINE)


def _newline_before(*patterns: bytes) -> "re.Pattern[bytes]":
    return re.compile(rb"\n(?=" + b"|".join((_INDENTED, *patterns)) + rb")", re.MULTILINE)


def is_indented(line: bytes) -> bool:
    """Return whether a line begins with a space or a tab."""
    return line[:1] in {b" ", b"\t"}


def _while(belongs: Callable[[bytes], bool], lines: Lines, row: int) -> int:
    """Return the number of the first line from `row` on that does not belong."""
    while row < len(lines) and belongs(lines[row]):
        row += 1
    return row


class Indented:
    """No traces, only lines that begin with a space or a tab."""

    special = _newline_before()

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:  # noqa: ARG002 - Rules
        """Return None."""
        return None


def follow(rules: Rules, lines: Lines, row: int, *, flush: bool) -> Reach | None:
    """Return how far a trace or indented lines reach that begin with line `row`.

    None: it is an ordinary line, a record of its own.
    """
    reach = rules.follow(lines, row, flush=flush)
    if reach is None and is_indented(lines[row]):
        return Reach(_while(is_indented, lines, row), is_trace=False)
    return reach


_JAVA_HEADS: Final = (
    rb"Exception in thread \"",
    # Bounded: without it, a hostile line of dots would be kept in memory segment by segment.
    rb"(?:[A-Za-z_$][\w$]*\.){1,32}[A-Z][\w$]*(?:Exception|Error|Throwable)(?=:|\s*$)",
)
_JAVA_MORE: Final = (rb"[ \t]+at ", rb"[ \t]+\.\.\. \d", rb"[ \t]*(?:Caused by|Suppressed): ")
"""Parts of a trace even where its head is a part of the line before them."""


class Java:
    """Traces of Java, Kotlin and Scala: frames, causes, suppressed ones."""

    special = _newline_before(*_JAVA_HEADS, *_JAVA_MORE)
    _head = _starts(*_JAVA_HEADS)
    _more = _starts(*_JAVA_MORE)

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:  # noqa: ARG002 - Rules
        """Return how far a trace reaches: inside of one, all that is indented belongs to it."""
        is_trace = self._head.match(lines[row]) is not None
        if not is_trace and not self._more.match(lines[row]):
            return None
        return Reach(_while(self._belongs, lines, row + 1), is_trace)

    def _belongs(self, line: bytes) -> bool:
        return is_indented(line) or self._more.match(line) is not None


_PYTHON_GROUP: Final = rb"[ \t]+\+ Exception Group Traceback \(most recent call last\):"
_PYTHON_HEAD: Final = rb"(?:[ \t|+]*Traceback \(most recent call last\):|" + _PYTHON_GROUP + rb")"
_PYTHON_LINKS: Final = (
    rb"During handling of the above exception, another exception occurred:$",
    rb"The above exception was the direct cause of the following exception:$",
)


class Python:
    """Python's tracebacks: frames, the exception's line, those it was chained to, groups."""

    special = _newline_before(_PYTHON_HEAD)
    _head = _starts(_PYTHON_HEAD)
    _group = _starts(_PYTHON_GROUP)
    _link = (_starts(rb"$"), _starts(*_PYTHON_LINKS), _starts(rb"$"), _head)
    _exception = _starts(rb"(?:[A-Za-z_]\w*\.){0,32}[A-Za-z_]\w*(?:: |:?$)")

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:
        """Return how far a traceback reaches, with those that are chained to it."""
        if not self._head.match(lines[row]):
            return None
        stop = self._traceback(lines, row)
        while (further := self._chained(lines, stop, flush=flush)) > stop:
            stop = further
        return Reach(stop, is_trace=True)

    def _traceback(self, lines: Lines, row: int) -> int:
        stop = _while(self._is_inside, lines, row + 1)
        is_group = self._group.match(lines[row])  # its exceptions are indented, too
        if is_group or stop == len(lines) or not self._exception.match(lines[stop]):
            return stop
        return _while(self._is_inside, lines, stop + 1)  # the lines of a long message

    def _is_inside(self, line: bytes) -> bool:
        return is_indented(line) and not self._group.match(line)

    def _chained(self, lines: Lines, row: int, *, flush: bool) -> int:
        """Return how far a traceback reaches that is linked to one that ends before `row`."""
        for place, pattern in enumerate(self._link, row):
            if place == len(lines):
                return row if flush else place
            if not pattern.match(lines[place]):
                return row
        return self._traceback(lines, row + len(self._link) - 1)


_GO_FIRST: Final = (
    rb"fatal error: ",
    rb"runtime: ",
    rb"unexpected fault address ",
    rb"SIG[A-Z]+: ",
)
_GO_HEADS: Final = (rb"panic: ", *_GO_FIRST, rb"goroutine \d+ ")
_GO_MORE: Final = (
    rb"goroutine \d+ ",
    rb"\t",
    rb"\[(?:signal|originating) ",
    rb"created by ",
    rb"exit status \d+$",
    rb"runtime stack:$",
    rb"PC=0x",
    rb"\.\.\.[\w ]*frames elided",
    rb"[a-z][a-z0-9]{1,5} +0x[0-9a-f]+$",  # a register
    rb"[^\s(][^\s(]*+\(.*\)$",  # a function with its arguments
)


class Go:
    """Go's panics and fatal errors, with all goroutines, and `go run`'s `exit status`."""

    special = _newline_before(*_GO_HEADS)
    _head = _starts(*_GO_HEADS)
    _first = _starts(*_GO_FIRST)
    _more = _starts(*_GO_MORE)

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:
        """Return how far a panic reaches: empty lines are in it if more of it comes behind."""
        if not self._head.match(lines[row]):
            return None
        # `runtime: goroutine stack exceeds …` comes before its `fatal error: `; behind the
        # stacks that is another one.
        stop = _while(lambda line: self._first.match(line) is not None, lines, row + 1) - 1
        while True:
            stop = _while(self._belongs, lines, stop + 1)
            behind = _while(_is_empty, lines, stop)
            if behind == len(lines):
                return Reach(stop if flush else behind, is_trace=True)
            if behind == stop or not self._belongs(lines[behind]):
                return Reach(stop, is_trace=True)
            stop = behind

    def _belongs(self, line: bytes) -> bool:
        return self._more.match(line) is not None


def _is_empty(line: bytes) -> bool:
    return line == b""


_OTHER_HEAD: Final = rb"(?:Uncaught )?(?:[A-Z][\w$]*)?(?:Exception|Error)(?=: |:?$)"
"""Of JavaScript's traces, and of exceptions without a package."""


class Auto:
    """All of these."""

    special = _newline_before(*_JAVA_HEADS, *_JAVA_MORE, _PYTHON_HEAD, *_GO_HEADS, _OTHER_HEAD)
    _head = _starts(_OTHER_HEAD, *_JAVA_HEADS)
    _more = _starts(*_JAVA_MORE)

    def __init__(self) -> None:
        self._others: Sequence[Rules] = (Python(), Go())

    def follow(self, lines: Lines, row: int, *, flush: bool) -> Reach | None:
        """Return how far a trace of any kind reaches."""
        for rules in self._others:
            if (reach := rules.follow(lines, row, flush=flush)) is not None:
                return reach
        is_trace = self._head.match(lines[row]) is not None
        if not is_trace and not self._more.match(lines[row]):
            return None
        return Reach(_while(self._belongs, lines, row + 1), is_trace)

    def _belongs(self, line: bytes) -> bool:
        return is_indented(line) or self._more.match(line) is not None


RULES: Final[dict[str, Callable[[], Rules]]] = {
    "indented": Indented,
    "java": Java,
    "python": Python,
    "go": Go,
    "auto": Auto,
}
"""By the names that `multiline` has for them."""

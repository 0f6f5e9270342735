"""Makes of a pattern's tree a graph over the bytes of UTF-8: which byte may follow which.

A node takes one byte of a set, or none: then it is a choice, or a look at the place. It is
built from the end to the begin, so that a part is built when what follows it is known. Read
backwards a pattern gives the graph that takes its matches from their last byte to the first.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

from sidecar.transform.regex_tree import (
    MAX_CODE_POINT,
    Characters,
    Choice,
    Look,
    Node,
    Parts,
    Ranges,
    Repeat,
)

MATCH: Final = 0
"""The node at which a match is complete."""
MAX_STEPS: Final = 4096
"""Of building: a count repeats a part, and counts may stand in each other."""
MAX_VISITS: Final = 40_000
"""Of nodes, when it is asked what they lead to."""

ByteSet = int
"""256 bits, the lowest for byte 0."""

_ASCII: Final = 0x7F
_CONTINUATION: Final = (0x80, 0xBF)
_NOT_ASCII: Final = tuple(
    (lead, *[_CONTINUATION] * behind)
    for behind, lead in enumerate([(0xC2, 0xDF), (0xE0, 0xEF), (0xF0, 0xF4)], start=1)
)
"""All other characters, in text that is known to be UTF-8."""


class Kind(IntEnum):
    """What is next to a place, as far as a look asks."""

    EDGE = auto()
    """Nothing: the text begins or ends here."""
    NEWLINE = auto()
    WORD = auto()
    OTHER = auto()


class TooLargeError(Exception):
    """The pattern is more than is built here."""


@dataclass(slots=True)
class _Place:
    byte_set: ByteSet = 0
    targets: Sequence[int] = ()
    """Nodes that follow, the preferred one first."""
    look: Look | None = None


class Graph:
    """The nodes of one pattern; `start` is the first."""

    def __init__(self, tree: Node, *, backwards: bool) -> None:
        """Build it.

        Raises:
            TooLargeError: it would take more than MAX_STEPS.
        """
        self._backwards = backwards
        self._steps = 0
        self._visits = 0
        self._places = [_Place()]
        self._taking: dict[tuple[ByteSet, int], int] = {}
        self.start = self._build(tree, MATCH)
        self.looks = {place.look for place in self._places if place.look is not None}

    def byte_sets(self) -> set[ByteSet]:
        """Return what nodes take."""
        return {place.byte_set for place in self._places if place.byte_set}

    def byte_set(self, node: int) -> ByteSet:
        """Return what a node takes; 0 for MATCH."""
        return self._places[node].byte_set

    def target(self, node: int) -> int:
        """Return what follows a node that takes a byte."""
        return self._places[node].targets[0]

    def reached(self, first: int, before: Kind, behind: Kind) -> list[int]:
        """Return the nodes that take a byte, and MATCH, that `first` leads to without one.

        They come in the order in which they are preferred. Before and behind are as the text is
        read, which is from its end to its begin where the graph is.

        Raises:
            TooLargeError: so much was asked before that this would be more than MAX_VISITS.
        """
        found, seen, waiting = [], set[int](), [first]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            place = self._places[node]
            if node == MATCH or place.byte_set:
                found.append(node)
            elif place.look is None or _holds(place.look, before, behind):
                waiting += reversed(place.targets)
        self._visits += len(seen)
        if self._visits > MAX_VISITS:
            raise TooLargeError
        return found

    def _build(self, tree: Node, follow: int) -> int:
        """Return the node that leads through `tree` to `follow`."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooLargeError
        match tree:
            case Characters():
                return self._characters(tree.ranges, follow)
            case Look():
                look = _BACKWARDS.get(tree, tree) if self._backwards else tree
                return self._add(_Place(targets=(follow,), look=look))
            case Choice():
                return self._choice([self._build(option, follow) for option in tree.options])
            case Parts():
                for part in tree.parts if self._backwards else reversed(tree.parts):
                    follow = self._build(part, follow)
                return follow
            case Repeat():
                return self._repeat(tree, follow)

    def _repeat(self, repeat: Repeat, follow: int) -> int:
        again = repeat.least
        if repeat.most is None:
            follow = self._loop(repeat, follow)
            again -= 1
        else:
            out = follow
            for _ in range(repeat.most - repeat.least):
                follow = self._once_or(self._build(repeat.part, follow), out, repeat)
        for _ in range(again):
            follow = self._build(repeat.part, follow)
        return follow

    def _loop(self, repeat: Repeat, follow: int) -> int:
        """Return the node of `part+`, or of `(part+)?` for `part*`, which RE2 makes of it."""
        loop = self._add(_Place())
        part = self._build(repeat.part, loop)
        self._places[loop].targets = self._preferred(part, follow, repeat)
        return part if repeat.least else self._once_or(part, follow, repeat)

    def _once_or(self, part: int, out: int, repeat: Repeat) -> int:
        return self._choice(self._preferred(part, out, repeat))

    @staticmethod
    def _preferred(part: int, out: int, repeat: Repeat) -> Sequence[int]:
        return (out, part) if repeat.is_lazy else (part, out)

    def _choice(self, targets: Sequence[int]) -> int:
        return targets[0] if len(targets) == 1 else self._add(_Place(targets=targets))

    def _characters(self, ranges: Ranges, follow: int) -> int:
        targets = []
        ascii_set = as_set(first_last for first_last in _ascii_part(ranges))
        if ascii_set:
            targets.append(self._take(ascii_set, follow))
        for encoding in _encodings(ranges):
            target = follow
            for first_last in encoding if self._backwards else reversed(encoding):
                target = self._take(as_set([first_last]), target)
            targets.append(target)
        # None where the set is empty: then nothing leads on.
        return self._choice(list(dict.fromkeys(targets)))

    def _take(self, byte_set: ByteSet, target: int) -> int:
        key = (byte_set, target)
        if key not in self._taking:
            self._taking[key] = self._add(_Place(byte_set, (target,)))
        return self._taking[key]

    def _add(self, place: _Place) -> int:
        self._places.append(place)
        return len(self._places) - 1


_BACKWARDS: Final = {
    Look.TEXT_BEGIN: Look.TEXT_END,
    Look.TEXT_END: Look.TEXT_BEGIN,
    Look.LINE_BEGIN: Look.LINE_END,
    Look.LINE_END: Look.LINE_BEGIN,
}


def _holds(look: Look, before: Kind, behind: Kind) -> bool:
    match look:
        case Look.TEXT_BEGIN:
            return before is Kind.EDGE
        case Look.TEXT_END:
            return behind is Kind.EDGE
        case Look.LINE_BEGIN:
            return before in {Kind.EDGE, Kind.NEWLINE}
        case Look.LINE_END:
            return behind in {Kind.EDGE, Kind.NEWLINE}
        case Look.WORD_EDGE:
            return (before is Kind.WORD) != (behind is Kind.WORD)
        case Look.NO_WORD_EDGE:
            return (before is Kind.WORD) == (behind is Kind.WORD)


def as_set(ranges: Iterable[tuple[int, int]]) -> ByteSet:
    """Return ranges of bytes as a set."""
    byte_set = 0
    for first, last in ranges:
        byte_set |= (1 << last + 1) - (1 << first)
    return byte_set


def _ascii_part(ranges: Ranges) -> Iterator[tuple[int, int]]:
    return ((first, min(last, _ASCII)) for first, last in ranges if first <= _ASCII)


def _encodings(ranges: Ranges) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield ranges of bytes, one after the other, that spell the characters beyond ASCII."""
    for first, last in ranges:
        if last > _ASCII:
            yield from _split(max(first, _ASCII + 1), last)


def _split(first: int, last: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield sequences of ranges of bytes; in each, any byte may follow any other."""
    if (first, last) == (_ASCII + 1, MAX_CODE_POINT):
        yield from _NOT_ASCII
        return
    end = _first_end(first, last)
    if end == last:
        yield tuple(zip(_utf8(first), _utf8(last), strict=True))
        return
    yield from _split(first, end)
    yield from _split(end + 1, last)


def _first_end(first: int, last: int) -> int:
    """Return where to cut, so that in the end each byte of an encoding is free of the others."""
    for longest in (0x7FF, 0xFFFF):
        if first <= longest < last:
            return longest
    for mask in (0x3F, 0xFFF, 0x3FFFF):
        if first | mask >= last:
            break
        if first & mask:
            return first | mask
        if last & mask != mask:
            return (last & ~mask) - 1
    return last


def _utf8(code_point: int) -> bytes:
    return chr(code_point).encode("utf-8", "surrogatepass")

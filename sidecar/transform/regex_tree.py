"""What a pattern matches, as a tree of characters, parts, choices and repetitions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MAX_CODE_POINT: Final = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]
"""Code points, (first, last), ascending, with others between them."""


class Look(Enum):
    """What a place must be, without a character of its own."""

    TEXT_BEGIN = auto()
    TEXT_END = auto()
    LINE_BEGIN = auto()
    LINE_END = auto()
    WORD_EDGE = auto()
    NO_WORD_EDGE = auto()


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Parts:
    """One part after the other."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several, the first that leads to a match."""

    options: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part several times."""

    part: "Node"
    least: int
    most: int | None
    """None: as often as there is more."""
    is_lazy: bool
    """As seldom as leads to a match, else as often."""


Node = Characters | Parts | Choice | Repeat | Look


def normal(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges in order, joined where they touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def others(ranges: Ranges) -> Ranges:
    """Return all code points but these."""
    edges = [-1, *(edge for one in ranges for edge in one), MAX_CODE_POINT + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((last + 1, first - 1) for last, first in gaps if last + 1 < first)


def looks_in(tree: Node) -> Iterator[Look]:
    """Yield all looks of a tree."""
    match tree:
        case Look():
            yield tree
        case Parts(parts=inner) | Choice(options=inner):
            for each in inner:
                yield from looks_in(each)
        case Repeat():
            yield from looks_in(tree.part)
        case Characters():
            pass

"""Makes of a pattern a table that C runs over messages, one step a byte: see automaton.c.

A state is the set of nodes of the graph that may come next. A look asks what is on both sides of
a place, so that a state also says what kind of byte came last, and a match is known one byte
after its end: the state that this byte leads to is marked `matched`.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from typing import Final, NamedTuple

from sidecar.transform.graph import MATCH, ByteSet, Graph, Kind, TooLargeError
from sidecar.transform.regex_tree import (
    Characters,
    Choice,
    Look,
    Node,
    Parts,
    Repeat,
)

MAX_CELLS: Final = 32 * 1024
"""Of a table, two bytes each. A state's row begins at a number that 16 bits can hold."""
MAX_STATES: Final = 1024
MAX_STEPS: Final = 40_000
"""Of making a table: some 20 ms."""

_ALL_BYTES: Final = (1 << 256) - 1
_WORD_BYTES: Final = sum(
    1 << byte for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
)
_NEWLINE_BYTE: Final = 1 << ord("\n")
_PRINTABLE: Final = range(0x20, 0x7F)
_MAX_LEAVING: Final = 16


class Search(Enum):
    """What a table is to find."""

    ANYWHERE = auto()
    """Whether there is a match at all: nothing is read behind the first end of one."""
    END = auto()
    """Where the first match ends, of those that begin there the one that RE2 prefers."""
    BEGIN = auto()
    """Reading back from where it ends: where it begins, which is as far away as can be."""


@dataclass(frozen=True, slots=True)
class Table:
    """What `struct automaton` in automaton.c points to."""

    cells: "array[int]"
    """A row for each state: a cell for each class of bytes, one for the text's end. A cell holds
    where the next state's row begins. The row at 0 leads nowhere."""
    classes: bytes
    """The class of each byte."""
    entries: "array[int]"
    """Where to begin behind each byte, and where nothing is before."""
    matched: int
    """Rows from here on say that a match has ended before the last byte."""
    idle: int
    """The row in which nothing has begun; -1 where it is hardly ever stayed in."""
    stays: bytes
    """1 for each byte that leads from there to there."""

    @property
    def end(self) -> int:
        """The class of the text's end."""
        return max(self.classes) + 1

    @property
    def reads_all(self) -> bool:
        """Whether bytes beyond ASCII mean anything to the pattern: then they must be UTF-8."""
        return len(set(self.classes[0x80:])) > 1


def make_table(tree: Node, search: Search) -> Table:
    """Return the table of a pattern.

    Raises:
        TooLargeError: it would be too large, or take too long to make.
    """
    if search is Search.ANYWHERE:
        tree = _without_more(_without_more(tree, at=0), at=-1)
    graph = Graph(tree, backwards=search is Search.BEGIN)
    return _Maker(graph, search).table()


def _without_more(tree: Node, *, at: int) -> Node:
    """Return a tree that repeats what comes first (0) or last (-1) only as often as it must.

    Nobody asks how far a match goes there, and counts that overlap make very large tables.
    """
    match tree:
        case Parts() if tree.parts:
            parts = list(tree.parts)
            parts[at] = _without_more(parts[at], at=at)
            return Parts(tuple(parts))
        case Choice():
            return Choice(tuple(_without_more(option, at=at) for option in tree.options))
        case Repeat():
            return Repeat(tree.part, tree.least, tree.least, is_lazy=tree.is_lazy)
        case _:
            return tree


def needed_text(tree: Node) -> bytes:
    """Return a text that stands in every match; empty where none is known."""
    runs = _literals(tree.parts if isinstance(tree, Parts) else [tree])
    return max(runs, key=len, default=b"")


def first_text(tree: Node) -> bytes:
    """Return a text that every match begins with; empty where none is known."""
    parts = tree.parts if isinstance(tree, Parts) else [tree]
    return next(_literals(part for part in parts if not isinstance(part, Look)))


def is_literal(tree: Node) -> bool:
    """Return whether a pattern is nothing but its needed text."""
    parts = tree.parts if isinstance(tree, Parts) else [tree]
    return all(_literal(part) is not None for part in parts)


def _literals(parts: Iterable[Node]) -> Iterator[bytes]:
    run = b""
    for part in parts:
        literal = _literal(part)
        if literal is None:
            yield run
        run = b"" if literal is None else run + literal
    yield run


def _literal(part: Node) -> bytes | None:
    if isinstance(part, Parts) and is_literal(part):
        return b"".join(_literals(part.parts))
    if not isinstance(part, Characters) or len(part.ranges) != 1:
        return None
    [(first, last)] = part.ranges
    return chr(first).encode("utf-8", "surrogatepass") if first == last else None


class _State(NamedTuple):
    targets: tuple[int, ...]
    """Nodes that may come next, the preferred one first; in order where none is preferred."""
    before: Kind
    """Of the byte that came last."""
    begins: bool = False
    """Whether a match may begin here too; it is less preferred than what has begun."""
    matched: bool = False


class _Maker:
    def __init__(self, graph: Graph, search: Search) -> None:
        self._graph = graph
        self._search = search
        self._steps = 0
        self._kinds = dict(_kinds(graph.looks))
        parts = _parted([*graph.byte_sets(), *self._kinds.values()])
        self._kind_of_class = [self._kind(part) for part in parts]
        self._classes = bytes(
            next(number for number, part in enumerate(parts) if part >> byte & 1)
            for byte in range(256)
        )
        self._classes_of = {
            (byte_set, kind): [
                number
                for number, part in enumerate(parts)
                if part & byte_set and self._kind_of_class[number] is kind
            ]
            for byte_set in graph.byte_sets()
            for kind in self._kinds
        }
        self._may_begin_later = search is not Search.BEGIN and self._begins_behind_bytes()
        self._reached: dict[tuple[int, Kind, Kind], list[int]] = {}
        self._numbers: dict[_State, int] = {}
        self._states: list[_State] = []

    def table(self) -> Table:
        """Make the table."""
        self._number(_State((), Kind.OTHER))
        entries = {before: self._entry(before) for before in (*self._kinds, Kind.EDGE)}
        rows: list[list[int]] = []
        while len(rows) < len(self._states):  # it grows while there are new ones
            rows.append(self._row(self._states[len(rows)]))
        return self._packed(rows, entries)

    def _entry(self, before: Kind) -> int:
        start = (self._graph.start,)
        seen = before if self._graph.looks else Kind.OTHER
        if self._may_begin_later:
            # Here it begins as anywhere else, so that this is `idle`.
            return self._number(_State((), seen, begins=True))
        return self._number(_State(start, seen))

    def _packed(self, rows: list[list[int]], entries: dict[Kind, int]) -> Table:
        order = sorted(range(len(rows)), key=lambda number: self._states[number].matched)
        width = len(rows[0])
        places = [0] * len(rows)
        for place, number in enumerate(order):
            places[number] = place * width
        cells = array("H", [places[next_] for number in order for next_ in rows[number]])
        kinds = [self._kind_of_class[number] for number in self._classes]
        idle = self._numbers.get(_State((), Kind.OTHER, begins=True), 0)
        stays = bytes(rows[idle][number] == idle for number in self._classes)
        is_left = sum(not stays[byte] for byte in _PRINTABLE)
        return Table(
            cells=cells,
            classes=self._classes,
            entries=array("H", [places[entries[kind]] for kind in [*kinds, Kind.EDGE]]),
            matched=width * sum(not state.matched for state in self._states),
            idle=places[idle] if idle and is_left <= _MAX_LEAVING else -1,
            stays=stays,
        )

    def _row(self, state: _State) -> list[int]:
        """Return the next state for each class of bytes, and for the text's end."""
        moves: list[dict[int, None]] = [{} for _ in self._kind_of_class]
        matched = {kind: self._move(state, kind, moves) for kind in (*self._kinds, Kind.EDGE)}
        self._steps += sum(map(len, moves))
        if self._steps > MAX_STEPS:
            raise TooLargeError
        nexts = zip(self._kind_of_class, moves, strict=True)
        row = [self._next(state, list(targets), kind, is_=matched[kind]) for kind, targets in nexts]
        row.append(self._number(_State((), Kind.OTHER, matched=matched[Kind.EDGE])))
        return row

    def _move(self, state: _State, behind: Kind, moves: list[dict[int, None]]) -> bool:
        """Put what follows bytes of one kind into `moves`; return whether a match ends here."""
        matched = False
        for node in self._merged(state, behind):
            if node == MATCH:
                matched = True
                if self._search is Search.END:
                    break  # the other ways are not preferred
                continue
            for number in self._classes_of.get((self._graph.byte_set(node), behind), ()):
                moves[number][self._graph.target(node)] = None
        return matched

    def _next(self, state: _State, targets: list[int], kind: Kind, *, is_: bool) -> int:
        if is_ and self._search is Search.ANYWHERE:
            return self._number(_State((), Kind.OTHER, matched=True))
        begins = state.begins and not is_
        if self._search is not Search.END:
            targets.sort()
        if not targets and not begins:
            kind = Kind.OTHER
        return self._number(_State(tuple(targets), kind, begins, is_))

    def _merged(self, state: _State, behind: Kind) -> Iterable[int]:
        targets = (*state.targets, self._graph.start) if state.begins else state.targets
        ways = [self._reach(node, state.before, behind) for node in targets]
        self._steps += sum(map(len, ways))
        return dict.fromkeys(chain.from_iterable(ways))

    def _reach(self, node: int, before: Kind, behind: Kind) -> list[int]:
        key = (node, before, behind)
        if key not in self._reached:
            self._reached[key] = self._graph.reached(*key)
        return self._reached[key]

    def _number(self, state: _State) -> int:
        if state not in self._numbers:
            count, width = len(self._states), len(self._kind_of_class) + 1
            if count == MAX_STATES or (count + 1) * width > MAX_CELLS:
                raise TooLargeError
            self._numbers[state] = count
            self._states.append(state)
        return self._numbers[state]

    def _begins_behind_bytes(self) -> bool:
        start, behinds = self._graph.start, [*self._kinds, Kind.EDGE]
        return any(
            self._graph.reached(start, before, behind)
            for before in self._kinds
            for behind in behinds
        )

    def _kind(self, part: ByteSet) -> Kind:
        return next(kind for kind, byte_set in self._kinds.items() if part & byte_set)


def _kinds(looks: set[Look]) -> Iterator[tuple[Kind, ByteSet]]:
    """Yield the kinds of bytes that looks tell apart, and their bytes."""
    rest = _ALL_BYTES
    if looks & {Look.LINE_BEGIN, Look.LINE_END}:
        rest ^= _NEWLINE_BYTE
        yield Kind.NEWLINE, _NEWLINE_BYTE
    if looks & {Look.WORD_EDGE, Look.NO_WORD_EDGE}:
        rest ^= _WORD_BYTES
        yield Kind.WORD, _WORD_BYTES
    yield Kind.OTHER, rest


def _parted(byte_sets: Iterable[ByteSet]) -> list[ByteSet]:
    """Return the parts of all bytes that no set tells apart."""
    parts = [_ALL_BYTES]
    for byte_set in byte_sets:
        halves = [(part & byte_set, part & ~byte_set) for part in parts]
        parts = [half for pair in halves for half in pair if half]
    return parts

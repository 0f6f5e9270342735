"""The one dialect of globs, of `sources[].path` and `exclude`: see docs/globs.md.

In: a pattern. Out: matchers that work folder by folder, so that only folders are opened into
which the pattern can reach. Names are text as `os.fsdecode` gives it: any bytes have a place.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MAX_DEPTH = 8
"""Folders between a pattern's fixed folder and a file."""
MAX_ALTERNATIVES = 256
"""Patterns that the braces of one may stand for."""
MAX_WILDCARDS = 64
"""`*`, `?` and classes in one pattern."""
MAX_LENGTH = 4096
DEEP = "**"
"""As a whole segment: none or more folders."""

_CLASS = re.compile(r"\[!?\]?[^\]/]*\]")
_WILD = re.compile(r"[*?\[]")

States = tuple[int, ...]
"""Of one pattern: the segments that may match the next name, in rising order."""


class GlobError(ValueError):
    """A pattern that is not of the dialect; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern without braces."""

    folder: str
    """The fixed folder: what stands before the first segment with a wildcard, or the file."""
    segments: tuple[str, ...]
    """The rest, at least one."""

    def start(self) -> States:
        """Return the states inside the fixed folder."""
        return _spread(self.segments, {0})

    def enter(self, states: States, name: str) -> States:
        """Return the states inside the folder `name`; none if no file in there can match."""
        after = set()
        for state in states:
            segment = self.segments[state]
            if segment == DEEP:
                if not name.startswith("."):
                    after.add(state)
            elif state + 1 < len(self.segments) and segment_matches(segment, name):
                after.add(state + 1)
        return _spread(self.segments, after)

    def matches(self, states: States, name: str) -> bool:
        """Return whether a file of this name matches in these states."""
        last = len(self.segments) - 1
        return last in states and segment_matches(self.segments[last], name)


@dataclass(frozen=True, slots=True)
class Exclude:
    """The patterns of names to leave out; unlike a path's, their wildcards match hidden names."""

    names: tuple[re.Pattern[str], ...]
    paths: tuple[tuple[str, ...], ...]

    def matches(self, shown_path: str, name: str) -> bool:
        """Return whether a file is left out, by its base name or by the path as it is shown."""
        if any(pattern.match(name) for pattern in self.names):
            return True
        parts = shown_path.strip("/").split("/") if self.paths else ()
        return any(_path_matches(pattern, parts) for pattern in self.paths)


def compile_path(pattern: str) -> tuple[str, tuple[Glob, ...]]:
    """Return a pattern's base folder, and the globs that its braces stand for.

    The base is what stands before the first segment with a wildcard or brace (or the folder of
    a file without any); `shown_as` stands for it.

    Raises:
        GlobError: it is not absolute, or not of the dialect.

    >>> compile_path("/v/{a,b}/*.log")[0]
    '/v'
    """
    if not pattern.startswith("/"):
        raise GlobError("an absolute path")
    parts = _segments(pattern)
    globs = tuple(dict.fromkeys(_compile(each) for each in expand(pattern)))
    return _fixed(parts)[0], globs


def compile_exclude(patterns: Sequence[str]) -> Exclude:
    """Return the matcher of `exclude`: with a slash the shown path is meant, else the name.

    Raises:
        GlobError: one is not of the dialect.
    """
    names, paths = [], []
    for pattern in patterns:
        for each in expand(pattern):
            segments = _segments(each)
            check_segments(segments)
            if "/" in each:
                paths.append(segments)
            else:
                names.append(_regex(each))
    return Exclude(tuple(names), tuple(paths))


def expand(pattern: str) -> list[str]:
    """Return the patterns that the braces of one stand for, in their order.

    Raises:
        GlobError: a brace is not closed, or they stand for too many.

    >>> expand("a{b,c{d,}}")
    ['ab', 'acd', 'ac']
    """
    if len(pattern) > MAX_LENGTH:
        raise GlobError(f"at most {MAX_LENGTH} characters")
    done: list[str] = []
    todo = [pattern]
    while todo:
        current = todo.pop(0)
        span = _first_brace(current)
        if span is None:
            done.append(current)
        else:
            before, inside, after = current[: span[0]], span, current[span[1] + 1 :]
            choices = _alternatives(current[inside[0] + 1 : inside[1]])
            todo[:0] = [before + choice + after for choice in choices]
        if len(done) + len(todo) > MAX_ALTERNATIVES:
            raise GlobError(f"braces that stand for at most {MAX_ALTERNATIVES} patterns")
    return done


def segment_matches(segment: str, name: str) -> bool:
    """Return whether one segment of a path's pattern (not `**`) matches a name."""
    if not _WILD.search(segment):
        return segment == name
    if name.startswith(".") and not segment.startswith("."):
        return False
    return _regex(segment).match(name) is not None


def check_segments(segments: Sequence[str]) -> None:
    """Check what stands between the slashes.

    Raises:
        GlobError: it is not of the dialect.
    """
    wildcards = 0
    for segment in segments:
        if segment in {".", ".."}:
            raise GlobError("no segment . or ..")
        rest, classes = _CLASS.subn("", segment)
        if "[" in rest:
            raise GlobError("a ] for every [")
        if DEEP in rest and segment != DEEP:
            raise GlobError("** only between two slashes")
        for found in _CLASS.findall(segment):
            _check_class(found)
        wildcards += classes + rest.count("*") + rest.count("?")
    if wildcards > MAX_WILDCARDS:
        raise GlobError(f"at most {MAX_WILDCARDS} wildcards")


def _compile(pattern: str) -> Glob:
    segments = list(_segments(pattern))
    if not segments:
        raise GlobError("the path of a file")
    check_segments(segments)
    if segments[-1] == DEEP:
        segments.append("*")
    folder, rest = _fixed(segments)
    if sum(segment != DEEP for segment in rest) > MAX_DEPTH + 1:
        raise GlobError(f"at most {MAX_DEPTH} folders after the first wildcard")
    return Glob(folder, tuple(rest))


def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(segment for segment in pattern.split("/") if segment)


def _fixed(segments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the folder before the first segment with a wildcard, and the other segments."""
    fixed = 0
    while fixed < len(segments) - 1 and not re.search(r"[*?\[{]", segments[fixed]):
        fixed += 1
    return "/" + "/".join(segments[:fixed]), segments[fixed:]


def _spread(segments: tuple[str, ...], states: set[int]) -> States:
    """Add the states that are reached because `**` may stand for no folder."""
    spread = set(states)
    for state in sorted(states):
        following = state
        while segments[following] == DEEP:
            following += 1
            spread.add(following)
    return tuple(sorted(spread))


def _first_brace(pattern: str) -> tuple[int, int] | None:
    """Return where the first brace opens and closes; what stands in a class is no brace."""
    plain = _CLASS.sub(lambda found: "." * len(found[0]), pattern)
    start = plain.find("{")
    if start < 0:
        if "}" in plain:
            raise GlobError("a { for every }")
        return None
    if "}" in plain[:start]:
        raise GlobError("a { for every }")
    depth = 0
    for index in range(start, len(plain)):
        depth += {"{": 1, "}": -1}.get(plain[index], 0)
        if depth == 0:
            return start, index
    raise GlobError("a } for every {")


def _alternatives(inside: str) -> list[str]:
    """Split at the commas that stand in no inner brace and no class."""
    plain = _CLASS.sub(lambda found: "." * len(found[0]), inside)
    parts, begin, depth = [], 0, 0
    for index, character in enumerate(plain):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(inside[begin:index])
            begin = index + 1
    return [*parts, inside[begin:]]


def _check_class(found: str) -> None:
    inside = found[1:-1].removeprefix("!")
    if found.startswith("[^"):
        raise GlobError("[!abc] for any other character, not [^abc]")
    if not inside:
        raise GlobError("something between [ and ]")
    for low, high in re.findall(r"(.)-(.)", inside, re.DOTALL):
        if low > high:
            raise GlobError("ranges from the lower to the higher character")


@lru_cache(maxsize=1024)
def _regex(segment: str) -> re.Pattern[str]:
    # fnmatch's translation does not backtrack, whatever the number of stars.
    return re.compile(fnmatch.translate(segment))


def _path_matches(segments: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether an exclude's pattern matches a whole path."""
    states = {0}
    for name in names:
        after = set()
        for state in _skip_deep(segments, states):
            if segments[state] == DEEP:
                after.add(state)
            elif _regex(segments[state]).match(name):
                after.add(state + 1)
        states = after
    return len(segments) in _skip_deep(segments, states, ended=True)


def _skip_deep(segments: Sequence[str], states: set[int], *, ended: bool = False) -> set[int]:
    """Add the states behind each `**`; the end of the pattern counts only if `ended`."""
    spread = set()
    for state in states:
        following = state
        while following < len(segments) and segments[following] == DEEP:
            spread.add(following)
            following += 1
        spread.add(following)
    return spread if ended else {state for state in spread if state < len(segments)}

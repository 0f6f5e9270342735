"""The one glob dialect: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]` within a segment, `**` as a segment.

`*` and `?` match no slash and no leading dot; `**` is none or more folders, none of them hidden.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from runtime.settings import ValueProblem

MAX_WILDCARDS = 16
"""Of one pattern: more cost time on every file and help nobody."""
MAX_DEEP = 2
"""`**` of one pattern."""
DEEP = "**"

_CLASS = re.compile(r"\[!?\]?[^\]/]*\]")
_WILD = re.compile(r"[*?\[]")


def is_wild(segment: str) -> bool:
    """Return whether a segment holds a wildcard."""
    return _WILD.search(segment) is not None


def check_glob(pattern: str) -> None:
    """Check the wildcards of a pattern.

    Raises:
        ValueProblem: it is not of the dialect, or has more wildcards than anybody needs.
    """
    for character in "{}\\":
        if character in pattern.replace(f"[{character}]", ""):
            raise ValueProblem(f"no {character!r}: only *, ?, [abc], [!abc] and ** are wildcards")
    if "[^" in pattern:
        raise ValueProblem("[!abc] for any other character, not [^abc]")
    rest = _CLASS.sub("?", pattern)
    if "[" in rest:
        raise ValueProblem("a ] for every [")
    segments = rest.split("/")
    if any(DEEP in segment and segment != DEEP for segment in segments):
        raise ValueProblem("** only between two slashes")
    deep = segments.count(DEEP)
    wild = sum(len(re.findall(r"[*?]", segment)) for segment in segments) - deep
    if deep > MAX_DEEP or wild > MAX_WILDCARDS:
        raise ValueProblem(f"at most {MAX_WILDCARDS} wildcards, at most {MAX_DEEP} of them **")
    _check_classes(pattern)


def _check_classes(pattern: str) -> None:
    for found in _CLASS.findall(pattern):
        inside = found[1:-1].removeprefix("!")
        if not inside or inside == "]":
            raise ValueProblem("something between [ and ]")
        for low, high in re.findall(r"(.)-(.)", inside, re.DOTALL):
            if low > high:
                raise ValueProblem("ranges from the lower to the higher character")


@lru_cache(maxsize=1024)
def _segment_regex(segment: str) -> re.Pattern[str]:
    # fnmatch's translation does not backtrack, whatever the number of stars.
    return re.compile(fnmatch.translate(segment))


def segment_matches(pattern: str, name: str) -> bool:
    """Return whether one segment of a pattern (not `**`) matches a name."""
    if not is_wild(pattern):
        return pattern == name
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return _segment_regex(pattern).match(name) is not None


def residues(pattern: Sequence[str], folders: Iterable[str]) -> set[tuple[str, ...]]:
    """Return what is left of a pattern inside a folder: the patterns of the files in there.

    Empty if the pattern cannot reach into `folders`; an empty residue (the pattern ends at the
    folder itself) is left out.

    >>> residues(("**", "*.log"), ("audit",))
    {('**', '*.log')}
    """
    states = {tuple(pattern)}
    for name in folders:
        states = {after for state in states for after in _step(state, name)}
    full = {state for state in states if state and state != (DEEP,)}
    return {state for state in full if not any(_covers(other, state) for other in full - {state})}


def _step(state: tuple[str, ...], name: str) -> set[tuple[str, ...]]:
    if not state:
        return set()
    if state[0] != DEEP:
        return {state[1:]} if segment_matches(state[0], name) else set()
    within = set() if name.startswith(".") else {state}
    return within | _step(state[1:], name)


def _covers(wider: tuple[str, ...], narrower: tuple[str, ...]) -> bool:
    """Return whether `**/x` makes `x` superfluous."""
    return wider[:1] == (DEEP,) and wider[1:] == narrower


def path_matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether a pattern matches a whole path, both as segments."""
    states = {tuple(pattern)}
    for name in path:
        states = {after for state in states for after in _step(state, name)}
    return () in states or (DEEP,) in states

"""The parser for regexes that people write: RE2's syntax, which matches in linear time.

All our processes read them by this one, so that what one of them takes the next one takes too.
Source: the RE2 syntax page.
"""

from functools import lru_cache

from runtime.settings import ValueProblem

MAX_PATTERN_BYTES = 4096
"""Of one regex in UTF-8."""
_MAX_MEMORY = 2 * 1024 * 1024
"""Of one compiled pattern; what needs more helps nobody."""


def parse_pattern(value: object) -> str:
    """Return a regex as it stands.

    Raises:
        ValueProblem: it is longer than 4 KiB, or RE2 cannot express it.
    """
    if not isinstance(value, str) or not value:
        raise ValueProblem("a regex")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_PATTERN_BYTES:
        raise ValueProblem(f"a regex of at most {MAX_PATTERN_BYTES} bytes")
    problem = _problem(value)
    if problem is not None:
        raise ValueProblem(problem)
    return value


@lru_cache(maxsize=512)
def _problem(pattern: str) -> str | None:
    """Return what is wrong with a pattern; RE2's own text may quote it, so it is not used."""
    import re2  # here: 10 ms that a process without patterns does not pay

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        return "a regex in RE2's syntax (no look-around, no back-references)"
    return None

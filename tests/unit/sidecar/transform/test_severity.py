import pytest

from sidecar.transform.severity import severity_code

TRACE, DEBUG, INFO, WARN, ERROR, FATAL = range(1, 7)


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        (b"trace", TRACE),
        (b"VERBOSE", TRACE),
        (b"Debug", DEBUG),
        (b"info", INFO),
        (b"Information", INFO),
        (b"NOTICE", INFO),
        (b"warn", WARN),
        (b"WARNING", WARN),
        (b"error", ERROR),
        (b"err", ERROR),
        (b"SEVERE", ERROR),
        (b"fatal", FATAL),
        (b"CRITICAL", FATAL),
        (b"panic", FATAL),
        (b"10", TRACE),
        (b"20", DEBUG),
        (b"30", INFO),
        (b"40", WARN),
        (b"50", ERROR),
        (b"60", FATAL),
        (b"35", 0),
        (b"", 0),
        (b"nonsense", 0),
        (b"errors", 0),
        (b"x" * 1_000_000, 0),
    ],
)
def test_spellings_are_mapped_and_unknown_ones_give_none(spelling: bytes, code: int):
    assert severity_code(spelling) == code

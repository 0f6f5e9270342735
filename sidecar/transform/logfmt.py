r"""What a line of `key=value key="a \"value\"" key` says: an object of strings.

A key without `=` is true. Of two equal keys the last one counts. A line without any pair is
text. Source: github.com/kr/logfmt, whose grammar this is.
"""

import re
from typing import Final

Pairs = dict[str, str | bool]

_PAIR: Final = re.compile(
    rb"""([^\x00-\x20="]+)(?:(=)(?:"((?:[^"\\]++|\\.)*+)"?|([^\x00-\x20"]*+))?)?""", re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SINGLE: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def parse_pairs(line: bytes) -> Pairs | None:
    """Return the pairs of a line in their order; None if there is no `=` in it that makes one."""
    pairs: Pairs = {}
    has_pair = False
    for key, equals, quoted, plain in _PAIR.findall(line):
        has_pair = has_pair or equals != b""
        value = _unquote(_text(quoted)) if quoted else _text(plain)
        pairs[_text(key)] = value if equals else True
    return pairs if has_pair else None


def _text(part: bytes) -> str:
    return part.decode("utf-8", "replace")


def _unquote(quoted: str) -> str:
    if "\\" not in quoted:
        return quoted
    return (
        _ESCAPE.sub(_unescape, quoted).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _unescape(match: "re.Match[str]") -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _SINGLE.get(match[2], match[2])

"""What a check found: values, and how they are shown in a terminal or as JSON."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from webhook.response import to_printable

MAX_TEXT = 400
"""Characters of one line, of which an API server or an author wrote a part."""
MAX_DETAILS = 20
"""Lines of one finding; the last one counts the rest."""
MAX_FINDINGS = 50
"""Of one check."""
_NAME_WIDTH = 16


class Level(IntEnum):
    """How a finding is meant; a check is as bad as its worst one."""

    OK = 0
    UNSEEN = 1
    """It could not be looked at."""
    ODD = 2
    """It works, and somebody should look at it."""
    BROKEN = 3
    """Logs that were asked for are not collected, or will not be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    level: Level
    text: str
    details: tuple[str, ...] = ()
    remedy: str = ""
    """What to do; empty where there is nothing to be done."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check with what it found, the worst first."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """Return the worst of its findings."""
        return max((one.level for one in self.findings), default=Level.OK)


def ok(text: str, details: Sequence[str] = ()) -> Finding:
    """Return the finding that a link holds."""
    return Finding(Level.OK, text, tuple(details))


def odd(text: str, remedy: str = "", details: Sequence[str] = ()) -> Finding:
    """Return the finding that something is worth a look."""
    return Finding(Level.ODD, text, tuple(details), remedy)


def broken(text: str, remedy: str, details: Sequence[str] = ()) -> Finding:
    """Return the finding that a link is broken."""
    return Finding(Level.BROKEN, text, tuple(details), remedy)


def unseen(text: str, remedy: str = "") -> Finding:
    """Return the finding that nothing could be found out."""
    return Finding(Level.UNSEEN, text, (), remedy)


def counted(number: int, noun: str) -> str:
    """Return a number of things.

    >>> counted(1, "node"), counted(2, "node")
    ('1 node', '2 nodes')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def result_of(name: str, findings: Iterable[Finding]) -> Result:
    """Return the result of a check, its worst findings first; more than 50 are counted."""
    ordered = sorted(findings, key=lambda one: -one.level)
    kept, rest = ordered[:MAX_FINDINGS], ordered[MAX_FINDINGS:]
    if rest:
        kept.append(Finding(rest[0].level, f"and {len(rest)} more"))
    return Result(name, tuple(kept))


def shown(result: Result) -> str:
    """Return a result for a terminal: a line, what belongs to it indented, each line printable."""
    first, *others = result.findings or (ok("nothing to be said"),)
    head = f"{_word(result.level):<8}{result.name:<{_NAME_WIDTH}}"
    lines = [head + _printable(first.text), *_indented(first)]
    said = {first.remedy}
    for one in others:
        new = one if one.remedy not in said else replace(one, remedy="")
        lines += [" " * 8 + f"{_word(one.level)}: {_printable(one.text)}", *_indented(new)]
        said.add(one.remedy)
    return "".join(f"{line}\n" for line in lines)


def summary(results: Sequence[Result]) -> str:
    """Return the last line: which links are broken, and what was not looked at."""
    names = [one.name for one in results if one.level is Level.BROKEN]
    unseen_names = [
        one.name for one in results if any(row.level is Level.UNSEEN for row in one.findings)
    ]
    text = f"broken: {', '.join(names)}" if names else "no link is broken"
    if unseen_names:
        text += f"; not looked at, or not whole: {', '.join(unseen_names)}"
    return f"\n{text}\n"


def as_json(results: Sequence[Result]) -> str:
    """Return all results as one JSON object: `checks[].{name, level, findings[]}`."""
    checks = [
        {
            "name": result.name,
            "level": _word(result.level),
            "findings": [
                {
                    "level": _word(one.level),
                    "text": _printable(one.text),
                    "details": [_printable(line) for line in one.details],
                    "remedy": one.remedy,
                }
                for one in result.findings
            ],
        }
        for result in results
    ]
    is_broken = any(result.level is Level.BROKEN for result in results)
    return json.dumps({"broken": is_broken, "checks": checks}, indent=2) + "\n"


def _word(level: Level) -> str:
    return level.name.lower()


def _indented(finding: Finding) -> Iterator[str]:
    kept = finding.details[:MAX_DETAILS]
    yield from (" " * 12 + _printable(line) for line in kept)
    if len(finding.details) > len(kept):
        yield " " * 12 + f"and {len(finding.details) - len(kept)} more"
    if finding.remedy:
        yield " " * 10 + f"do: {_printable(finding.remedy)}"


def _printable(text: str) -> str:
    return to_printable(text, MAX_TEXT)

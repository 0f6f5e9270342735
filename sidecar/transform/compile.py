"""Step 4 of the sidecar: one source's settings become one function from block to records.

    block ─ undo (CRI, Docker) ─ join parts ─ join lines ─ hold what is open
          ─ skip empty ─ keep, drop ─ redact ─ parse ─ records

A source that asks for nothing has none of these steps but the first, and its blocks stay plain.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from contract.sidecar_config import DOCKER_FORMAT
from sidecar.block import Block
from sidecar.settings import Limits, Source
from sidecar.transform.cri import undo_cri
from sidecar.transform.filter import drop_empty, drop_matching, keep_matching
from sidecar.transform.hold import hold_open
from sidecar.transform.lines import read_lines
from sidecar.transform.partials import join_partials
from sidecar.transform.records import Records

if TYPE_CHECKING:
    from sidecar.transform.patterns import Pattern

Transform = Callable[[Block], Records]
_Step = Callable[[Records], Records]
_Join = Callable[[Records, bool], Records]
"""(records, flush) → records, some of them perhaps open."""


def compile_transform(source: Source, limits: Limits) -> Transform:
    """Return the function that makes records of the blocks of one source's files.

    It keeps nothing between calls and may be called from several threads. What it returns may
    end before the block does: a record that is open at the end (a multi-line record, a part of
    a CRI line) is left to be read again, unless `block.flush`. Only the steps that a source
    needs are imported: small sidecars start with nothing else.
    """
    undo = _undo(source)
    joins = _joins(source, limits.max_line_bytes)
    steps = _steps(source)

    def transform(block: Block) -> Records:
        records = undo(block)
        for join in joins:
            records = join(records, block.flush)
        if joins:
            records = hold_open(records)
        for step in steps:
            records = step(records)
        return records

    return transform


def _undo(source: Source) -> Transform:
    if source.stream == "stdout" or source.format == "cri":
        return undo_cri
    if source.format == DOCKER_FORMAT:
        from sidecar.transform.docker import undo_docker

        return undo_docker
    return read_lines


def _joins(source: Source, max_bytes: int) -> Sequence[_Join]:
    joins: list[_Join] = []
    if _undo(source) is not read_lines:
        joins.append(partial(_join_parts, max_bytes))
    if source.multiline != "none":
        joins.append(_join_lines(source.multiline, max_bytes))
    return joins


def _join_lines(multiline: str, max_bytes: int) -> _Join:
    # Only here: its patterns take some milliseconds to compile.
    from sidecar.transform.multiline import join_by_first_line, join_by_rules, join_lines

    if multiline.startswith("/"):
        return join_lines(join_by_first_line(_pattern(multiline[1:-1])), max_bytes=max_bytes)
    return join_lines(join_by_rules(multiline), max_bytes=max_bytes)


def _join_parts(max_bytes: int, records: Records, flush: bool) -> Records:  # noqa: FBT001 - _Join
    return join_partials(records, max_bytes=max_bytes, flush=flush)


def _steps(source: Source) -> Sequence[_Step]:
    steps: list[_Step] = []
    if source.skip_empty:
        steps.append(drop_empty)
    if source.keep is not None:
        steps.append(keep_matching(_pattern(source.keep)))
    if source.drop is not None:
        steps.append(drop_matching(_pattern(source.drop)))
    return [*steps, *_redact_and_parse(source)]


def _redact_and_parse(source: Source) -> Sequence[_Step]:
    if source.format == "text" and not source.redact:
        return []
    from sidecar.transform.parse import PARSERS, parse_messages

    if source.redact:
        return [_redact(source, is_parsed=source.format in PARSERS)]
    return [parse_messages(source.format)] if source.format in PARSERS else []


def _redact(source: Source, *, is_parsed: bool) -> _Step:
    from sidecar.transform.redact import redact_matches
    from sidecar.transform.redact_objects import redact_and_parse

    patterns = [_pattern(pattern) for _, pattern in source.redact]
    return redact_and_parse(patterns, source.format) if is_parsed else redact_matches(patterns)


def _pattern(pattern: str) -> "Pattern":
    # Only here: a sidecar without patterns does not import RE2.
    from sidecar.transform.patterns import Pattern

    return Pattern(pattern)

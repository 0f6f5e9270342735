"""Step 4 of the sidecar: one source's settings become one function from block to records."""

from collections.abc import Callable

from sidecar.block import Block
from sidecar.settings import Limits, Source
from sidecar.transform.lines import read_lines
from sidecar.transform.records import Records


def compile_transform(source: Source, limits: Limits) -> Callable[[Block], Records]:  # noqa: ARG001 - being built
    """Return the function that makes records of the blocks of one source's files.

    It keeps nothing between calls and may be called from several threads. What it returns may
    end before the block does: a record that is open at the end (a multi-line record, a CRI
    partial) is left to be read again, unless `block.flush`.
    """
    return read_lines

"""What travels from a file to a batch: the block, and the facts that all its records share."""

from dataclasses import dataclass, field

from sidecar.settings import Source

MAX_BLOCK_BYTES = 512 * 1024
"""Of file content in one block; a longer line, or an open record, is a block of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class FileFacts:
    """What every record of one content says alike; compared by identity, lives with its file."""

    file: str
    """The `<file>` part of the ids: ASCII letters and digits, fixed with the first record."""
    path: str
    """`log.file.path`: shown_as and what lies below it, escaped, under its first name."""
    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A run of whole lines of one file.

    `data` ends with a newline but for one case: its last line is unterminated and is sent
    all the same (`partial_seconds`, the last read, a line that was cut).
    """

    facts: FileFacts
    start: int
    """Offset in the file of the first byte of `data`."""
    data: bytes
    end: int
    """Offset after the block: `start + len(data)`, more where a line was cut."""
    read_at: int
    """When it was read: nanoseconds since the epoch, wall clock."""
    truncated: int = 0
    """Bytes left out of the line: then `data` is that one line, cut at a character's boundary."""
    flush: bool = False
    """A multi-line record or a CRI partial that is open at the end counts as complete."""
    context: object = field(default=None, repr=False)
    """The reader's own; nobody else looks at it."""

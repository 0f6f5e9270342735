"""Step 5 of the line: records travel together in a batch, encoded once for one backend."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sidecar.block import Block
from sidecar.digests import blake2b
from sidecar.transform.records import Records

Piece = bytes | memoryview


@dataclass(slots=True, eq=False)
class Part:
    """The records of one block in a batch."""

    block: Block
    records: Records
    body: Piece
    """Their encoded form; a view is into the worker's buffer and lives as long as the batch."""


@dataclass(slots=True, eq=False)
class Batch:
    """Parts in the order in which they were read."""

    parts: list[Part] = field(default_factory=list)
    first: int = 0
    """Place of its first record in the batch that it is a piece of; for order only."""
    count: int = 0
    """Records."""
    line_count: int = 0
    """Lines of files that those records are."""
    file_bytes: int = 0
    """Bytes of files from each part's first record to its last."""
    encoded_bytes: int = 0

    def add(self, block: Block, records: Records, body: Piece) -> None:
        """Append the records of one block with their encoded form."""
        self.parts.append(Part(block, records, body))
        self.count += records.count
        self.line_count += records.line_count
        self.file_bytes += records.end - records.start
        self.encoded_bytes += len(body)

    def pieces(self) -> list[Piece]:
        """Return the encoded records, one piece for each part."""
        return [part.body for part in self.parts]

    def identity(self) -> str:
        """Return an id that is the same whenever the same records are sent again."""
        digest = blake2b(digest_size=16)
        for part in self.parts:
            records = part.records
            begin = records.offset(0)
            digest.update(f"{records.facts.file}-{begin}-{records.count}-".encode())
        digest.update(b"%d" % self.encoded_bytes)
        return digest.hexdigest()

    def indexed(self) -> Iterator[tuple[int, Part]]:
        """Yield (index of the part's first record in the batch, part)."""
        first = 0
        for part in self.parts:
            yield first, part
            first += part.records.count

    def release(self) -> None:
        """Let go of the worker's buffer."""
        for part in self.parts:
            if isinstance(part.body, memoryview):
                part.body.release()

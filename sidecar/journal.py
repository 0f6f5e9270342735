"""The journal's format: what an entry says, and what a whole journal comes to.

In: facts of files, or the bytes of a journal. Out: lines, or what is saved of each file. Pure.
The first line is `sidetail journal <version>`; every other one is the CRC-32 of its payload in
eight hexadecimal digits, a blank, and the payload. See docs/state.md.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from zlib import crc32

VERSION = 1
HEADER = b"sidetail journal %d\n" % VERSION
MAX_LINE_BYTES = 64 * 1024
"""Of an entry; two paths of 4 KiB, escaped, fit."""
MAX_DEPARTED = 10_000
"""Files whose generation (and, where they may come back, position) is kept after they left."""

_HEADER = re.compile(rb"sidetail journal ([0-9]{1,9})\n")

FileKey = int
"""Device and inode in one number: `device << 64 | inode`."""


def file_key(device: int, inode: int) -> FileKey:
    """Return the key of a device and an inode."""
    return device << 64 | inode


@dataclass(slots=True)
class Saved:
    """What the journal says of one device and inode."""

    generation: int = 0
    version: int = 0
    """The inode's own number (`sidecar.open.inode_version`); 0 where there is none."""
    head_length: int = 0
    head: bytes = b""
    """The head or its digest."""
    tag: bytes | None = None
    """The head tag; None until the first record is sent."""
    first: str = ""
    """The path by which this content was first found; empty if its entry was damaged."""
    path: str = ""
    """Its path when last seen."""
    size: int = 0
    """Of the file, when the entry was written."""
    offsets: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Backend → (settled offset, anchor or its digest)."""
    departed: bool = False
    """It was let go, and is nobody's to look for."""
    gone: bool = False
    """It was deleted: nothing of it counts any more but the generation."""


@dataclass(slots=True)
class Loaded:
    """What was read from a journal."""

    version: int | None = None
    """None if the first line is no journal's."""
    files: dict[FileKey, Saved] = field(default_factory=dict)
    backends: dict[int, str] = field(default_factory=dict)
    good_bytes: int = 0
    """The end of the last entry that is whole."""
    bad_entries: int = 0
    """Entries that are not what was written; a torn last one is not among them."""
    torn: bool = False

    @property
    def is_damaged(self) -> bool:
        """True if entries in the midst are wrong, or it is no journal at all."""
        return self.version is None or self.bad_entries > 0


def backend_entry(number: int, name: str) -> bytes:
    """Return the entry that gives a backend its number in the entries after it."""
    return _line(f"B {number} {json.dumps(name)}")


def file_entry(key: FileKey, saved: Saved) -> bytes:
    """Return the entry of a content that was found, renamed, or whose head tag is fixed."""
    facts = [
        key >> 64,
        key & 2**64 - 1,
        saved.generation,
        saved.version,
        saved.head_length,
        saved.head.hex(),
        None if saved.tag is None else saved.tag.hex(),
        saved.first,
        None if saved.path == saved.first else saved.path,
        saved.size,
    ]
    return _line("F " + json.dumps(facts, separators=(",", ":")))


def offset_entry(key: FileKey, generation: int, number: int, offset: int, anchor: bytes) -> bytes:
    """Return the entry of an acknowledgement: everything before `offset` is settled."""
    return _line(
        f"A {key >> 64} {key & 0xFFFFFFFFFFFFFFFF} {generation} {number} {offset} {anchor.hex()}"
    )


def left_entry(key: FileKey, generation: int, *, deleted: bool) -> bytes:
    """Return the entry of a file that was let go; if it is deleted only its generation stays."""
    return _line(f"{'D' if deleted else 'L'} {key >> 64} {key & 2**64 - 1} {generation}")


def saved_entries(key: FileKey, saved: Saved, numbers: dict[str, int]) -> Iterator[bytes]:
    """Yield the entries that say all that is saved of one file."""
    if saved.gone:
        yield left_entry(key, saved.generation, deleted=True)
        return
    yield file_entry(key, saved)
    for name, (offset, anchor) in saved.offsets.items():
        if name in numbers:
            yield offset_entry(key, saved.generation, numbers[name], offset, anchor)
    if saved.departed:
        yield left_entry(key, saved.generation, deleted=False)


def load(file: BinaryIO) -> Loaded:
    """Read a journal from its beginning; never raises on what stands in it.

    Raises:
        OSError: it cannot be read.
    """
    loaded = Loaded()
    header = file.readline(len(HEADER) + 16)
    match = _HEADER.fullmatch(header)
    if match:
        loaded.version = int(match[1]) or None
        loaded.good_bytes = len(header)
    elif HEADER.startswith(header):
        loaded.version, loaded.torn = VERSION, True
        return loaded
    if loaded.version is not None and loaded.version > VERSION:
        return loaded
    _load_entries(file, loaded, at=len(header))
    _trim(loaded.files)
    return loaded


def _load_entries(file: BinaryIO, loaded: Loaded, *, at: int) -> None:
    bad_since_good = 0
    while line := file.readline(MAX_LINE_BYTES):
        at += len(line)
        if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
            loaded.torn = True
        elif _apply(loaded, line):
            loaded.bad_entries += bad_since_good
            bad_since_good = 0
            loaded.good_bytes = at
        elif b"\0" in line:
            # Pages of a file that grew, but were not written before the power went.
            loaded.torn = True
            bad_since_good += 1
        else:
            loaded.bad_entries += 1


def _apply(loaded: Loaded, line: bytes) -> bool:
    """Apply one entry; return whether it is what was written."""
    payload = line[9:-1]
    if line[8:9] != b" " or line[:8] != b"%08x" % crc32(payload):
        return False
    try:
        kind, _, rest = payload.decode("ascii").partition(" ")
        _APPLY[kind](loaded, rest)
    except (KeyError, ValueError, TypeError, RecursionError):
        return False
    return True


def _apply_backend(loaded: Loaded, rest: str) -> None:
    number, name = rest.split(" ", 1)
    parsed = json.loads(name)
    if not isinstance(parsed, str):
        raise TypeError("a backend's name")
    loaded.backends[int(number)] = parsed


def _apply_file(loaded: Loaded, rest: str) -> None:
    facts: list[Any] = json.loads(rest)
    device, inode, generation, version, head_length, head, tag, first, path, size = facts
    key = file_key(device, inode)
    saved = Saved(
        generation=int(generation),
        version=int(version),
        head_length=int(head_length),
        head=bytes.fromhex(head),
        tag=None if tag is None else bytes.fromhex(tag),
        first=str(first),
        path=str(first if path is None else path),
        size=int(size),
    )
    known = loaded.files.pop(key, None)
    if known is not None and known.generation == saved.generation:
        saved.offsets = known.offsets
    loaded.files[key] = saved


def _apply_offset(loaded: Loaded, rest: str) -> None:
    device, inode, generation, number, offset, anchor = rest.split(" ")
    # All that can be wrong comes first: a refused entry leaves nothing of itself.
    name, settled = loaded.backends[int(number)], (int(offset), bytes.fromhex(anchor))
    key = file_key(int(device), int(inode))
    saved = loaded.files.setdefault(key, Saved(generation=int(generation)))
    if int(generation) < saved.generation:
        return
    if int(generation) > saved.generation:
        # The entry of this content is damaged: what is known is how far it was read.
        saved = loaded.files[key] = Saved(generation=int(generation))
    saved.offsets[name] = settled


def _apply_deleted(loaded: Loaded, rest: str) -> None:
    device, inode, generation = (int(part) for part in rest.split(" "))
    key = file_key(device, inode)
    loaded.files.pop(key, None)
    loaded.files[key] = Saved(generation=generation, departed=True, gone=True)


def _apply_left(loaded: Loaded, rest: str) -> None:
    device, inode, generation = (int(part) for part in rest.split(" "))
    key = file_key(device, inode)
    saved = loaded.files.pop(key, Saved(generation=generation))
    saved.departed = True
    loaded.files[key] = saved


_APPLY = {
    "B": _apply_backend,
    "F": _apply_file,
    "A": _apply_offset,
    "D": _apply_deleted,
    "L": _apply_left,
}


def _trim(files: dict[FileKey, Saved]) -> None:
    """Forget the departed ones that left first; a dict keeps the order of the entries."""
    departed = [key for key, saved in files.items() if saved.departed]
    for key in departed[: max(0, len(departed) - MAX_DEPARTED)]:
        del files[key]


def _line(payload: str) -> bytes:
    encoded = payload.encode("ascii")
    return b"%08x %s\n" % (crc32(encoded), encoded)


def joined(entries: Iterable[bytes], size: int = 64 * 1024) -> Iterator[bytes]:
    """Yield the entries in pieces of about `size` bytes, each for one write."""
    piece, length = [], 0
    for entry in entries:
        piece.append(entry)
        length += len(entry)
        if length >= size:
            yield b"".join(piece)
            piece, length = [], 0
    if piece:
        yield b"".join(piece)

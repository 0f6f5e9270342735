"""Which content a file is: its head, the bytes before an offset, and the name of its ids.

In: bytes of a file and facts of its inode. Out: digests to compare, and the texts that records
carry. Pure.
"""

import base64

from sidecar.digests import blake2b

HEAD_BYTES = 1024
"""The head is the file's first bytes, at most so many; it grows with the file until then."""
ANCHOR_BYTES = 1024
"""The anchor is what stands before an offset, at most so many bytes."""
TAG_BYTES = 256
"""Of the first line, in the head tag."""
NO_ANCHOR = b""
"""Before offset 0."""

_DIGEST_BYTES = 8
_ID_CHARACTERS = 20
"""5 bits each: files would have to be counted in thousands of millions of millions to meet."""


def digest(content: bytes) -> bytes:
    """Return at most 8 bytes that tell one head or anchor from another.

    Up to 8 bytes stand for themselves, so that the result is never taken for the content.
    """
    if len(content) <= _DIGEST_BYTES:
        return content
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def is_same(known: bytes, content: bytes) -> bool:
    """Return whether `content` is what is known, either itself or by its digest."""
    return known == (content if len(known) == len(content) else digest(content))


def head_of(beginning: bytes) -> bytes:
    """Return the head of a file that begins like this.

    NULs at its end are left out: they are room that the writer has still to fill.
    """
    return beginning[:HEAD_BYTES].rstrip(b"\0")


def anchor_length(offset: int) -> int:
    """Return how many bytes before `offset` are its anchor."""
    return min(ANCHOR_BYTES, offset)


def head_tag(first_line: bytes) -> bytes:
    """Return the head tag of a content: 16 bytes of its first line, which is terminated."""
    return blake2b(first_line[:TAG_BYTES], digest_size=16).digest()


NO_TAG = b""
"""Of a content whose first line was not terminated when its first record was sent."""


def tag_of_head(beginning: bytes) -> bytes | None:
    """Return the head tag if the first line ends in these first bytes, else None.

    A file that begins with a hole has its tag from the first line that is sent of it.
    """
    end = beginning.find(b"\n")
    return None if end < 0 or beginning.startswith(b"\0") else head_tag(beginning[:end])


def file_id(
    *, pod_uid: str, container: str | None, device: int, inode: int, tag: bytes, generation: int
) -> str:
    """Return the `<file>` of a content's ids: 20 lower-case letters and digits."""
    facts = (pod_uid, container or "", str(device), str(inode), tag.hex(), str(generation))
    sized = b"".join(b"%d:%b," % (len(each), each) for each in (fact.encode() for fact in facts))
    whole = blake2b(sized, digest_size=16, person=b"sidetail-file").digest()
    return base64.b32encode(whole)[:_ID_CHARACTERS].decode("ascii").lower()


def shown_name(path: bytes) -> str:
    r"""Return a path as records show it.

    Control characters (C0, DEL, C1) and bytes that are not UTF-8 become `\xNN`; the rest, the
    backslash too, stays.

    >>> shown_name(b"/var/log/a\n\xff.log") == r"/var/log/a\x0a\xff.log"
    True
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or 0x7F <= code < 0xA0 else character

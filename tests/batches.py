"""Records and batches made of text, as the steps before a backend would hand them on."""

from collections.abc import Sequence
from typing import Any

from runtime.settings import REQUIRED, Key
from sidecar.backends.answers import Backend
from sidecar.backends.registry import backend_module, option_keys
from sidecar.batch import Batch
from sidecar.block import Block, FileFacts
from sidecar.encode import Body
from sidecar.keys import LIMIT_KEYS
from sidecar.settings import BackendSettings, Limits, Settings, Source
from sidecar.transform.compile import compile_transform
from sidecar.transform.records import Records
from sidecar.url import parse_url

READ_AT = 1_700_000_000_123_456_789
"""2023-11-14T22:13:20.123456789Z."""

ATTRIBUTES = {
    "k8s.namespace.name": "shop",
    "k8s.pod.name": "orders-1",
    "k8s.container.name": "app",
    "service.name": "orders",
}


def limits(**changes: Any) -> Limits:
    """Return the default limits, some of them changed."""
    values = {key.name: _default(key) for key in LIMIT_KEYS}
    return Limits(**{**values, **changes})


def _default(key: Key) -> Any:
    return None if key.default is REQUIRED else key.parse(key.default)


def source(**changes: Any) -> Source:
    """Return a source of plain text, some of it changed."""
    values: dict[str, Any] = {
        "index": 0, "path": "/logs/*", "shown_as": None, "container": "app", "stream": "file",
        "exclude": (), "format": "text", "multiline": "none", "fields": {},
        "attributes": ATTRIBUTES, "keep": None, "drop": None, "redact": (), "skip_empty": False,
    }  # fmt: skip
    return Source(**{**values, **changes})


def facts(*, file: str = "f1", path: str = "/logs/a.log", **changes: Any) -> FileFacts:
    """Return the facts of one file of such a source."""
    return FileFacts(file=file, path=path, source=source(**changes))


def records(
    text: bytes,
    of: FileFacts | None = None,
    *,
    start: int = 0,
    read_at: int = READ_AT,
    truncated: int = 0,
) -> Records:
    """Return the records of a block with `text` in it."""
    return _transform(_block(text, of or facts(), start, read_at, truncated))


def _block(text: bytes, of: FileFacts, start: int, read_at: int, truncated: int = 0) -> Block:
    end = start + len(text) + truncated
    return Block(of, start, text, end, read_at, truncated=truncated, flush=True)


def _transform(block: Block) -> Records:
    return compile_transform(block.facts.source, limits())(block)


def batch(backend: Backend, *parts: tuple[bytes, FileFacts], read_at: int = READ_AT) -> Batch:
    """Return a batch of several blocks, encoded as the pipeline does it: one after the other.

    Blocks of the same file follow each other in it.
    """
    made = Batch()
    ends: dict[FileFacts, int] = {}
    with Body(1 << 20) as body:
        spans = []
        for text, of in parts:
            start = ends.get(of, 0)
            block = _block(text, of, start, read_at)
            ends[of] = block.end
            before = body.size
            some = _transform(block)
            assert backend.append(body, some, 1 << 40) == some.count
            spans.append((block, some, before, body.size))
        whole = bytes(body.view())
    for block, some, begin, end in spans:
        made.add(block, some, whole[begin:end])
    return made


def backend_settings(kind: str, url: str | None = None, **changes: Any) -> BackendSettings:
    """Return the settings of a backend; what is no setting of every type is an option of this."""
    values: dict[str, Any] = {
        "name": "main", "type": kind, "url": None if url is None else parse_url(url),
        "compression": "none", "compression_level": 1, "credentials_dir": None, "insecure": False,
        "allow_link_local": False, "only": None,
    }  # fmt: skip
    keys = {key.name: key for key in option_keys(kind)}
    options = {name: _default(key) for name, key in keys.items()}
    options |= {name: keys[name].parse(value) for name, value in changes.items() if name in keys}
    common = {name: value for name, value in changes.items() if name not in keys}
    return BackendSettings(**{**values, **common}, options=options)


def open_backend(kind: str, url: str | None = None, **changes: Any) -> Backend:
    """Return a backend of a type, as the process opens it."""
    request_seconds = changes.pop("request_seconds", 30.0)
    settings = Settings(
        sources=(), backends=(), state_dir=None, limits=limits(request_seconds=request_seconds),
        scan_seconds=1.0, log_level="info", metrics=None, volume=None, pod_uid="",  # type: ignore[arg-type] # nobody looks
    )  # fmt: skip
    made: Backend = backend_module(kind).open_backend(
        backend_settings(kind, url, **changes), settings
    )
    return made


def pick(backend: Backend, whole: Batch, indices: Sequence[int]) -> Batch:
    """Return some records of a batch of one part, encoded again, as a delivery does it."""
    (part,) = whole.parts
    picked = part.records.pick(indices)
    made = Batch()
    made.add(part.block, picked, backend.encode_again(picked, indices, part.body))
    return made

"""What every type that POSTs to an HTTP server adds alike: its path, its headers, its options."""

from collections.abc import Sequence

from runtime.settings import Key, ValueProblem
from sidecar.backends.credentials import Credentials
from sidecar.backends.http_sender import PlainWire
from sidecar.batch import Batch, Piece
from sidecar.settings import BackendSettings
from sidecar.url import Url

_OURS = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "authorization", "connection",
     "transfer-encoding", "x-sidetail-batch-id", "x-api-key", "expect", "upgrade"}
)  # fmt: skip


def parse_headers(value: object) -> tuple[tuple[str, str], ...]:
    """Return the operator's own headers, none of which can become two or replace one of ours.

    Raises:
        ValueProblem: a name is no token or one of ours, or a value is not printable ASCII.
    """
    expected = "name: value pairs of printable ASCII, other than the headers of the protocol"
    if not isinstance(value, dict):
        raise ValueProblem(expected)
    for name, text in value.items():
        token = isinstance(name, str) and name.replace("-", "").replace("_", "").isalnum()
        plain = isinstance(text, str) and text.isascii() and text.isprintable()
        if not token or not plain or not name.isascii() or name.lower() in _OURS:
            raise ValueProblem(expected)
    return tuple(value.items())


HEADERS = Key(
    "headers", parse_headers, {}, "Headers on every request; never secrets: they are shown."
)


def target_of(url: Url | None, own_path: str) -> str:
    """Return path and query of a request: the protocol's own path follows the base of `url`.

    It is not appended where the path ends with it already.

    >>> from sidecar.url import parse_url
    >>> target_of(parse_url("http://es:9200/logs/?pretty"), "/_bulk")
    '/logs/_bulk?pretty'
    >>> target_of(parse_url("http://es:9200/_bulk"), "/_bulk")
    '/_bulk'
    """
    path, mark, query = ("" if url is None else url.path).partition("?")
    path = path.rstrip("/")
    if not path.endswith(own_path):
        path += own_path
    return (path or "/") + mark + query


class HttpWire(PlainWire):
    """A POST to one path, with the credentials of the backend's folder."""

    content_type = "application/json"

    def __init__(self, settings: BackendSettings, target: str) -> None:
        self._target = target
        self._own: Sequence[tuple[str, str]] = settings.options["headers"]

    def target(self) -> str:
        """Return path and query."""
        return self._target

    def headers(self, batch: Batch, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Return the headers: our own, the credentials' and the operator's."""
        key = credentials.api_key()
        return (
            ("Content-Type", self.content_type),
            *self.more_headers(batch),
            *credentials.authorization(),
            *((self.api_key_header(key),) if key else ()),
            *self._own,
        )

    def more_headers(self, batch: Batch) -> Sequence[tuple[str, str]]:
        """Return headers that only this type has."""
        del batch
        return ()

    def api_key_header(self, key: str) -> tuple[str, str]:
        """Return the header that carries an API key."""
        return ("X-API-Key", key)

    def body(self, batch: Batch) -> list[Piece]:
        """Return the encoded records with nothing around them."""
        return batch.pieces()

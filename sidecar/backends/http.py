"""`http`: newline-delimited JSON in a POST, a 2xx acknowledges the batch.

The body is the record of docs/sidecar.md, an object a line. `X-Sidetail-Batch-Id` is the same
for a batch that is sent again unchanged. A bearer token, or user and password, come from the
credentials folder; `api-key` becomes the header `X-API-Key`.
"""

from collections.abc import Sequence

from runtime.settings import Key, ValueProblem
from sidecar.backends.answers import Backend, Sender
from sidecar.backends.credentials import Credentials
from sidecar.backends.http_sender import HttpSender, PlainWire
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch, Piece
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings

SCHEMES = ("http", "https")
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


OPTIONS = (
    Key("headers", parse_headers, {}, "Headers on every request; never secrets: they are shown."),
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return HttpBackend(backend)


class HttpBackend(TemplateEncoder):
    """An NDJSON collector."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(ndjson_template)
        self._settings = settings

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return HttpSender(self._settings, _Wire(self._settings))


class _Wire(PlainWire):
    def __init__(self, settings: BackendSettings) -> None:
        self._own: Sequence[tuple[str, str]] = settings.options["headers"]
        self._target = settings.url.path or "/" if settings.url else "/"

    def target(self) -> str:
        return self._target

    def headers(self, batch: Batch, credentials: Credentials) -> Sequence[tuple[str, str]]:
        key = credentials.api_key()
        return (
            ("Content-Type", "application/x-ndjson"),
            ("X-Sidetail-Batch-Id", batch.identity()),
            *credentials.authorization(),
            *((("X-API-Key", key),) if key else ()),
            *self._own,
        )

    def body(self, batch: Batch) -> list[Piece]:
        return batch.pieces()

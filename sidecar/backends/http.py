"""`http`: newline-delimited JSON in a POST, a 2xx acknowledges the batch.

The body is the record of docs/sidecar.md, an object a line. `X-Sidetail-Batch-Id` is the same
for a batch that is sent again unchanged. A bearer token, or user and password, come from the
credentials folder; `api-key` becomes the header `X-API-Key`.
"""

from collections.abc import Sequence

from sidecar.backends.answers import Backend, Sender
from sidecar.backends.http_sender import HttpSender
from sidecar.backends.http_wire import HEADERS, HttpWire
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings

SCHEMES = ("http", "https")
OPTIONS = (HEADERS,)


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


class _Wire(HttpWire):
    content_type = "application/x-ndjson"

    def __init__(self, settings: BackendSettings) -> None:
        target = settings.url.path if settings.url else ""  # used as it is
        super().__init__(settings, target if target.startswith("/") else "/" + target)

    def more_headers(self, batch: Batch) -> Sequence[tuple[str, str]]:
        return (("X-Sidetail-Batch-Id", batch.identity()),)

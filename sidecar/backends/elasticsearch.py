"""`elasticsearch`: the bulk API of Elasticsearch and OpenSearch, in ECS field names.

Every record is created under its own id, so that one that is sent again is no second document:
the server's 409 says that it has it. The answer is looked at item by item; what was taken is
never sent again.

Source: Elasticsearch's reference, "Bulk API"; the Elastic Common Schema 8.11.
"""

import re
from urllib.parse import quote

from runtime.settings import Key, ValueProblem
from sidecar.backends.answers import Answer, Backend, Sender
from sidecar.backends.bulk_answer import classify_items
from sidecar.backends.ecs import ecs_constants
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.http_sender import HttpSender
from sidecar.backends.http_wire import HEADERS, HttpWire, target_of
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.block import FileFacts
from sidecar.ndjson import json_facts, json_text
from sidecar.settings import BackendSettings, Settings
from sidecar.wire import Offset, Template, Time

SCHEMES = ("http", "https")
PATH = "/_bulk"

_FILTER = "filter_path=errors,items.*.status"
"""Keeps an answer at 27 bytes an item, where it would repeat index, id and shards."""
_ITEM_BYTES = 1024
"""Of an answer, for each item, where something on the way removes our filter."""
_HEAD_BYTES = 64 * 1024
_FACTS = json_facts(severity="log.level", raw="message_raw")


def parse_index(value: object) -> str:
    """Return the name of an index, alias or data stream.

    Raises:
        ValueProblem: Elasticsearch would refuse it.
    """
    if (
        not isinstance(value, str)
        or not re.fullmatch(r"[^\\/*?\"<>| ,#:A-Z\x00-\x20\x7f]{1,255}", value)
        or value[0] in "-_+."
        or len(value.encode("utf-8", "replace")) > 255
    ):
        raise ValueProblem(
            "a lower-case name of at most 255 bytes that does not begin with - _ + or ."
        )
    return value


def parse_pipeline(value: object) -> str | None:
    """Return the name of an ingest pipeline, or None.

    Raises:
        ValueProblem: it is no printable name.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,255}", value, re.ASCII):
        raise ValueProblem("a name of 1 to 255 printable ASCII characters")
    return value


OPTIONS = (
    Key(
        "index",
        parse_index,
        "logs-sidetail-default",
        "The data stream, index or alias that documents are created in.",
    ),
    Key("pipeline", parse_pipeline, None, "The ingest pipeline that documents go through."),
    HEADERS,
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return ElasticsearchBackend(backend)


class ElasticsearchBackend(TemplateEncoder):
    """A cluster of Elasticsearch or OpenSearch."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(self._make_template)
        self._settings = settings
        self._index = json_text(settings.options["index"])

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return HttpSender(self._settings, _Wire(self._settings))

    def _make_template(self, facts: FileFacts) -> Template:
        return Template(
            [
                b'{"create":{"_index":' + self._index + b',"_id":"',
                facts.file.encode("ascii") + b"-",
                Offset(),
                b'"}}\n{"@timestamp":"',
                Time(),
                b'",' + ecs_constants(facts) + b'"log.offset":',
                Offset(),
                *_FACTS,
            ]
        )


class _Wire(HttpWire):
    content_type = "application/x-ndjson"

    def __init__(self, settings: BackendSettings) -> None:
        target = target_of(settings.url, PATH)
        pipeline = settings.options["pipeline"]
        query = _FILTER + ("" if pipeline is None else "&pipeline=" + quote(pipeline, safe=""))
        super().__init__(settings, target + ("&" if "?" in target else "?") + query)

    def api_key_header(self, key: str) -> tuple[str, str]:
        return ("Authorization", f"ApiKey {key}")

    def classify(self, answer: HttpAnswer, batch: Batch) -> Answer:
        return classify_items(answer.body, batch.count)

    def max_answer_bytes(self, batch: Batch) -> int:
        return _HEAD_BYTES + _ITEM_BYTES * batch.count

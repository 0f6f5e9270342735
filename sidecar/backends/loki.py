"""`loki`: Grafana Loki's push API, in JSON.

A few attributes are the labels of a stream, the rest goes along as structured metadata. Each
stream travels in a request of its own: Loki answers for the last stream of a request only, so
that lines of the others could be lost behind a 204. Entries of a stream have strictly increasing
times and keep them when they are sent again, because Loki takes an entry whose time and text
equal another's for the same one.

Source: Loki's HTTP API, "Ingest logs"; its error texts: pkg/validation, pkg/chunkenc.
"""

import re
import threading
import time
from collections.abc import Callable, Hashable, Sequence

from contract import record
from runtime.settings import Key, ValueProblem, parse_text
from sidecar.backends.answers import Answer, Backend, Sender
from sidecar.backends.groups import Group, attempt_each, split
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.http_sender import HttpSender
from sidecar.backends.http_wire import HEADERS, HttpWire, target_of
from sidecar.backends.loki_labels import DEFAULT_LABELS, label_facts, parse_labels
from sidecar.backends.loki_refusals import MAX_ANSWER_BYTES, classify_refusal
from sidecar.backends.templated import MAX_TEMPLATES, TemplateEncoder
from sidecar.batch import Batch, Part, Piece
from sidecar.block import FileFacts
from sidecar.encode import Body, encode
from sidecar.ndjson import json_text
from sidecar.settings import BackendSettings, Settings
from sidecar.transform.records import Records
from sidecar.wire import (
    Clock,
    IoStream,
    Message,
    Offset,
    ParseError,
    RawMessage,
    Severity,
    Template,
    Time,
    Truncated,
)

SCHEMES = ("http", "https")
PATH = "/loki/api/v1/push"

_MAX_STREAMS = 2_000
"""Whose last time is known; a stream beyond them is one that has long been quiet."""


def parse_tenant(value: object) -> str | None:
    """Return a tenant's id, which becomes a header.

    Raises:
        ValueProblem: it is no id as Loki takes it.
    """
    if value is None:
        return None
    text = parse_text(150)(value)
    if not re.fullmatch(r"[A-Za-z0-9!\-_.*'()]+", text, re.ASCII) or text in (".", ".."):
        raise ValueProblem("1 to 150 letters, digits and !-_.*'()")
    return text


OPTIONS = (
    Key(
        "labels",
        parse_labels,
        list(DEFAULT_LABELS),
        "Attributes that become a stream's labels (and `log.file.path`, `fields.KEY`); all others "
        "are structured metadata. At most 15.",
    ),
    Key("tenant", parse_tenant, None, "The tenant, as the header `X-Scope-OrgID`."),
    HEADERS,
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return LokiBackend(backend)


class LokiBackend(TemplateEncoder):
    """A Loki, or what speaks its push API."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(self._make_template)
        self._settings = settings
        self._labels: frozenset[str] = frozenset(settings.options["labels"])
        self._streams: dict[FileFacts, bytes] = {}
        self._last_times: dict[Hashable, int] = {}
        self._turn = threading.Lock()

    def append(self, body: Body, records: Records, limit: int) -> int:
        """Encode as many leading records as fit, later than all that their stream has."""
        template = self.template(records.facts)
        with self._turn:
            after = self._last_time(records)
            done = body.append(records, template, limit, after=after)
            if done:
                self._note(records.facts, body.last_time)
        return done

    def encode(self, records: Records) -> bytes:
        """Return all records encoded, later than all that their stream has."""
        template = self.template(records.facts)
        with self._turn:
            encoded = encode(records, template, after=self._last_time(records))
            self._note(records.facts, encoded.last_time)
        return encoded.body

    def encode_again(self, records: Records, indices: Sequence[int], before: Piece) -> bytes:
        """Return the entries of `before` at `indices`: their times are the ones they had."""
        del records
        entries = bytes(before).split(b"\n")
        return b"".join(entries[index] + b"\n" for index in indices)

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return _Sender(self._settings, self.stream)

    def stream(self, facts: FileFacts) -> bytes:
        """Return the labels of a file's stream, as the inside of a JSON object."""
        found = self._streams.get(facts)
        if found is None:
            if len(self._streams) >= MAX_TEMPLATES:
                self._streams.clear()
            labels, _ = label_facts(facts, self._labels)
            found = self._streams[facts] = labels
        return found

    def _make_template(self, facts: FileFacts) -> Template:
        _, metadata = label_facts(facts, self._labels)
        return Template(
            [
                b'["',
                Time(Clock.NANOSECONDS),
                b'","',
                Message(),
                b'",{' + metadata + (b"," if metadata else b""),
                b'"id":"' + facts.file.encode("ascii") + b"-",
                Offset(),
                b'","offset":"',
                Offset(),
                b'"',
                Severity([b',"severity":' + json_text(name) for name in record.SEVERITIES]),
                IoStream(b',"log_iostream":"stdout"', b',"log_iostream":"stderr"'),
                Truncated(b',"truncated":"', b'"'),
                ParseError(b',"parse_error":"', b'"'),
                RawMessage(b',"message_raw":"', b'"'),
                b"}],\n",
            ],
            increasing=True,
        )

    def _last_time(self, records: Records) -> int:
        """Return the time that the next record of the stream has to follow."""
        last = self._last_times.get(records.facts, 0)
        if records.columns is not None and records.columns.seconds is not None:
            # Times of their own are only compared within their file: where a stream has several,
            # one of them may lie far behind the others.
            return last
        return max(last, self._last_times.get(self.stream(records.facts), 0))

    def _note(self, facts: FileFacts, last_time: int) -> None:
        for key in (facts, self.stream(facts)):
            self._last_times.pop(key, None)
            self._last_times[key] = last_time
        while len(self._last_times) > 2 * _MAX_STREAMS:
            del self._last_times[next(iter(self._last_times))]


class _Sender:
    """Posts the streams of a batch one after the other."""

    def __init__(self, settings: BackendSettings, stream: Callable[[FileFacts], bytes]) -> None:
        self.sent_bytes = 0
        self._stream = stream
        self._http = HttpSender(settings, _Wire(settings, stream))
        self._cut: tuple[Batch, list[Group[bytes]]] | None = None

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Post the batch once and say what came of it."""
        deadline = time.monotonic() + seconds

        def post(group: Group[bytes]) -> Answer:
            left = max(0.001, deadline - time.monotonic())
            return self._http.attempt(group.batch, seconds=left)

        answer = attempt_each(self._groups(batch), post)
        self.sent_bytes = self._http.sent_bytes
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _groups(self, batch: Batch) -> list[Group[bytes]]:
        if self._cut is None or self._cut[0] is not batch:
            self._cut = (batch, split(batch, self._stream_of))
        return self._cut[1]

    def _stream_of(self, part: Part) -> bytes:
        return self._stream(part.records.facts)


class _Wire(HttpWire):
    """Each batch that comes here is of one stream."""

    def __init__(self, settings: BackendSettings, stream: Callable[[FileFacts], bytes]) -> None:
        super().__init__(settings, target_of(settings.url, PATH))
        self._stream = stream
        self._tenant: str | None = settings.options["tenant"]

    def more_headers(self, batch: Batch) -> Sequence[tuple[str, str]]:
        del batch
        return () if self._tenant is None else (("X-Scope-OrgID", self._tenant),)

    def body(self, batch: Batch) -> list[Piece]:
        *pieces, last = batch.pieces()
        labels = self._stream(batch.parts[0].records.facts)
        head = b'{"streams":[{"stream":{' + labels + b'},"values":['
        return [head, *pieces, last[: -len(b",\n")], b"]}]}"]

    def refused(self, answer: HttpAnswer, batch: Batch) -> Answer:
        return classify_refusal(answer, batch.count)

    def max_answer_bytes(self, batch: Batch) -> int:
        del batch
        return MAX_ANSWER_BYTES

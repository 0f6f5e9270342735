"""`forward`: Fluentd's and Fluent Bit's Forward protocol, one acknowledged chunk per tag.

Each tag of a batch is one PackedForward message whose `chunk` the server sends back when it has
stored it. With a `token` in the credentials folder the shared-key handshake is made: nothing is
sent to a server that does not know the key.

Source: Fluentd's Forward Protocol Specification v1.5.
"""

import re
import time
from itertools import chain

import msgpack
import orjson

from contract import record
from runtime.settings import Key, ValueProblem
from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry, Sender
from sidecar.backends.connection import ConnectError, ExchangeError
from sidecar.backends.credentials import Credentials, CredentialsError, tls_contexts
from sidecar.backends.forward_handshake import HandshakeError, Inbox, shake_hands
from sidecar.backends.groups import Group, attempt_each, split
from sidecar.backends.http_sender import gzip
from sidecar.backends.stream import StreamConnection
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch, Part, Piece
from sidecar.block import FileFacts
from sidecar.ndjson import constant_facts
from sidecar.settings import BackendSettings, Settings
from sidecar.wire import (
    Clock,
    IoStream,
    MapHeader,
    Message,
    Number,
    Offset,
    PackedId,
    Parsed,
    ParseError,
    RawMessage,
    Severity,
    Template,
    Text,
    Time,
    Truncated,
)

SCHEMES = ("forward", "tcp", "tls")

_EVENT = b"\x92\xd7\x00"
"""An entry, an array of two: the time as an extension of type 0 with 8 bytes, and the record."""
_PLACE = re.compile(r"\{([^{}]*)\}")


def parse_tag(value: object) -> str:
    """Return a tag, in which `{attribute}` stands for an attribute's value.

    Raises:
        ValueProblem: it is no such text.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,256}", value, re.ASCII):
        raise ValueProblem("1 to 256 printable ASCII characters without blanks")
    if "{" in _PLACE.sub("", value) or "}" in _PLACE.sub("", value):
        raise ValueProblem("a tag in which each { has its }")
    return value


OPTIONS = (
    Key(
        "tag",
        parse_tag,
        "sidetail",
        "The tag of every event; `{k8s.namespace.name}` stands for that attribute (`_` where a "
        "file has none).",
    ),
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return ForwardBackend(backend)


class ForwardBackend(TemplateEncoder):
    """A Fluentd or a Fluent Bit."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(_make_template)
        self._settings = settings

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return _Sender(self._settings)


def _make_template(facts: FileFacts) -> Template:
    constants = constant_facts(facts)
    return Template(
        [
            _EVENT,
            Time(Clock.EVENT_TIME),
            MapHeader(len(constants) + len((record.ID, record.OFFSET, record.MESSAGE))),
            b"".join(map(_pack, chain.from_iterable(constants.items()))),
            _pack(record.ID),
            PackedId(facts.file.encode("ascii") + b"-"),
            _pack(record.OFFSET),
            Offset(Number.MSGPACK),
            Severity([_pair(record.SEVERITY, name) for name in record.SEVERITIES]),
            IoStream(_pair(record.LOG_IOSTREAM, "stdout"), _pair(record.LOG_IOSTREAM, "stderr")),
            Truncated(_pack(record.TRUNCATED), form=Number.MSGPACK),
            Parsed(_pack(record.PARSED)),
            ParseError(_pack(record.PARSE_ERROR), form=Text.MSGPACK),
            _pack(record.MESSAGE),
            Message(Text.MSGPACK),
            RawMessage(_pack(record.MESSAGE_RAW), form=Text.MSGPACK),
        ],
        parsed_as=_pack_json,
    )


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="replace")
    return packed


def _pair(name: str, value: str) -> bytes:
    return _pack(name) + _pack(value)


def _pack_json(text: bytes) -> bytes:
    return _pack(orjson.loads(text))


class _Sender:
    """One connection, greeted once; it belongs to one thread."""

    def __init__(self, settings: BackendSettings) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._tag: str = settings.options["tag"]
        self._gzip_level = settings.compression_level if settings.compression == "gzip" else None
        self._credentials = Credentials(settings.credentials_dir)
        contexts = None
        if settings.url.tls:
            contexts = tls_contexts(self._credentials, insecure=settings.insecure)
        self._stream = StreamConnection(
            settings.url, contexts, allow_link_local=settings.allow_link_local
        )
        self._inbox = Inbox(self._stream)

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Send the batch, a chunk for each tag, and wait for the server to acknowledge each."""
        deadline = time.monotonic() + seconds

        def send(group: Group[bytes]) -> Answer:
            try:
                return self._send(group, deadline)
            except (CredentialsError, HandshakeError) as error:
                self._credentials.forget()
                self._stream.close()
                return Hold(error.reason)
            except (ConnectError, ExchangeError) as error:
                self._stream.close()
                return Retry(error.reason)

        answer = attempt_each(split(batch, self._tag_of), send)
        self.sent_bytes = self._stream.sent_bytes
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _send(self, group: Group[bytes], deadline: float) -> Answer:
        if self._credentials.refresh():
            self._stream.close()  # a rotated certificate or key wants a new connection
        if self._stream.open(deadline):
            self._inbox.clear()
            if self._credentials.text("token") is not None:
                shake_hands(self._stream, self._inbox, self._credentials, deadline)
        chunk = group.batch.identity()
        self._stream.send(self._message(group, chunk), deadline)
        self._await(chunk.encode("ascii"), deadline)
        return Delivered()

    def _message(self, group: Group[bytes], chunk: str) -> list[Piece]:
        """Return a PackedForward message in pieces."""
        entries = group.batch.pieces()
        options: dict[str, object] = {"size": group.batch.count, "chunk": chunk}
        if self._gzip_level is not None:
            entries = [gzip(entries, self._gzip_level)]
            options["compressed"] = "gzip"
        length = sum(map(len, entries))
        head = b"\x93" + _pack(group.key.decode("utf-8")) + b"\xc6" + length.to_bytes(4, "big")
        return [head, *entries, _pack(options)]

    def _await(self, chunk: bytes, deadline: float) -> None:
        answer = self._inbox.next(deadline)
        if isinstance(answer, dict) and answer.get(b"ack") == chunk:
            return
        if isinstance(answer, list) and answer[:1] == [b"HELO"]:
            raise HandshakeError("server_wants_a_shared_key")
        raise ExchangeError("protocol", "not the acknowledgement")

    def _tag_of(self, part: Part) -> bytes:
        attributes = part.records.facts.source.attributes
        tag = _PLACE.sub(lambda match: attributes.get(match[1]) or "_", self._tag)
        return tag.encode("utf-8", "replace")

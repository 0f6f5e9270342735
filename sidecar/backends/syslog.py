"""`syslog`: RFC 5424 messages over TCP or TLS, with octet counting.

Syslog has no acknowledgement. What counts as one: the receiver's kernel has all bytes of the
batch, and the connection still stands a second later. A receiver that dies with what it had not
yet read takes those lines with it.

Source: RFC 5424 (message), RFC 6587 section 3.4.1 (octet counting), RFC 5425 (TLS).
"""

import re
import time

from runtime.settings import Key, ValueProblem, parse_choice, parse_size
from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry, Sender
from sidecar.backends.connection import ConnectError, ExchangeError
from sidecar.backends.credentials import Credentials, CredentialsError, tls_contexts
from sidecar.backends.stream import StreamConnection
from sidecar.backends.syslog_form import message_template, shorten
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.encode import Body
from sidecar.settings import BackendSettings, Settings
from sidecar.transform.records import Records

SCHEMES = ("tcp", "tls")

STAY_SECONDS = 1.0
"""How long a connection must stand after the last byte for its lines to count as there."""

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
)  # fmt: skip
"""In the order of their codes. Source: RFC 5424, table 1."""


def parse_sd_id(value: object) -> str:
    """Return the name of our element of structured data: `name@number`.

    Raises:
        ValueProblem: RFC 5424 allows no such name.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[a-zA-Z0-9_.-]{1,20}@[0-9.]{1,11}", value):
        raise ValueProblem("name@number, where the number is a private enterprise number")
    return value


def parse_message_size(value: object) -> int:
    """Return the bytes that a message may have.

    Raises:
        ValueProblem: it is less than 4 KiB, where the header alone could fill it.
    """
    size = parse_size(value)
    if size < 4096:
        raise ValueProblem("a size of at least 4KiB")
    return size


OPTIONS = (
    Key("facility", parse_choice(*FACILITIES), "user", "The facility of every message."),
    Key(
        "max_message_bytes",
        parse_message_size,
        "64KiB",
        "A message is cut to this size, header included: receivers close the connection "
        "(syslog-ng) or cut (rsyslog, at 8 KiB) beyond their own limit. At least 4KiB.",
    ),
    Key(
        "structured_data_id",
        parse_sd_id,
        "sidetail@32473",
        "The name of the structured data, with your private enterprise number if you have one.",
    ),
)
_MIN_TEXT_BYTES = 256
"""Of a message is always sent, however long what stands before it."""
_VARIABLE_BYTES = 160
"""Numbers, time, stream and what else of a head differs from record to record, at most."""


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return SyslogBackend(backend)


class SyslogBackend(TemplateEncoder):
    """A syslog receiver."""

    def __init__(self, settings: BackendSettings) -> None:
        options = settings.options
        facility = FACILITIES.index(options["facility"])
        super().__init__(
            lambda facts: message_template(facts, facility, options["structured_data_id"])
        )
        self._settings = settings
        self._max_message_bytes: int = options["max_message_bytes"]

    def append(self, body: Body, records: Records, limit: int) -> int:
        """Encode as many leading records as keep `body` within `limit`; return how many."""
        return super().append(body, self._shortened(records), limit)

    def encode(self, records: Records) -> bytes:
        """Return all records encoded."""
        return super().encode(self._shortened(records))

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return _Sender(self._settings)

    def _shortened(self, records: Records) -> Records:
        """Return the records with messages that fit the receiver's limit."""
        if len(records.text) <= _MIN_TEXT_BYTES:
            return records
        head = len(self.template(records.facts).literals) + _VARIABLE_BYTES
        return shorten(records, max(_MIN_TEXT_BYTES, self._max_message_bytes - head))


class _Sender:
    def __init__(self, settings: BackendSettings) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._credentials = Credentials(settings.credentials_dir)
        contexts = None
        if settings.url.tls:
            contexts = tls_contexts(self._credentials, insecure=settings.insecure)
        self._stream = StreamConnection(
            settings.url, contexts, allow_link_local=settings.allow_link_local
        )

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Write the batch, and see that the connection outlives it by a second."""
        deadline = time.monotonic() + seconds
        try:
            if self._credentials.refresh():
                self._stream.finish()  # a rotated certificate wants a new connection
            self._stream.open(deadline)
            self._stream.send(batch.pieces(), deadline)
            self._stream.stay(STAY_SECONDS, deadline)
        except CredentialsError as error:
            return Hold(error.reason)
        except (ConnectError, ExchangeError) as error:
            return Retry(error.reason)
        finally:
            self.sent_bytes = self._stream.sent_bytes
        return Delivered()

    def close(self) -> None:
        """Let the receiver read to the end, then close."""
        self._stream.finish()

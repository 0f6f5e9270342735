"""What all backends that speak HTTP share: one request an attempt, and what its status means."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from sidecar.backends.answers import Answer, Delivered, Hold, Refused, Retry, TooLarge
from sidecar.backends.connection import ConnectError, ExchangeError, HttpConnection
from sidecar.backends.credentials import Credentials, CredentialsError, tls_contexts
from sidecar.backends.http_answer import MAX_ANSWER_BYTES, HttpAnswer
from sidecar.batch import Batch, Piece
from sidecar.settings import BackendSettings

_RETRIED = frozenset({408, 425, 429})
_REFUSED = frozenset({400, 422})


class Wire(Protocol):
    """What one backend type adds to a POST."""

    def target(self) -> str:
        """Return path and query."""
        ...

    def headers(self, batch: Batch, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Return the headers beyond Host, Content-Length and Content-Encoding."""
        ...

    def body(self, batch: Batch) -> list[Piece]:
        """Return the pieces of the body, before compression."""
        ...

    def classify(self, answer: HttpAnswer, batch: Batch) -> Answer:
        """Say what a 2xx answer means; other statuses do not come here."""
        ...

    def refused(self, answer: HttpAnswer, batch: Batch) -> Answer:
        """Say what any other status means."""
        ...

    def max_answer_bytes(self, batch: Batch) -> int:
        """Return how much of an answer is worth reading."""
        ...


class PlainWire:
    """The parts of a `Wire` that most types share; each overrides what differs."""

    def max_answer_bytes(self, batch: Batch) -> int:
        """Return 64 KiB: nobody needs more to learn that all is well."""
        del batch
        return MAX_ANSWER_BYTES

    def classify(self, answer: HttpAnswer, batch: Batch) -> Answer:
        """Any 2xx acknowledges the whole batch."""
        del answer, batch
        return Delivered()

    def refused(self, answer: HttpAnswer, batch: Batch) -> Answer:
        """Every status means what it means for any HTTP backend."""
        del batch
        return classify_status(answer)


class HttpSender:
    """One keep-alive connection to an HTTP backend."""

    def __init__(self, settings: BackendSettings, wire: Wire) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._wire = wire
        self._gzip_level = settings.compression_level if settings.compression == "gzip" else None
        self._credentials = Credentials(settings.credentials_dir)
        contexts = None
        if settings.url.tls:
            contexts = tls_contexts(self._credentials, insecure=settings.insecure)
        self._connection = HttpConnection(
            settings.url, contexts, allow_link_local=settings.allow_link_local
        )
        self._packed: tuple[Batch, list[Piece]] | None = None

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """POST the batch once and say what came of it."""
        try:
            if self._credentials.refresh():
                self._connection.close()  # a rotated certificate or token wants a new connection
            headers = list(self._wire.headers(batch, self._credentials))
        except CredentialsError as error:
            return Hold(error.reason)
        if self._gzip_level is not None:
            headers.append(("Content-Encoding", "gzip"))
        body = self._pieces(batch)
        try:
            answer = self._connection.exchange(
                self._wire.target(),
                headers,
                body,
                seconds=seconds,
                max_answer_bytes=self._wire.max_answer_bytes(batch),
            )
        except (ConnectError, ExchangeError) as error:
            return Retry(error.reason)
        self.sent_bytes += sum(map(len, body))
        outcome = self._classify(answer, batch)
        if isinstance(outcome, Hold):
            self._credentials.forget()
        return outcome

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _classify(self, answer: HttpAnswer, batch: Batch) -> Answer:
        if 200 <= answer.status < 300:
            self._packed = None
            return self._wire.classify(answer, batch)
        return self._wire.refused(answer, batch)

    def _pieces(self, batch: Batch) -> list[Piece]:
        if self._gzip_level is None:
            return self._wire.body(batch)
        if self._packed is None or self._packed[0] is not batch:
            self._packed = (batch, [gzip(self._wire.body(batch), self._gzip_level)])
        return self._packed[1]


def gzip(pieces: Sequence[Piece], level: int) -> bytes:
    """Return the pieces as one gzip member; `level` is isal's, 0 to 3."""
    from isal import isal_zlib  # no configuration without gzip pays for it

    packer = isal_zlib.compressobj(level=level, wbits=31)
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join((*packed, packer.flush()))


def classify_status(answer: HttpAnswer, *, wall_clock: Callable[[], float] = time.time) -> Answer:
    """Say what a status outside 2xx means, for any HTTP backend."""
    status = answer.status
    if status in _RETRIED or 500 <= status < 600:
        after = parse_retry_after(answer.headers.get("retry-after"), wall_clock=wall_clock)
        return Retry(f"status_{status}", after)
    if status == 413:
        return TooLarge()
    if status in _REFUSED:
        return Refused(f"status_{status}")
    return Hold(f"status_{status}")


def parse_retry_after(value: str | None, *, wall_clock: Callable[[], float]) -> float | None:
    """Return the seconds that a Retry-After header asks for; None where it makes no sense.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        seconds = parsedate_to_datetime(value).timestamp() - wall_clock()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return seconds if seconds > 0 else None

"""A connection to one broker: greeted and logged in once, then asked one thing at a time.

The messages, their versions and the SASL mechanisms are kafka-python's, which is an optional
extra: this module cannot be imported without it. The socket is ours, as it is for all backends:
every step has its deadline, and no thread is needed.

Source: the Kafka protocol guide.
"""

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)

from sidecar.backends.connection import ExchangeError
from sidecar.backends.kafka_answers import BrokerError
from sidecar.backends.stream import StreamConnection
from sidecar.url import Url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_CLIENT_ID: Final = "sidetail"
_CORRELATION_ID: Final = struct.Struct(">i")
_CORRELATION_IDS: Final = 2**31
_CORRELATION_AT: Final = 8
"""In a framed request: behind its length, its kind and its version."""
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""The metadata of a topic with ten thousand partitions stay below; what is longer is no Kafka."""
_NO_MESSAGE: Final = (
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError),
    *(struct.error, KafkaError),
)
"""What decoding and reading raise where bytes are not what they should be."""
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in by SASL."""

    mechanism: str
    username: str
    password: str = field(repr=False)


class BrokerConnection:
    """One broker; belongs to one thread."""

    def __init__(
        self,
        url: Url,
        tls_context: "Callable[[], ssl.SSLContext] | None",
        login: Login | None,
        *,
        allow_link_local: bool,
    ) -> None:
        self._url = url
        self._login = login
        self._stream = StreamConnection(url, tls_context, allow_link_local=allow_link_local)
        self._versions = BrokerVersionData(api_versions={})
        self._known_versions: dict[type, int] = {}
        self._sent = 0
        """The correlation id of the latest request."""

    @property
    def sent_bytes(self) -> int:
        """Bytes that went out, ever."""
        return self._stream.sent_bytes

    def open(self, deadline: float) -> None:
        """Have a connection that is logged in.

        Raises:
            ConnectError: there is none to be had.
            ExchangeError: it broke, or it is no Kafka.
            BrokerError: the broker does not let us in.
        """
        if not self._stream.open(deadline):
            return
        try:
            self._greet(deadline)
            if self._login is not None:
                self._log_in(self._login, deadline)
        except BrokerError:
            self.close()
            raise

    def version(self, request_class: type, lowest: int, highest: int) -> int:
        """Return the newest version of a request, within bounds, that both sides know.

        Raises:
            BrokerError: there is none.
        """
        known = self._known_versions.get(request_class)
        if known is None:
            try:
                known = self._versions.api_version(request_class, lowest, highest)
            except IncompatibleBrokerVersion as error:
                raise BrokerError("INCOMPATIBLE_BROKER") from error
            self._known_versions[request_class] = known
        return known

    def ask(
        self,
        request: Any,
        response_class: Any,
        deadline: float,
        read: "Callable[[Any], _Read]",
    ) -> _Read:
        """Send a request of kafka-python's, of a fixed version; return what is read of the answer.

        Raises:
            ExchangeError: nobody knows what the broker made of it.
        """
        self.send(memoryview(framed(request)), deadline)
        return self.response(response_class, request.API_VERSION, deadline, read)

    def send(self, request: memoryview, deadline: float) -> None:
        """Send what `framed` gave; its correlation id is written into it.

        Raises:
            ExchangeError: it is unknown how much of it arrived.
        """
        self._sent = (self._sent + 1) % _CORRELATION_IDS
        _CORRELATION_ID.pack_into(request, _CORRELATION_AT, self._sent)
        self._stream.send([request], deadline)

    def response(
        self,
        response_class: Any,
        version: int,
        deadline: float,
        read: "Callable[[Any], _Read]",
    ) -> _Read:
        """Return what `read` makes of the response to the request that was sent last.

        A field may be missing where there should be one: `read` takes all that is wanted.

        Raises:
            ExchangeError: there was none, or it makes no sense.
        """
        frame = self._frame(deadline)
        # The whole header, in all the versions that we ask for.
        if _CORRELATION_ID.unpack_from(frame) != (self._sent,):
            raise self._broken("a response to something else")
        try:
            return read(response_class.decode(frame[_CORRELATION_ID.size :], version=version))
        except _NO_MESSAGE as error:
            raise self._broken("not a response") from error

    def close(self) -> None:
        """Close the connection; the next `open` makes a new one."""
        self._stream.close()

    def _frame(self, deadline: float) -> bytes:
        received = bytearray()
        length = 4
        while len(received) < length:
            received += self._stream.receive(deadline)
            if length == 4 <= len(received):
                length += int.from_bytes(received[:4], "big", signed=True)
                if not 8 <= length <= _MAX_ANSWER_BYTES:
                    raise self._broken(f"a response of {length} bytes")
        if len(received) > length:
            raise self._broken("more than was asked for")
        return bytes(received[4:])

    def _broken(self, detail: str) -> ExchangeError:
        self.close()
        return ExchangeError("protocol", detail)

    def _greet(self, deadline: float) -> None:
        request = ApiVersionsRequest(version=0)
        code, ranges = self.ask(
            request, ApiVersionsResponse, deadline, lambda said: (said.error_code, _ranges(said))
        )
        check(code)
        self._versions = BrokerVersionData(api_versions=ranges)
        self._known_versions.clear()

    def _log_in(self, login: Login, deadline: float) -> None:
        request = SaslHandshakeRequest(version=1, mechanism=login.mechanism)
        check(self.ask(request, SaslHandshakeResponse, deadline, lambda said: said.error_code))
        mechanism = get_sasl_mechanism(login.mechanism)(
            sasl_mechanism=login.mechanism,
            sasl_plain_username=login.username,
            sasl_plain_password=login.password,
        )
        try:
            while not mechanism.is_done():
                request = SaslAuthenticateRequest(version=0, auth_bytes=mechanism.auth_bytes())
                code, token = self.ask(
                    request,
                    SaslAuthenticateResponse,
                    deadline,
                    lambda said: (said.error_code, said.auth_bytes),
                )
                check(code)
                mechanism.receive(token)
        except _NO_MESSAGE as error:  # a server that does not know the password either
            raise BrokerError("SASL_AUTHENTICATION_FAILED") from error
        if not mechanism.is_authenticated():
            raise BrokerError("SASL_AUTHENTICATION_FAILED")


def _ranges(response: Any) -> dict[int, tuple[int, int]]:
    """Return the first and the last version of each kind of request that a broker knows."""
    return {row.api_key: (row.min_version, row.max_version) for row in response.api_keys or ()}


def framed(request: Any) -> bytearray:
    """Return a request of kafka-python's, framed, with its header; its correlation id is 0."""
    request.with_header(correlation_id=0, client_id=_CLIENT_ID)
    encoded: bytearray = request.encode(header=True, framed=True)
    return encoded


def error_name(code: int) -> str:
    """Return Kafka's name of an error code."""
    name: str = for_code(code).message
    return name if name != "UNKNOWN" or code == -1 else f"ERROR_{code}"


def check(code: int) -> None:
    """Do nothing if all is well.

    Raises:
        BrokerError: `code` is an error's.
    """
    if code:
        raise BrokerError(error_name(code))

"""The serving certificate: pairs of PEM come in, the TLS context in force goes out.

A pair is tried in a scratch context, with a real handshake in memory, before the live one sees it.
Where a client CA was given, only clients with a certificate of that CA are let in.
"""

import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_SESSIONS = 250
"""Sessions of TLS 1.2 clients without tickets that a context may remember; see `trim`."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; TLS 1.3 has its own."""


class PairError(ValueError):
    """A certificate and key that cannot be served."""


@dataclass(frozen=True, slots=True)
class _Pair:
    cert_pem: bytes
    key_pem: bytes


class Certificates:
    """Holds the pair in force; `offer` may be called from any thread."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        """For new connections; None until a pair was good. Old connections keep their own."""
        self.not_after: float | None = None
        """Seconds since 1970 at which the pair in force expires."""
        self.load_failures = 0
        """Pairs that were offered and could not be used."""
        self._pair: _Pair | None = None
        self._client_ca: str | None = None
        self._lock = threading.Lock()

    def offer(self, cert_pem: bytes, key_pem: bytes) -> str | None:
        """Serve new connections with this pair; return why it cannot be served, None if it is.

        A pair that is torn, does not match, has expired or is not yet valid changes nothing but
        `load_failures`.
        """
        pair = _Pair(cert_pem, key_pem)
        with self._lock:
            if pair == self._pair:
                return None
            try:
                not_after = _try_handshake(_server_context(pair), cert_pem)
                context = _server_context(pair, self._client_ca)
            except PairError as error:
                self.load_failures += 1
                return str(error)
            self._pair, self.context, self.not_after = pair, context, not_after
            return None

    def require(self, client_ca: bytes) -> str | None:
        """Let in only clients with a certificate of these CAs (PEM) from now on.

        Returns why they cannot be used, None if they are in force. Old connections stay.
        """
        try:
            text = client_ca.decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            return f"got {getattr(error, 'reason', None) or type(error).__name__}"
        with self._lock:
            self._client_ca = text
            if self._pair is not None:
                self.context = _server_context(self._pair, text)
        return None

    def trim(self) -> None:
        """Forget the remembered sessions once they are many.

        OpenSSL keeps up to 20,480 of clients that know no tickets, and Python has no switch for
        it: strangers could make us hold them.
        """
        with self._lock:
            if self.context is None or self._pair is None:
                return
            if self.context.session_stats()["number"] > MAX_SESSIONS:
                self.context = _server_context(self._pair, self._client_ca)

    def is_valid_at(self, now: float) -> bool:
        """Return whether a pair is in force that has not expired at `now` (seconds since 1970)."""
        return self.context is not None and self.not_after is not None and now < self.not_after


def _server_context(pair: _Pair, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # HTTP/2 is never negotiated (CVE-2023-44487); a client that offers only `h2` gets HTTP/1.1.
    context.set_alpn_protocols(["http/1.1"])
    # API servers keep their connections and resume none: tickets would be work for nobody.
    context.num_tickets = 0
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    try:
        with _as_file(pair.cert_pem + b"\n" + pair.key_pem) as path:
            context.load_cert_chain(path, password=_refuse_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise PairError(f"serving certificate: got {reason}, expected a PEM pair") from error
    return context


def _refuse_password() -> str:
    # Without a callback OpenSSL would ask for an encrypted key's password at the terminal.
    raise ValueError("an encrypted key")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give `content` a path, as OpenSSL reads keys from files only; in memory on Linux."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(content)
        named.flush()
        yield named.name


def _try_handshake(context: ssl.SSLContext, cert_pem: bytes) -> float:
    """Shake hands with ourselves as a client that trusts just this leaf; return its notAfter.

    Raises:
        PairError: the handshake fails: the leaf has expired, is not yet valid, is not for servers.
    """
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    # The leaf itself is what is trusted here: who signed it is the API server's business.
    client_context.verify_flags = ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client_context.load_verify_locations(cadata=cert_pem.decode("ascii"))
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(to_server, to_client, server_side=True)
        client = client_context.wrap_bio(to_client, to_server)
        for _ in range(4):
            client_done = _step(client)
            _step(server)
            if client_done:
                break
        certificate = client.getpeercert()
    except (OSError, ValueError) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
        raise PairError(
            f"serving certificate: got {reason or type(error).__name__}, expected a valid pair"
        ) from error
    return float(ssl.cert_time_to_seconds(str((certificate or {})["notAfter"])))


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True

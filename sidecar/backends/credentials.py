"""A backend's Secret, mounted as files: read when it changed, never shown anywhere."""

import base64
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

FILES = ("token", "username", "password", "api-key", "ca.crt", "tls.crt", "tls.key")
_MAX_BYTES = 1024 * 1024


class CredentialsError(Exception):
    """The folder that the operator named holds nothing usable; `reason` names what is missing."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Credentials:
    """The files of one folder, or none.

    A mounted Secret changes by a swapped link; a change is seen by the files' own stat.
    """

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._seen: object = None
        self._values: dict[str, bytes] = {}

    def refresh(self) -> bool:
        """Read the files again if they changed; return whether they did.

        Raises:
            CredentialsError: the folder is missing or holds none of the known files.
        """
        if self._directory is None:
            return False
        signature = tuple(self._signature(name) for name in FILES)
        if not any(signature):
            raise CredentialsError("credentials_missing")
        if signature == self._seen:
            return False
        self._values = {
            name: self._read(name) for name, there in zip(FILES, signature, strict=True) if there
        }
        changed = self._seen is not None
        self._seen = signature
        return changed

    def forget(self) -> None:
        """Read the files again at the next refresh, whatever their stat says."""
        self._seen = () if self._seen is not None else None

    def text(self, name: str) -> str | None:
        """Return a file's text without its surrounding white space, or None."""
        value = self._values.get(name)
        return None if value is None else value.decode("utf-8", "replace").strip()

    def path(self, name: str) -> str | None:
        """Return a file's path if it is there."""
        if self._directory is None or name not in self._values:
            return None
        return os.path.join(self._directory, name)

    def authorization(self) -> list[tuple[str, str]]:
        """Return the header that the files give: a bearer token, else user and password."""
        token = self.text("token")
        if token:
            return [("Authorization", f"Bearer {_printable(token)}")]
        username = self.text("username")
        if username is not None:
            pair = f"{username}:{self.text('password') or ''}".encode()
            return [("Authorization", "Basic " + base64.b64encode(pair).decode())]
        return []

    def api_key(self) -> str | None:
        """Return the API key, if there is one."""
        key = self.text("api-key")
        return None if key is None else _printable(key)

    def _signature(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(os.path.join(self._directory or "", name))
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self._directory or "", name), "rb") as file:
                return file.read(_MAX_BYTES)
        except OSError as error:
            raise CredentialsError(f"credentials_unreadable_{name}") from error


def _printable(secret: str) -> str:
    """Return the secret, or raise: it becomes a header, and must not become two."""
    if not secret.isascii() or not secret.isprintable():
        raise CredentialsError("credentials_not_printable")
    return secret


def tls_contexts(credentials: Credentials, *, insecure: bool) -> "Callable[[], ssl.SSLContext]":
    """Return a function that gives the TLS context of the files as they are now.

    TLS 1.2 or newer; the server's certificate is checked against `ca.crt`, or the system's CAs
    where there is none; `tls.crt` with `tls.key` is the client's certificate.
    """
    import ssl

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=credentials.path("ca.crt"))
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        certificate = credentials.path("tls.crt")
        if certificate is not None:
            made.load_cert_chain(certificate, credentials.path("tls.key"))
        return made

    return context

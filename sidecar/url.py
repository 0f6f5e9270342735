"""A backend's address, split and checked once; never with credentials in it."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.settings import ValueProblem

_DEFAULT_PORTS = {
    "http": 80,
    "https": 443,
    "tcp": 514,
    "tls": 6514,
    "forward": 24224,
    "kafka": 9092,
}
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}", re.ASCII)
_TARGET = re.compile(r"[!-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Url:
    """Where a backend listens, or, with the scheme `file`, a directory in `path`."""

    scheme: str
    host: str
    """A name or an address, an IPv6 address without its brackets."""
    port: int
    path: str
    """The path and, behind `?`, the query; printable ASCII, empty where there is none."""

    @property
    def tls(self) -> bool:
        """True where the scheme asks for TLS."""
        return self.scheme in ("https", "tls")

    @property
    def authority(self) -> str:
        """Return `host` or `host:port`, as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"


def parse_url(value: object) -> Url:
    """Return the address that `value` names.

    Raises:
        ValueProblem: it is no URL of a known scheme, or holds a user, a password or a fragment.
            The text never repeats the value: a password in it would be shown.
    """
    expected = "a URL such as https://host:port/path, without user, password or fragment"
    if not isinstance(value, str) or not _TARGET.fullmatch(value) or len(value) > 2048:
        raise ValueProblem(expected)
    if value.startswith("/"):
        value = "file://" + value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueProblem(expected) from None
    if "@" in parts.netloc or "#" in value or "\\" in value:
        raise ValueProblem(expected)
    path = parts.path + ("?" + parts.query if parts.query else "")
    if parts.scheme == "file" and not parts.netloc and path.startswith("/"):
        return Url("file", "", 0, parts.path)
    host = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host) or port == 0:
        raise ValueProblem(expected)
    return Url(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path)

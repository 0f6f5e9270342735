"""The operator's backends: parsed at the door, handed to a sidecar without any secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import urlsplit

from contract.names import BACKENDS_DIR
from contract.sidecar_config import BACKEND_TYPES, COMPRESSIONS
from runtime.settings import Problem, ValueProblem, nearest, parse_boolean, parse_choice
from webhook.credentials import looks_like_credential, names_credential

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?")
_SECRET_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_CORE = ("name", "type", "url", "compression", "credentials", "allow_link_local", "insecure")
_WITHOUT_URL = ("stdout", "file")
_SCHEMES = ("http", "https", "tcp", "tls", "forward", "kafka", "file")
_NAT64 = int(IPv6Address("64:ff9b::")) >> 32


@dataclass(frozen=True, slots=True)
class Backend:
    """One place where lines go, as the operator named it."""

    name: str
    document: Mapping[str, Any]
    """As in the sidecar's configuration; `$namespace` is still to be replaced."""
    secret: str | None
    """The Secret in the pod's own namespace that holds its credentials."""
    host: str
    """Empty where there is none."""

    def document_for(self, namespace: str) -> dict[str, Any]:
        """Return the document for pods of `namespace`."""
        return {key: _fill(value, namespace) for key, value in self.document.items()}


def _fill(value: Any, namespace: str) -> Any:
    if isinstance(value, str):
        return value.replace("$namespace", namespace)
    if isinstance(value, dict):
        return {key: _fill(inner, namespace) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, namespace) for inner in value]
    return value


def read_backends(rows: object, problems: list[Problem]) -> dict[str, Backend]:
    """Return the backends by name, in the operator's order; what is wrong goes to `problems`."""
    if not isinstance(rows, list) or not rows:
        problems.append(Problem("backends", _kind(rows), "a list of at least one backend"))
        return {}
    backends: dict[str, Backend] = {}
    for index, row in enumerate(rows):
        where = f"backends[{index}]"
        before = len(problems)
        if not isinstance(row, dict) or not all(isinstance(key, str) for key in row):
            problems.append(Problem(where, _kind(row), "an object with name, type and url"))
            continue
        backend = _backend(where, row, problems)
        if backend.name in backends:
            problems.append(Problem(f"{where}.name", repr(backend.name), "each name once"))
        if len(problems) == before:
            backends[backend.name] = backend
    return backends


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _backend(where: str, row: dict[str, Any], problems: list[Problem]) -> Backend:
    name, kind = row.get("name"), row.get("type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "1 to 40 lower-case letters, digits and '-'"
        problems.append(Problem(f"{where}.name", ascii(name)[:60], expected))
    if kind not in BACKEND_TYPES:
        near = nearest(kind, BACKEND_TYPES) if isinstance(kind, str) else None
        expected = "one of " + ", ".join(BACKEND_TYPES) + (f"; {near}?" if near else "")
        problems.append(Problem(f"{where}.type", ascii(kind)[:60], expected))
    host = _host(where, row, problems)
    secret = _secret(where, row.get("credentials"), problems)
    _check_choices(where, row, problems)
    _check_for_secrets(where, row, problems)
    document = {key: value for key, value in row.items() if key != "credentials"}
    if secret is not None:
        document["credentials"] = {"dir": f"{BACKENDS_DIR}/{name}"}
    return Backend(str(name), document, secret, host)


def _check_choices(where: str, row: dict[str, Any], problems: list[Problem]) -> None:
    parsers = {
        "compression": parse_choice(*COMPRESSIONS),
        "allow_link_local": parse_boolean,
        "insecure": parse_boolean,
    }
    for key, parse in parsers.items():
        try:
            if key in row:
                parse(row[key])
        except ValueProblem as problem:
            problems.append(Problem(f"{where}.{key}", ascii(row[key])[:60], str(problem)))
    near = {key: nearest(key, _CORE) for key in row if key not in _CORE}
    for key, meant in near.items():
        # Options of the type itself are the sidecar's to check; a slip in a common one is ours.
        if meant is not None and meant not in row:
            problems.append(Problem(f"{where}.{key}", "an unknown key", f"{meant}?"))


def _secret(where: str, credentials: object, problems: list[Problem]) -> str | None:
    if credentials is None:
        return None
    secret = credentials.get("secret") if isinstance(credentials, dict) else None
    if (
        not isinstance(credentials, dict)
        or set(credentials) != {"secret"}
        or not isinstance(secret, str)
        or not _SECRET_NAME.fullmatch(secret)
    ):
        expected = "{secret: NAME}, a Secret in the namespace of each pod"
        problems.append(Problem(f"{where}.credentials", "(not shown)", expected))
        return None
    return secret


def _check_for_secrets(where: str, row: dict[str, Any], problems: list[Problem]) -> None:
    """A backend's document stands in every pod's spec, which many may read."""
    stack: list[tuple[str, Any]] = [(key, row[key]) for key in row if key != "credentials"]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{key}.{inner}", value[inner]) for inner in value]
        elif isinstance(value, list):
            stack += [(key, inner) for inner in value]
        elif isinstance(value, str) and (
            looks_like_credential(value) or names_credential(key.rpartition(".")[2])
        ):
            expected = "no secret here: credentials: {secret: NAME}"
            problems.append(Problem(f"{where}.{key}", "(not shown)", expected))


def _host(where: str, row: dict[str, Any], problems: list[Problem]) -> str:
    url = row.get("url")
    if url is None and row.get("type") in _WITHOUT_URL:
        return ""
    try:
        host = parse_host(url)
        if is_link_local(host) and row.get("allow_link_local") is not True:
            problems.append(
                Problem(
                    f"{where}.url",
                    "a link-local address",
                    "another one, or allow_link_local: true (clouds keep secrets there)",
                )
            )
    except ValueProblem as problem:
        problems.append(Problem(f"{where}.url", "(not shown)", str(problem)))
        return ""
    return host


def parse_host(url: object) -> str:
    """Return the host of a backend's URL; empty for a folder.

    Raises:
        ValueProblem: it is no URL, or holds a user, a password or a fragment. The text never
            repeats the URL.
    """
    expected = "a URL such as https://host:port/path, without user, password or fragment"
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]{1,2048}", url):
        raise ValueProblem(expected)
    if url.startswith("/") and not url.startswith("//"):
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueProblem(expected) from None
    host = parts.hostname or ""
    if parts.scheme not in _SCHEMES or "@" in parts.netloc or "#" in url or "\\" in url:
        raise ValueProblem(expected)
    if parts.scheme == "file":
        return ""
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueProblem(expected)
    return host


def is_link_local(host: str) -> bool:
    """Return whether `host` is a link-local address in any spelling that resolvers take.

    >>> [is_link_local(host) for host in ("169.254.169.254", "2852039166", "0xa9.254.1", "loki")]
    [True, True, True, False]
    """
    if ":" not in host:
        address = _loose_ipv4(host)
        return address is not None and address.is_link_local
    try:
        whole = IPv6Address(host)
    except ValueError:
        return False
    inner = whole.ipv4_mapped or whole.sixtofour
    if int(whole) >> 32 == _NAT64:
        inner = IPv4Address(int(whole) & 0xFFFFFFFF)
    return whole.is_link_local or (inner is not None and inner.is_link_local)


def _loose_ipv4(host: str) -> IPv4Address | None:
    """Return the address that inet_aton makes of one to four numbers, decimal, octal or hex."""
    try:
        numbers = [_number(part) for part in host.split(".")]
        head, last = numbers[:-1], numbers[-1]
        if len(head) > 3 or any(number > 255 for number in head):
            return None
        shifted = sum(number << (24 - 8 * place) for place, number in enumerate(head))
        return IPv4Address(shifted + last) if last < 1 << (32 - 8 * len(head)) else None
    except ValueError:
        return None


def _number(text: str) -> int:
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,11}", text, re.ASCII):
        raise ValueError
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8 if text.startswith("0") else 10)

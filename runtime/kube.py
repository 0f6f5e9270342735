"""The one door to an API server: raw JSON paths and objects, a deadline on every call.

No type of Kubernetes' is modelled here: objects are the plain dicts that the server sent, so
fields that we have never heard of survive (design D9). Each call has a connection of its own:
calls are seconds apart, and a connection that is not kept cannot have gone stale.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import h11

from runtime.kube_access import Access, AccessError
from runtime.stop import Stop

Json = dict[str, Any]

CALL_SECONDS = 10.0
"""From the first byte sent to the last one received."""
WATCH_SECONDS = 300.0
"""A watch is ended by the server after so long; the caller begins the next one."""
PAGE = 250
"""Objects of a list that are asked for at a time: some nodes are 20 KB each."""
MAX_BODY = 64 * 1024 * 1024
"""Bytes of one answer, or of one event of a watch."""

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""An `accept` for lists of which only `metadata` is needed."""
METADATA_EVENTS = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""The same for watches and single objects; with the other one an API server ends a watch before
its first event."""

_STOP_SECONDS = 0.5
"""So often a wait for the server looks at `stop`."""


class KubeError(Exception):
    """A call that did not do what it should have; the root of the two below."""


class UnreachableError(KubeError):
    """No answer, or none that could be read: the call may have had its effect or not."""


class StatusError(KubeError):
    """The server's answer was no."""

    def __init__(self, where: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{where}: got {status} {reason} {message[:200]!r}, expected success")
        self.status = status
        """The HTTP status: 403, 404, 409 (exists, or another wrote first), 410 (too old), 422."""
        self.reason = reason
        """`Status.reason`, such as `AlreadyExists`; empty if the server gave none."""
        self.message = message
        """`Status.message` in full, which may be long."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes
    content_type: str
    accept: str

    @property
    def where(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


class KubeApi:
    """Calls to one API server; any number of threads may use it at once."""

    def __init__(self, access: Access, *, seconds: float = CALL_SECONDS) -> None:
        self._access = access
        self._seconds = seconds

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = "application/json",
    ) -> Json:
        """Return the object at `path`, such as `/api/v1/namespaces/shop`.

        Raises:
            StatusError: 404 and every other answer but success.
            UnreachableError: there was no answer in time.
        """
        return self._call("GET", path, params, accept=accept)

    def create(self, path: str, body: Json, params: Mapping[str, str] | None = None) -> Json:
        """Create `body` in the collection `path`; return it as stored. Raises as `get`."""
        return self._call("POST", path, params, body=body)

    def replace(self, path: str, body: Json) -> Json:
        """Replace the object at `path`; 409 if its resourceVersion is not the stored one's."""
        return self._call("PUT", path, None, body=body)

    def patch(self, path: str, operations: Sequence[Json]) -> Json:
        """Apply a JSON patch (RFC 6902) to the object at `path`; return it as stored.

        A `test` operation that fails is status 422.
        """
        return self._call(
            "PATCH", path, None, body=list(operations), content_type="application/json-patch+json"
        )

    def pages(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = "application/json",
    ) -> Iterator[Json]:
        """Yield the list at `path` page by page: `items[]`, `metadata.resourceVersion`.

        Raises as `get`; 410 if the list grew too old between two pages: begin again.
        """
        asked = {"limit": str(PAGE)} | dict(params or {})
        while True:
            page = self._call("GET", path, asked, accept=accept)
            yield page
            more = page.get("metadata", {}).get("continue")
            if not more:
                return
            asked["continue"] = more

    def watch(
        self,
        path: str,
        *,
        resource_version: str,
        stop: Stop,
        params: Mapping[str, str] | None = None,
        accept: str = "application/json",
        seconds: float = WATCH_SECONDS,
    ) -> Iterator[Json]:
        """Yield the events of the collection `path` after `resource_version`: `type`, `object`.

        Ends when the server ends the watch, after `seconds` at most, or when stop is asked; then
        the caller goes on from the last event's `object.metadata.resourceVersion` (a `BOOKMARK`
        has nothing else). An `ERROR` event is raised.

        Raises:
            StatusError: 410 if `resource_version` is too old: list again.
            UnreachableError: the connection broke.
        """
        asked = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        request = _request("GET", path, {**(params or {}), **asked}, b"", "", accept)
        with _Connection(self._access, request, self._seconds) as connection:
            connection.begin(stop=stop)
            connection.give_until(time.monotonic() + seconds + self._seconds)
            for line in connection.lines():
                event = _parsed(request.where, line)
                if event.get("type") == "ERROR":
                    raise _refusal(request.where, 0, event.get("object"))
                yield event

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        *,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        encoded = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        request = _request(method, path, params, encoded, content_type, accept)
        with _Connection(self._access, request, self._seconds) as connection:
            connection.begin()
            return _parsed(request.where, connection.whole())


def _request(
    method: str,
    path: str,
    params: Mapping[str, str] | None,
    body: bytes,
    content_type: str,
    accept: str,
) -> _Request:
    query = f"?{urlencode(params)}" if params else ""
    return _Request(method, path + query, body, content_type, accept)


class _Connection:
    """One request and its answer; every wait ends at the deadline or when stop is asked."""

    def __init__(self, access: Access, request: _Request, seconds: float) -> None:
        self._access = access
        self._request = request
        self._deadline = time.monotonic() + seconds
        self._stop: Stop | None = None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 * 1024)
        self._socket: socket.socket | None = None

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *error: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def give_until(self, deadline: float) -> None:
        """Move the deadline (monotonic seconds)."""
        self._deadline = deadline

    def begin(self, *, stop: Stop | None = None) -> None:
        """Send the request and read the answer's head; a refusal is raised with its body."""
        self._stop = stop
        try:
            self._socket = self._connect()
            self._send()
        except (OSError, ValueError, AccessError) as error:
            raise self._unreachable(error) from error
        head = self._next_event()
        while isinstance(head, h11.InformationalResponse):
            head = self._next_event()
        if not isinstance(head, h11.Response):
            raise self._unreachable("no answer")
        if not 200 <= head.status_code < 300:
            raise _refusal(self._request.where, head.status_code, _lenient(self.whole()))

    def whole(self) -> bytes:
        """Return the answer's body."""
        parts, size = [], 0
        for part in self._parts():
            size += len(part)
            if size > MAX_BODY:
                raise self._unreachable("a body over the limit")
            parts.append(part)
        return b"".join(parts)

    def lines(self) -> Iterator[bytes]:
        """Yield the answer's lines as they come."""
        rest = b""
        for part in self._parts():
            *whole, rest = (rest + part).split(b"\n")
            yield from (line for line in whole if line)
            if len(rest) > MAX_BODY:
                raise self._unreachable("an event over the limit")

    def _connect(self) -> socket.socket:
        access = self._access
        plain = socket.create_connection(access.proxy or (access.host, access.port), self._left())
        try:
            if access.proxy is not None:
                self._open_tunnel(plain)
            if access.tls is None:
                return plain
            plain.settimeout(self._left())
            return access.tls().wrap_socket(plain, server_hostname=access.server_name)
        except BaseException:
            plain.close()
            raise

    def _open_tunnel(self, plain: socket.socket) -> None:
        target = f"{_bracketed(self._access.host)}:{self._access.port}"
        plain.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            plain.settimeout(self._left())
            # Byte by byte: what follows the head belongs to TLS.
            byte = plain.recv(1)
            if not byte or len(answer) > 8192:
                raise ConnectionError("the proxy opened no tunnel")
            answer += byte
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            raise ConnectionError("the proxy refused the tunnel")

    def _send(self) -> None:
        request, access = self._request, self._access
        headers = [
            ("Host", f"{_bracketed(access.host)}:{access.port}"),
            ("Accept", request.accept),
            ("User-Agent", "sidetail"),
            ("Connection", "close"),
        ]
        authorization = access.authorization()
        if authorization:
            headers.append(("Authorization", authorization))
        if request.body:
            headers.append(("Content-Type", request.content_type))
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(
            method=request.method, target=access.base_path + request.path, headers=headers
        )
        content = self._http.send(head)
        if request.body:
            content += self._http.send(h11.Data(data=request.body))
        content += self._http.send(h11.EndOfMessage())
        connected = self._open_socket()
        connected.settimeout(self._left())
        connected.sendall(content)

    def _parts(self) -> Iterator[bytes]:
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) or event is _Stopped:
                return
            else:
                raise self._unreachable("the answer broke off")

    def _next_event(self) -> object:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                received = self._receive()
                if received is None:
                    return _Stopped
                self._http.receive_data(received)
        except (OSError, h11.RemoteProtocolError) as error:
            raise self._unreachable(error) from error

    def _receive(self) -> bytes | None:
        """Return what the server sent, b"" at its end, None when stop was asked."""
        connected = self._open_socket()
        while True:
            if self._stop is not None and self._stop.asked:
                return None
            left = self._left()
            connected.settimeout(left if self._stop is None else min(left, _STOP_SECONDS))
            try:
                return connected.recv(64 * 1024)
            except TimeoutError:
                continue  # `_left` ends it

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionError("not connected")
        return self._socket

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ConnectionError("no answer in time")
        return left

    def _unreachable(self, error: Exception | str) -> UnreachableError:
        got = error if isinstance(error, str) else f"{type(error).__name__} {str(error)[:200]!r}"
        return UnreachableError(f"{self._request.where}: got {got}, expected an answer")


class _Stopped:
    """Stands for an event where the wait for one was ended by stop."""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parsed(where: str, body: bytes) -> Json:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreachableError(f"{where}: got no JSON, expected an object") from error
    if not isinstance(parsed, dict):
        raise UnreachableError(f"{where}: got {type(parsed).__name__}, expected an object")
    return parsed


def _lenient(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _refusal(where: str, status: int, body: object) -> StatusError:
    """Return the error for a refusal, whose body should be a `Status` object."""
    fields = body if isinstance(body, dict) else {}
    code = status or fields.get("code")
    return StatusError(
        where,
        code if isinstance(code, int) else 500,
        str(fields.get("reason") or ""),
        str(fields.get("message") or ""),
    )

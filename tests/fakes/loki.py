"""A Loki that takes the push API by the letter, keeps what it stores, and has Loki's own habits.

It is the rule of a `tests.fakes.backend.Backend`:

    with Backend() as backend:
        loki = Loki()
        backend.answers(loki)

Its habits, as seen at the real one (3.x): it stores what it can of a request and answers 400 for
the rest; where a request has several streams, it answers for the last of them only; an entry
whose time and text equal one that it has is dropped in silence.
"""

import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from tests.fakes.backend import Answer, Request, status

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
SECOND = 1_000_000_000


class _MalformedError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Entry:
    """One line as it is stored."""

    time: int
    """Nanoseconds since the epoch."""
    line: str
    metadata: tuple[tuple[str, str], ...]


Labels = tuple[tuple[str, str], ...]


@dataclass
class Loki:
    """The server's state and limits."""

    window_seconds: float = 3600.0
    """How far an entry may lie behind the newest of its stream."""
    oldest: int | None = None
    """Entries before this time are too old for any stream (nanoseconds)."""
    newest: int | None = None
    """Entries after this time are too new."""
    max_line_bytes: int = 256 * 1024
    tenant: str | None = None
    streams: dict[Labels, list[Entry]] = field(default_factory=dict)
    duplicates: int = 0
    """Entries that were dropped because they were there already."""
    ignored: int = 0
    """Entries that were refused for good."""
    violations: list[str] = field(default_factory=list)
    """What was not as the protocol has it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        """Take one request."""
        with self._lock:
            try:
                streams = self._parse(request)
            except (_MalformedError, ValueError) as error:
                self.violations.append(str(error))
                return status(400, body=str(error).encode())
            refusal = self._validate(streams)
            for labels, entries in streams:
                ignored = self._push(labels, entries)
                # Only the last stream's word is kept, as in the real one.
                refusal = ignored if streams[-1][0] == labels and ignored else refusal
            return status(400, body=refusal) if refusal else Answer(status=204, stored=True)

    @property
    def entries(self) -> list[Entry]:
        """All entries of all streams."""
        return [entry for entries in self.streams.values() for entry in entries]

    def _parse(self, request: Request) -> list[tuple[Labels, list[Entry]]]:
        _require(request.method == "POST", f"method {request.method}")
        _require(request.target == "/loki/api/v1/push", f"target {request.target}")
        _require(request.header("content-type") == "application/json", "content type")
        _require(request.header("x-scope-orgid") == self.tenant, "tenant")
        document = orjson.loads(request.text)
        _require(isinstance(document, dict) and set(document) == {"streams"}, "document")
        _require(bool(document["streams"]), "no streams")
        return [_stream(stream) for stream in document["streams"]]

    def _validate(self, streams: list[tuple[Labels, list[Entry]]]) -> bytes:
        """Leave out the entries that no stream may have; return the words for them."""
        errors: dict[str, int] = {}
        for labels, entries in streams:
            for entry in list(entries):
                error = self._invalid(labels, entry)
                if error is not None:
                    errors[error] = errors.get(error, 0) + 1
                    entries.remove(entry)
                    self.ignored += 1
        if len(errors) == 1 and set(errors.values()) == {1}:
            return next(iter(errors)).encode()
        return "; ".join(
            f"{count} errors like: {error}" for error, count in errors.items()
        ).encode()

    def _invalid(self, labels: Labels, entry: Entry) -> str | None:
        shown = "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}"
        if self.oldest is not None and entry.time < self.oldest:
            return (
                f"entry for stream '{shown}' has timestamp too old: {_rfc3339(entry.time)}, "
                f"oldest acceptable timestamp is: {_rfc3339(self.oldest)}"
            )
        if self.newest is not None and entry.time > self.newest:
            return f"entry for stream '{shown}' has timestamp too new: {_rfc3339(entry.time)}"
        if len(entry.line.encode()) > self.max_line_bytes:
            return (
                f"max entry size '{self.max_line_bytes}' bytes exceeded for stream '{shown}' while "
                f"adding an entry with length '{len(entry.line.encode())}' bytes"
            )
        return None

    def _push(self, labels: Labels, entries: list[Entry]) -> bytes:
        stored = self.streams.setdefault(labels, [])
        known = {(entry.time, entry.line) for entry in stored}
        highest = max((entry.time for entry in stored), default=None)
        behind = []
        for entry in entries:
            cutoff = None if highest is None else highest - int(self.window_seconds * SECOND)
            if cutoff is not None and entry.time < cutoff:
                behind.append((entry, cutoff))
            elif (entry.time, entry.line) in known:
                self.duplicates += 1
            else:
                known.add((entry.time, entry.line))
                stored.append(entry)
                highest = max(highest or entry.time, entry.time)
        self.ignored += len(behind)
        if not behind:
            return b""
        said = "".join(
            f"entry with timestamp {_rfc3339(entry.time)} ignored, reason: 'entry too far behind, "
            f"entry timestamp is: {_rfc3339(entry.time)}, oldest acceptable timestamp is: "
            f"{_rfc3339(cutoff)}',\n"
            for entry, cutoff in behind[:10]
        )
        total = f"user 'fake', total ignored: {len(behind)} out of {len(entries)} for stream: x"
        return (said + total).encode()


def _stream(stream: Any) -> tuple[Labels, list[Entry]]:
    _require(isinstance(stream, dict) and set(stream) == {"stream", "values"}, "stream's keys")
    labels, values = stream["stream"], stream["values"]
    _require(_is_strings(labels) and bool(labels), "labels")
    _require(len(labels) <= 15, "too many labels")
    for name, value in labels.items():
        _require(bool(_LABEL.fullmatch(name)) and len(value.encode()) <= 2048, f"label {name}")
    _require(isinstance(values, list) and bool(values), "values")
    return tuple(sorted(labels.items())), [_entry(value) for value in values]


def _entry(value: Any) -> Entry:
    _require(isinstance(value, list) and len(value) in (2, 3), "entry")
    time, line, *metadata = value
    _require(isinstance(time, str) and time.isascii() and time.isdigit(), "time")
    _require(isinstance(line, str), "line")
    found = metadata[0] if metadata else {}
    _require(_is_strings(found), "structured metadata")
    _require(all(_LABEL.fullmatch(name) for name in found), "name of structured metadata")
    return Entry(int(time), line, tuple(sorted(found.items())))


def _is_strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise _MalformedError(f"not a push: {what}")


def _rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time // SECOND, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

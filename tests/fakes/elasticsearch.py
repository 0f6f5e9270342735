"""A cluster that takes the bulk API by the letter and keeps one document for each id.

It is the rule of a `tests.fakes.backend.Backend`. Its answers are filtered as `filter_path` asks.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from tests.fakes.backend import Answer, Request, status

Document = dict[str, Any]
Decide = Callable[[Document], int]


def _create(document: Document) -> int:
    return 201


@dataclass
class Cluster:
    """The documents, by index and id."""

    decide: Decide = _create
    """Says with which status a new document is answered; 201 stores it."""
    indices: dict[str, dict[str, Document]] = field(default_factory=dict)
    offered: list[tuple[str, int]] = field(default_factory=list)
    """(id, status) of every item ever, in their order."""
    violations: list[str] = field(default_factory=list)
    honours_filter: bool = True
    pipelines: list[str | None] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        """Take one request."""
        with self._lock:
            try:
                actions = _parse(request)
            except (ValueError, KeyError, TypeError) as error:
                self.violations.append(repr(error))
                return status(400, body=b'{"error":{"type":"illegal_argument_exception"}}')
            query = parse_qs(urlsplit(request.target).query)
            self.pipelines.append(query.get("pipeline", [None])[0])
            statuses = [self._take(*action) for action in actions]
            filtered = self.honours_filter and "filter_path" in query
            body = self._answer(actions, statuses, filtered=filtered)
            headers = (("Content-Type", "application/json"),)
            return Answer(headers=headers, body=body, stored=any(code == 201 for code in statuses))

    @property
    def documents(self) -> dict[str, Document]:
        """All documents by id."""
        return {key: document for index in self.indices.values() for key, document in index.items()}

    @property
    def messages(self) -> list[str]:
        """The messages of all documents."""
        return [document["message"] for document in self.documents.values()]

    def _take(self, index: str, key: str, document: Document) -> int:
        code = 409 if key in self.indices.get(index, {}) else self.decide(document)
        if code == 201:
            self.indices.setdefault(index, {})[key] = document
        self.offered.append((key, code))
        return code

    @staticmethod
    def _answer(
        actions: list[tuple[str, str, Document]], statuses: list[int], *, filtered: bool
    ) -> bytes:
        items = []
        for (index, key, _), code in zip(actions, statuses, strict=True):
            item: dict[str, Any] = {"status": code}
            if not filtered:
                item = {"_index": index, "_id": key, "_version": 1, "status": code}
                if code >= 400:
                    item["error"] = {"type": "some_exception", "reason": "because " + "x" * 100}
            items.append({"create": item})
        errors = any(code >= 400 for code in statuses)
        head = {} if filtered else {"took": 30}
        return orjson.dumps({**head, "errors": errors, "items": items})


def _parse(request: Request) -> list[tuple[str, str, Document]]:
    path = urlsplit(request.target).path
    if request.method != "POST" or path != "/_bulk":
        raise ValueError(f"{request.method} {path}")
    if request.header("content-type") not in ("application/x-ndjson", "application/json"):
        raise ValueError("content type")
    if not request.text.endswith(b"\n"):
        raise ValueError("the last line is not terminated")
    lines = request.text.split(b"\n")[:-1]
    if len(lines) % 2:
        raise ValueError("an action without its document")
    return [
        (*_action(orjson.loads(action)), _document(orjson.loads(document)))
        for action, document in zip(lines[::2], lines[1::2], strict=True)
    ]


def _action(action: dict[str, Any]) -> tuple[str, str]:
    if set(action) != {"create"} or set(action["create"]) != {"_index", "_id"}:
        raise ValueError(f"action {action}")
    key = action["create"]["_id"]
    if not 1 <= len(key.encode()) <= 512:
        raise ValueError("an id has 1 to 512 bytes")
    return action["create"]["_index"], key


def _document(document: Document) -> Document:
    """Return a document that a data stream would take, dotted names standing for objects."""
    if not isinstance(document.get("@timestamp"), str):
        raise TypeError("no @timestamp")
    for name in document:
        parts = name.split(".")
        if not all(parts):
            raise ValueError(f"name {name!r}")
        for end in range(1, len(parts)):
            above = ".".join(parts[:end])
            if above in document and not isinstance(document[above], dict):
                raise ValueError(f"{above} is a value and an object ({name})")
    return document

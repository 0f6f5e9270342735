"""Encoding by templates, as nearly every backend does it: one template a file, made once."""

from collections.abc import Callable, Sequence

from sidecar.batch import Piece
from sidecar.block import FileFacts
from sidecar.encode import Body, encode
from sidecar.transform.records import Records
from sidecar.wire import Template

MAX_TEMPLATES = 1024
"""Kept for the files lately encoded; a further one costs some 30 µs to make anew."""


class TemplateEncoder:
    """The encoding half of a backend; safe for its workers."""

    def __init__(self, make_template: Callable[[FileFacts], Template]) -> None:
        self._make_template = make_template
        self._templates: dict[FileFacts, Template] = {}

    def append(self, body: Body, records: Records, limit: int) -> int:
        """Encode as many leading records as keep `body` within `limit`; return how many."""
        return body.append(records, self.template(records.facts), limit)

    def encode(self, records: Records) -> bytes:
        """Return all records encoded."""
        return encode(records, self.template(records.facts)).body

    def encode_again(self, records: Records, indices: Sequence[int], before: Piece) -> bytes:
        """Return picked records encoded anew, which gives the same bytes."""
        del indices, before
        return self.encode(records)

    def template(self, facts: FileFacts) -> Template:
        """Return the template of a file's records."""
        found = self._templates.get(facts)
        if found is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            found = self._templates[facts] = self._make_template(facts)
        return found

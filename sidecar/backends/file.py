"""`file`: the record as JSON lines, in a tree of folders by namespace, pod and container.

There is no acknowledgement but the disk's: a batch counts as there when its bytes are synced.
What a crash left of a line is cut off when the file is next opened, and comes again whole.
"""

import errno
import re
import threading
from collections import OrderedDict

from runtime.settings import Key, parse_count, parse_size
from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry, Sender
from sidecar.backends.groups import Group, attempt_each, split
from sidecar.backends.rotated_file import RotatedFile, open_folder
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch, Part
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings

SCHEMES = ("file",)
OPTIONS = (
    Key(
        "max_file_bytes",
        parse_size,
        "100MiB",
        "A file is rotated before it grows beyond this many bytes.",
    ),
    Key("max_files", parse_count(1, 1000), 5, "Files kept of a container, the live one included."),
)

MAX_OPEN_FILES = 64
"""Of containers written to lately."""
_OPERATORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.ENOTSUP}
)
"""What an operator has to mend."""

Place = tuple[str, str, str]
"""Namespace, pod, container, as names of folders and file."""


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return FileBackend(backend)


class FileBackend(TemplateEncoder):
    """A folder; its workers write one batch at a time."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(ndjson_template)
        self._settings = settings
        self._turn = threading.Lock()
        self._files: OrderedDict[Place, RotatedFile] = OrderedDict()

    def sender(self) -> Sender:
        """Return a writer."""
        return _Writer(self)

    def write(self, group: Group[Place]) -> int:
        """Append the records of one container; return how many bytes.

        Raises:
            OSError: none of them is there.
        """
        with self._turn:
            return self._file(group.key).append(group.batch.pieces())

    def close(self) -> None:
        """Close all files; a further write opens them again."""
        with self._turn:
            while self._files:
                self._files.popitem()[1].close()

    def _file(self, place: Place) -> RotatedFile:
        file = self._files.get(place)
        if file is None:
            file = self._files[place] = self._open(place)
            if len(self._files) > MAX_OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(place)
        return file

    def _open(self, place: Place) -> RotatedFile:
        settings = self._settings
        namespace, pod, container = place
        return RotatedFile(
            open_folder(settings.url.path if settings.url else "/", (namespace, pod)),
            f"{container}.log",
            max_bytes=settings.options["max_file_bytes"],
            max_files=settings.options["max_files"],
            gzip_level=settings.compression_level if settings.compression == "gzip" else None,
        )


class _Writer:
    def __init__(self, backend: FileBackend) -> None:
        self.sent_bytes = 0
        self._backend = backend

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Write the batch; a disk's own time cannot be cut short."""
        del seconds
        return attempt_each(split(batch, _place), self._write)

    def close(self) -> None:
        """Close the files: the last writer to end leaves none open."""
        self._backend.close()

    def _write(self, group: Group[Place]) -> Answer:
        try:
            self.sent_bytes += self._backend.write(group)
        except OSError as error:
            reason = f"write_{errno.errorcode.get(error.errno or 0, 'error').lower()}"
            return Hold(reason) if error.errno in _OPERATORS else Retry(reason)
        return Delivered()


def _place(part: Part) -> Place:
    attributes = part.records.facts.source.attributes
    namespace, pod, container = (
        file_name(attributes.get(f"k8s.{kind}.name", ""))
        for kind in ("namespace", "pod", "container")
    )
    return namespace, pod, container


def file_name(text: str) -> str:
    """Return `text` as the name of a file: no separator, no hidden or special name, never empty.

    >>> file_name("orders-1"), file_name("../etc"), file_name("")
    ('orders-1', '_.._etc', '_')
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:200]
    return name if name and name[0] != "." else "_" + name

"""Lines that a backend refused: kept for a person to look at, at most 1 MiB, then only counted."""

import json
import os
import threading

from contract import record
from sidecar.transform.records import Records

MAX_BYTES = 1024 * 1024


class Quarantine:
    """The file `quarantine` of the state folder: one JSON object a line. Shared by all backends."""

    def __init__(self, directory: str | None) -> None:
        self._path = None if directory is None else os.path.join(directory, "quarantine")
        self._lock = threading.Lock()

    def keep(self, backend: str, reason: str, records: Records) -> bool:
        """Append the records; False where there is no room, no folder or no disk for them."""
        if self._path is None:
            return False
        content = b"".join(
            _entry(backend, reason, records, index) for index in range(records.count)
        )
        with self._lock:
            return self._append(content)

    def _append(self, content: bytes) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path or "", flags, 0o600)
        except OSError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            if size + len(content) > MAX_BYTES:
                return False
            written = os.write(descriptor, content)
            if written < len(content):
                os.ftruncate(descriptor, size)  # the disk is full: no half entry
                return False
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _entry(backend: str, reason: str, records: Records, index: int) -> bytes:
    offset = records.offset(index)
    entry = {
        "backend": backend,
        "reason": reason,
        record.ID: f"{records.facts.file}-{offset}",
        record.LOG_FILE_PATH: records.facts.path,
        record.OFFSET: offset,
        record.MESSAGE: records.message(index).decode("utf-8", "replace"),
    }
    return json.dumps(entry).encode() + b"\n"

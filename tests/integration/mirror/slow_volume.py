"""A volume that is slow, or hangs: large writes of one process are held by a seccomp supervisor.

The kernel hands each write of more than PIECE bytes to us before it does it, and does it when we
say so. Only the second thread of the mirror is held, the one that writes to the volume; what the
app writes, and what the mirror writes to its own stdout, passes at once.
"""

import array
import contextlib
import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PIECE = 4096
"""Smaller writes are not held; a backlog is written in larger ones."""

_SECCOMP, _WRITE = {"x86_64": (317, 1), "aarch64": (277, 64)}.get(platform.machine(), (0, 0))
_SET_NO_NEW_PRIVS, _MODE_FILTER, _NEW_LISTENER, _CONTINUE = 38, 1, 8, 1
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000


def _filter() -> bytes:
    load, equal, greater, ret = 0x20, 0x15, 0x25, 0x06
    steps = [
        (load, 0, 0, 0),  # the number of the system call
        (equal, 0, 3, _WRITE),
        (load, 0, 0, 32),  # the low half of its third argument
        (greater, 0, 1, PIECE),
        (ret, 0, 0, _NOTIFY),
        (ret, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


class SlowVolume:
    """Start a process with `preexec`; then `hang()`, `release()` or set `delay_seconds`."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._free = threading.Event()
        self._free.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise)
        self.delay_seconds = 0.0
        self.held = threading.Event()

    @property
    def preexec(self) -> Callable[[], None]:
        libc = ctypes.CDLL(None, use_errno=True)
        program = ctypes.create_string_buffer(_filter())
        header = struct.pack("=H6xQ", len(_filter()) // 8, ctypes.addressof(program))
        prog = ctypes.create_string_buffer(header)

        def install() -> None:
            assert program  # keeps what `header` points to
            libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            fd = libc.syscall(_SECCOMP, _MODE_FILTER, _NEW_LISTENER, prog)
            if fd < 0:
                self._theirs.send(b"-")
            else:
                socket.send_fds(self._theirs, [b"+"], [fd])
                os.close(fd)

        return install

    def supervise(self, pid: int) -> None:
        """Take the process over, or skip where the kernel or a sandbox does not let us."""
        self._pid = pid
        answer, fds, _, _ = socket.recv_fds(self._ours, 1, 1)
        if answer != b"+":
            pytest.skip("seccomp notifications are not to be had here")
        self._listener = fds[0]
        self._thread.start()

    def hang(self) -> None:
        self.held.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def close(self) -> None:
        self._free.set()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            os.close(self._listener)
        self._ours.close()
        self._theirs.close()

    def _writes_to_the_volume(self, thread: int) -> bool:
        return thread != self._pid and Path(f"/proc/{self._pid}/task/{thread}").exists()

    def _supervise(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while not self._stop.is_set():
            if not any(event & select.POLLIN for _, event in poll.poll(20)):
                continue
            request = array.array("B", bytes(80))
            with contextlib.suppress(OSError):  # the process may have ended meanwhile
                fcntl.ioctl(self._listener, _RECEIVE, request)
                key, thread = struct.unpack_from("=QI", request.tobytes())
                if self._writes_to_the_volume(thread):
                    # in a thread of its own: the app's writes must not wait behind the volume
                    threading.Thread(target=self._hold, args=(key,)).start()
                else:
                    self._go_on(key)

    def _hold(self, key: int) -> None:
        self.held.set()
        self._stop.wait(self.delay_seconds)
        self._free.wait()
        self._go_on(key)

    def _go_on(self, key: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._listener, _SEND, struct.pack("=QqiI", key, 0, 0, _CONTINUE))


@contextlib.contextmanager
def slow_volume() -> Iterator[SlowVolume]:
    volume = SlowVolume()
    try:
        yield volume
    finally:
        volume.close()

"""An app whose lines are numbered: what it printed, what is in the file, what that lacks."""

import os
import re
import subprocess
import sys
import tempfile
from typing import Any, Self

from tests.integration.mirror.support import LEFT_OUT, LONG, Line, Mirror

NUMBERED = """
import os, sys
# Prints what it is told to: each line of stdin is `FROM TO`, answered on another descriptor.
for order in sys.stdin:
    first, last = map(int, order.split())
    block = b"".join(b"line %07d %s\\n" % (i, b"." * 60) for i in range(first, last))
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
    os.write(int(sys.argv[1]), b"done\\n")
"""


class App:
    """An app that prints numbered lines on demand."""

    def __init__(self, mirror: Mirror, *flags: str, **more: Any) -> None:
        self.mirror = mirror
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        reading, writing = os.pipe()
        app = (sys.executable, "-I", "-S", "-c", NUMBERED, str(writing))
        self.process = subprocess.Popen(
            mirror.argv(*app, flags=flags),
            stdin=subprocess.PIPE,
            stdout=self._stdout,
            pass_fds=(writing,),
            **more,
        )
        os.close(writing)
        self._done = os.fdopen(reading, "rb")
        self.printed = 0

    def prints(self, count: int) -> None:
        """Have it print `count` lines more; returns when its writes have returned."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d %d\n" % (self.printed, self.printed + count))
        self.process.stdin.flush()
        self.printed += count
        assert self._done.readline() == b"done\n"

    def ends(self) -> None:
        """Let it end, and check that its stdout went where it went before, complete."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(LONG) == 0
        self._stdout.seek(0)
        stdout = self._stdout.read()
        assert stdout == b"".join(b"line %07d %s\n" % (i, b"." * 60) for i in range(self.printed))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # takes the app along
        self.process.wait(LONG)
        for file in (self.process.stdin, self._stdout, self._done):
            if file:
                file.close()


def account(app: App, lines: list[Line]) -> tuple[int, list[bytes]]:
    """Check that lines and account together are all that was printed, in order.

    Returns how many lines were left out, and the reasons that the file gives.
    """
    expected, missing, reasons = 0, 0, []
    for line in lines:
        assert line.tag == "F"
        if found := LEFT_OUT.fullmatch(line.text):
            assert line.stream == "stderr"
            assert int(found[2]) == 74 * int(found[1])
            missing += int(found[1])
            expected += int(found[1])
            reasons.append(found[3])
        else:
            number = int(re.fullmatch(rb"line (\d{7}) \.{60}", line.text)[1])  # type: ignore[index]
            assert number == expected, "a line is missing that was not counted"
            expected += 1
    assert expected == app.printed
    return missing, reasons

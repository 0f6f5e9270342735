"""The command runs as it would without the mirror: what it starts with, and how it ends."""

import ctypes
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.mirror.support import (
    LONG,
    Mirror,
    descendants,
    ended,
    eventually,
    read_line,
    state_of,
)

CATCHABLE = sorted(set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, 32, 33})
"""glibc keeps 32 and 33 to itself; no program in Python can catch them."""

COUNTING = """
import os, signal, sys
seen = []
def on(number, frame):
    os.write(1, b"got %d\\n" % number)
for number in map(int, sys.argv[1].split(",")):
    signal.signal(number, on)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


@pytest.mark.parametrize("code", [0, 1, 3, 42, 126, 127, 128, 255])
def test_the_exit_code_is_the_commands(mirror: Mirror, code: int) -> None:
    assert mirror.sh(f"echo last; exit {code}").code == code


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGHUP, 40]
)
def test_a_command_that_dies_of_a_signal_gives_128_and_its_number(
    mirror: Mirror, number: int
) -> None:
    # Under nohup, and in the background of a script, some are ignored from the beginning.
    default = "" if number == signal.SIGKILL else f"signal.signal({int(number)}, signal.SIG_DFL);"
    script = (
        f"import os, signal; {default} os.write(1, b'last'); os.kill(os.getpid(), {int(number)})"
    )
    done = mirror.python(script, preexec_fn=_no_core)

    assert done.code == 128 + number
    assert done.of("stdout") == [b"last"]


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def test_every_signal_that_can_be_caught_reaches_the_command(mirror: Mirror) -> None:
    argument = ",".join(map(str, CATCHABLE))
    with mirror.started(sys.executable, "-I", "-S", "-c", COUNTING, argument) as process:
        assert read_line(process.stdout) == b"ready\n"
        for number in CATCHABLE:
            process.send_signal(number)
            assert read_line(process.stdout) == b"got %d\n" % number
        process.kill()


SIGNAL_CALLS = {"x86_64": (13, 14), "aarch64": (134, 135)}
"""Machine → the numbers of rt_sigaction and rt_sigprocmask."""


@pytest.mark.skipif(
    os.uname().machine not in SIGNAL_CALLS, reason="the numbers of system calls are not known here"
)
@pytest.mark.parametrize("number", [32, 33])
def test_signals_that_the_c_library_keeps_to_itself_are_forwarded_too(
    mirror: Mirror, number: int
) -> None:
    with mirror.started("sleep", "60", preexec_fn=lambda: _as_by_default(number)) as process:
        child = eventually(lambda: descendants(process.pid), "the child")[0]
        eventually(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", "the command")
        os.kill(process.pid, number)

        assert process.wait(LONG) == 128 + number


def _as_by_default(number: int) -> None:
    """Neither ignore nor block a signal; GNU make and others leave 32 and 33 ignored.

    By system calls, since the C library does not do it for these two.
    """
    action, mask = SIGNAL_CALLS[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.create_string_buffer(64)
    unblock, one = 1, ctypes.c_uint64(1 << (number - 1))
    assert libc.syscall(action, number, nothing, None, 8) == 0
    assert libc.syscall(mask, unblock, ctypes.byref(one), None, 8) == 0


def test_queued_signals_keep_their_number_and_their_value(mirror: Mirror) -> None:
    script = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {40})\n"
        "os.write(1, b'ready\\n')\n"
        "for _ in range(5):\n"
        "    got = signal.sigwaitinfo({40})\n"
        "    os.write(1, b'%d from %d\\n' % (got.si_signo, got.si_pid))\n"
    )
    libc = ctypes.CDLL(None, use_errno=True)
    with mirror.started(sys.executable, "-I", "-S", "-c", script) as process:
        assert read_line(process.stdout) == b"ready\n"
        for value in range(5):
            assert libc.sigqueue(process.pid, 40, ctypes.c_void_p(value)) == 0
        for _ in range(5):
            assert read_line(process.stdout) == b"40 from %d\n" % os.getpid()
        assert process.wait(LONG) == 0


def test_a_signal_is_forwarded_while_stdout_is_stuck(mirror: Mirror) -> None:
    script = "trap 'echo term >&2; exit 7' TERM; seq 1000000 & echo ready >&2; wait"
    with mirror.started("/bin/sh", "-c", script) as process:
        assert read_line(process.stderr) == b"ready\n"
        time.sleep(0.2)
        process.terminate()
        assert read_line(process.stderr) == b"term\n"


def test_killing_the_mirror_kills_the_command(mirror: Mirror) -> None:
    with mirror.started("/bin/sh", "-c", "echo $$; exec sleep 60") as process:
        child = int(read_line(process.stdout))
        process.kill()
        process.wait(LONG)

        eventually(lambda: ended(child), "the child's end")


def test_a_command_that_is_stopped_and_continued_goes_on(mirror: Mirror) -> None:
    script = "echo $$; while read line; do echo $line; done"
    with mirror.started("/bin/sh", "-c", script, stdin=subprocess.PIPE) as process:
        child = int(read_line(process.stdout))
        os.kill(child, signal.SIGSTOP)
        eventually(lambda: state_of(child) == "T", "the stop")
        assert state_of(process.pid) != "T", "nobody would wake the mirror in a container"
        process.send_signal(signal.SIGCONT)
        eventually(lambda: state_of(child) != "T", "the continuation")
        assert process.stdin is not None
        process.stdin.write(b"again\n")
        process.stdin.close()

        assert read_line(process.stdout) == b"again\n"
        assert process.wait(LONG) == 0


def test_at_a_terminal_job_control_stops_and_continues_both(mirror: Mirror) -> None:
    """A shell's part is played here: a foreground job, ^Z, fg, ^C."""
    shell, terminal = pty.openpty()
    script = (
        "import os, signal\n"
        "def end(*_): os.write(1, b'int\\n'); os._exit(9)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "os.write(1, b'ready\\n')\n"
        "while True: signal.pause()\n"
    )
    pid = os.fork()
    if pid == 0:  # the shell: leads the session that the terminal belongs to
        os.setsid()
        os.close(shell)
        for fd in (0, 1, 2):
            os.dup2(terminal, fd)
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            os.execv(mirror.program, mirror.argv(sys.executable, "-I", "-S", "-c", script))
        _, status = os.waitpid(job, os.WUNTRACED)
        os.write(1, b"stopped %d\n" % os.WIFSTOPPED(status))
        os.killpg(job, signal.SIGCONT)
        _, status = os.waitpid(job, 0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(terminal)
    try:
        seen = b""

        def sees(wanted: bytes) -> None:
            nonlocal seen
            deadline = time.monotonic() + LONG
            while wanted not in seen:
                assert time.monotonic() < deadline, seen
                seen += os.read(shell, 1000)

        sees(b"ready")
        os.write(shell, b"\x1a")
        sees(b"stopped 1")
        os.write(shell, b"\x03")
        sees(b"ended 9")
        assert seen.count(b"int") == 1, "the terminal's signal came twice"
    finally:
        for one in [*descendants(pid), pid]:
            if not ended(one):
                os.kill(one, signal.SIGKILL)
        os.close(shell)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-program", 127, b"no such file or directory"),
        ("/no/such/program", 127, b"no such file or directory"),
        ("", 127, b"no such file or directory"),
        ("/etc/passwd/program", 127, b"not a directory"),
        ("/tmp", 126, b"permission denied"),
        ("/etc/passwd", 126, b"permission denied"),
        ("{}/garbage", 126, b"exec format error"),
        ("{}/plain", 126, b"permission denied"),
        ("{}/lost-interpreter", 127, b"no such file or directory"),
    ],
)
def test_a_command_that_cannot_run_gives_the_shells_codes(
    mirror: Mirror, tmp_path: Path, command: str, code: int, words: bytes
) -> None:
    for name, text, mode in [
        ("garbage", "not a program", 0o755),
        ("plain", "#!/bin/sh\n", 0o644),
        ("lost-interpreter", "#!/no/such/interpreter\n", 0o755),
    ]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(mode)
    done = mirror.run(command.format(tmp_path))

    assert done.code == code
    assert words in done.stderr
    assert done.of("stderr") == [done.stderr.rstrip(b"\n")], "the reason is mirrored too"


def test_the_path_is_searched_as_execvp_does(mirror: Mirror, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, mode in [(first, 0o644), (second, 0o755)]:
        folder.mkdir()
        (folder / "tool").write_text("#!/bin/sh\necho from $0 in $PWD\n", encoding="utf-8")
        (folder / "tool").chmod(mode)
    environment = {"PATH": f"/nowhere:/etc/passwd:{first}::{second}"}

    found = mirror.run("tool", env=environment, cwd=tmp_path)
    assert found.stdout == b"from %s in %s\n" % (bytes(second / "tool"), bytes(tmp_path))
    here = mirror.run("tool", env={"PATH": f"{first}:"}, cwd=second)
    assert here.stdout.startswith(b"from tool in ")
    relative = mirror.run("second/tool", env=environment, cwd=tmp_path)
    assert relative.stdout.startswith(b"from second/tool in ")
    assert mirror.run("tool", env={"PATH": str(first)}).code == 126
    assert mirror.run("tool", env={"PATH": "/nowhere"}).code == 127
    assert mirror.run("sh", "-c", "exit 4", env={}).code == 4, "without PATH: the usual folders"
    assert mirror.run("no-such-program", env={}).code == 127


WHAT_IT_HAS = """
import json, os, resource, signal, stat, sys
fds = {}
for fd in range(200):
    try:
        fds[fd] = stat.S_IFMT(os.fstat(fd).st_mode)
    except OSError:
        pass
limits = {
    name: resource.getrlimit(getattr(resource, name))
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
of_interest = (
    "SigBlk SigIgn SigCgt Umask Uid Gid Groups CapInh CapEff CapAmb CapBnd NoNewPrivs Seccomp"
).split()
print(json.dumps({
    "argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd(), "fds": fds,
    "limits": limits, "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "status": [line for line in open("/proc/self/status") if line.split(":")[0] in of_interest],
    "leads": os.getsid(0) == os.getpid() == os.getpgrp(),
    "oom": open("/proc/self/oom_score_adj").read(),
    "nice": os.nice(0), "inherited": [os.get_inheritable(fd) for fd in fds],
}, sort_keys=True, default=int))
"""


def test_the_command_gets_what_it_would_get_without_us(mirror: Mirror, tmp_path: Path) -> None:
    def odd_start() -> None:
        os.setsid()
        os.umask(0o027)
        os.chdir(tmp_path)
        os.nice(1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, 40})
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 64))
        resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 21))

    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = (sys.executable, "-I", "-S", "-c", WHAT_IT_HAS, "an argument", "", "--", "$(VAR)")
    try:
        alone, mirrored = (
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                preexec_fn=odd_start,
                env={"A": "b", "EMPTY": "", "PATH": "/usr/bin"},
                pass_fds=(writing,),
                restore_signals=False,
                timeout=LONG,
                check=True,
            )
            for argv in (list(command), mirror.argv(*command))
        )
    finally:
        os.close(reading)
        os.close(writing)

    assert alone.stdout
    assert mirrored.stdout == alone.stdout


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_a_standard_descriptor_that_was_closed_stays_closed(
    mirror: Mirror, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    report = tmp_path / "report"
    script = (
        "import os, sys\n"
        "there = []\n"
        "for fd in (0, 1, 2):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: there.append('-')\n"
        "    else: there.append(str(fd)); os.write(fd, b'x\\n') if fd else None\n"
        "fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
        "os.write(fd, ''.join(there).encode())\n"
    )
    closing = " ".join(f"{fd}<&-" for fd in closed)
    argv = mirror.argv("/usr/bin/env", sys.executable, "-I", "-S", "-c", script, str(report))
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONG,
        check=False,
    )

    assert done.returncode == 0
    assert report.read_text(encoding="utf-8") == "".join(
        "-" if fd in closed else str(fd) for fd in (0, 1, 2)
    )
    assert [line.stream for line in mirror.lines()] == [
        name for fd, name in [(1, "stdout"), (2, "stderr")] if fd not in closed
    ]


def test_orphans_are_reaped(mirror: Mirror) -> None:
    script = (
        "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'sh -c \"sleep 0.05\" & exit' &); done; "
        "sleep 0.5; echo ready; sleep 60"
    )
    with mirror.started("/bin/sh", "-c", script) as process:
        assert read_line(process.stdout) == b"ready\n"
        eventually(lambda: len(descendants(process.pid)) <= 2, "the reaping of all orphans")

        assert not [pid for pid in descendants(process.pid) if state_of(pid) == "Z"]


def test_what_a_child_printed_before_it_died_is_drained(mirror: Mirror) -> None:
    script = "import os; os.write(1, b'x' * 60000 + b'\\nlast'); os.kill(os.getpid(), 9)"
    done = mirror.python(script)

    assert done.code == 137
    assert done.stdout == b"x" * 60000 + b"\nlast"
    assert done.of("stdout") == [b"x" * 60000, b"last"]


GRANDCHILD = """
import os, sys, time
pid = os.fork()
if pid:
    os.write(1, b"%d\\n" % pid)
    os._exit(6)
{}
"""


def _ends_with_a_grandchild(mirror: Mirror, does: str) -> tuple[float, list[bytes], list[bytes]]:
    """Return how long the mirror took to end, what it sent on, and what it filed."""
    argv = (sys.executable, "-I", "-S", "-c", GRANDCHILD.format(does))
    with mirror.started(*argv, stderr=subprocess.DEVNULL) as process:
        grandchild = int(read_line(process.stdout))
        try:
            before = time.monotonic()
            assert process.stdout is not None
            sent = process.stdout.read().splitlines()
            assert process.wait(LONG) == 6
            took = time.monotonic() - before
        finally:
            if not ended(grandchild):
                os.kill(grandchild, signal.SIGKILL)
    return took, sent, [line.text for line in mirror.lines()][1:]


def test_a_grandchild_that_holds_the_pipes_gets_two_seconds(mirror: Mirror) -> None:
    took, sent, filed = _ends_with_a_grandchild(
        mirror, "time.sleep(0.5); os.write(1, b'late\\n'); time.sleep(60)"
    )

    assert took > 1.5, "it did not get its time"
    assert sent == filed == [b"late"]


def test_a_grandchild_that_ends_sooner_is_not_waited_for(mirror: Mirror) -> None:
    fastest = LONG
    for _ in range(3):  # the machine may be busy: once is proof enough
        took, sent, filed = _ends_with_a_grandchild(mirror, "time.sleep(0.2); os.write(1, b'late')")
        assert sent == filed[-1:] == [b"late"]
        fastest = min(fastest, took)

    assert fastest < 1.9, "the whole two seconds were waited"


def test_a_grandchild_that_never_stops_printing_does_not_keep_the_container(
    mirror: Mirror,
) -> None:
    took, sent, filed = _ends_with_a_grandchild(
        mirror, "while True: os.write(1, b'more\\n' * 9); time.sleep(0.001)"
    )

    assert took > 1.5
    assert len(sent) > 100
    assert set(sent[:-1]) | set(filed[:-1]) == {b"more"}


def test_a_grandchild_that_closed_the_pipes_is_not_waited_for(mirror: Mirror) -> None:
    does = "os.close(1); os.close(2); time.sleep(60)"
    fastest = min(_ends_with_a_grandchild(mirror, does)[0] for _ in range(3))

    assert fastest < 1.9, "nobody held the pipes"


def test_too_few_descriptors_run_the_command_all_the_same(mirror: Mirror) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))

    done = mirror.sh("echo here; ulimit -n; exit 3", preexec_fn=few)

    assert done.code == 3
    assert done.stdout == b"here\n8\n"
    assert done.stderr == b"sidetail-mirror: the output is not mirrored: too many open files\n"


@pytest.mark.skipif(os.getuid() == 0, reason="root has no limit of processes")
def test_a_limit_of_processes_runs_the_command_all_the_same(mirror: Mirror) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    done = mirror.run("/bin/echo", "here", preexec_fn=few)

    assert done.code == 0
    assert done.stdout == b"here\n"
    assert b"the output is not mirrored" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--max-bytes", "ten"), b"a whole number from 1, got 'ten'"),
        (("--max-bytes", "0"), b"a whole number from 1, got '0'"),
        (("--max-bytes", "-5"), b"a whole number from 1, got '-5'"),
        (
            ("--max-bytes", "99999999999999999999999"),
            b"a whole number from 1, got '99999999999999999999999'",
        ),
        (("--max-files", ""), b"a whole number from 1, got ''"),
        (("--max-files", "5000"), b"a whole number from 1, got '5000'"),
        (("--new-flag",), b"not understood: '--new-flag'"),
        (("--max-bytes",), b"not understood: '--max-bytes'"),
    ],
)
def test_a_wrong_flag_is_said_and_does_not_keep_the_command_from_running(
    mirror: Mirror, flags: tuple[str, ...], words: bytes
) -> None:
    done = mirror.sh("echo here; exit 3", flags=flags)

    assert done.code == 3
    assert done.of("stdout") == [b"here"]
    assert words in done.stderr


def test_without_a_file_the_command_runs_unmirrored(mirror: Mirror) -> None:
    for flags in ([], ["--file"], ["--file", "/" + "x" * 2000]):
        done = subprocess.run(
            [str(mirror.program), *flags, "--", "/bin/sh", "-c", "echo here; exit 3"],
            capture_output=True,
            timeout=LONG,
            check=False,
        )
        assert (done.returncode, done.stdout) == (3, b"here\n")
        assert b"not mirrored" in done.stderr


def test_without_a_command_there_is_a_usage_message(mirror: Mirror) -> None:
    for argv in ([], ["--file", "x"], ["--file", "x", "--"], ["--help"]):
        done = subprocess.run(
            [str(mirror.program), *argv], capture_output=True, timeout=LONG, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith(b"usage: sidetail-mirror --file PATH")

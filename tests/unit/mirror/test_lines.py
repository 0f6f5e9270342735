"""Parts of the mirror, step by step, against models of them in Python."""

import datetime as dt
import random
import re
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.mirror.support import LEFT_OUT, LONG, Line, build, joined, parse

LINE_BYTES = 16384
RING_BYTES = 512 * 1024


@pytest.fixture(scope="session")
def harness() -> Path:
    program = build("harness")
    tried = subprocess.run([program, "dates"], input=b"", timeout=LONG, check=False)
    if tried.returncode != 0:
        pytest.skip("programs with -fsanitize=address do not run here")
    return program


@dataclass
class Case:
    """What the app prints, and what the volume does meanwhile."""

    commands: list[bytes] = field(default_factory=list)
    printed: list[bytes] = field(default_factory=lambda: [b"", b""])

    def prints(self, stream: int, data: bytes) -> None:
        self.commands.append(struct.pack("<cII", b"C", stream, len(data)) + data)
        self.printed[stream] += data

    def does(self, what: bytes, number: int) -> None:
        self.commands.append(struct.pack("<cI", what, number))


def play(harness: Path, cases: Iterable[Case]) -> list[list[Line]]:
    """Return, for each case, the CRI lines that left the ring."""
    given = b"".join(b"".join(case.commands) + b"X" for case in cases)
    done = subprocess.run([harness], input=given, capture_output=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr.decode()
    results, at = [], 0
    while at < len(done.stdout):
        (n,) = struct.unpack_from("<I", done.stdout, at)
        results.append(parse(done.stdout[at + 4 : at + 4 + n]))
        at += 4 + n
    return results


def cut_as_runtimes_do(printed: bytes) -> list[tuple[str, bytes]]:
    """The model: parts of 16 KiB, each but the last a P; at the end the rest without newline."""
    lines = printed.split(b"\n")
    whole = lines[:-1] + ([lines[-1]] if lines[-1] else [])
    cut = []
    for line in whole:
        parts = [line[at : at + LINE_BYTES] for at in range(0, len(line), LINE_BYTES)] or [b""]
        cut += [("P", part) for part in parts[:-1]] + [("F", parts[-1])]
    return cut


def some_output(chance: random.Random, size: int) -> bytes:
    """Return bytes with newlines, few or many, and lines around the lengths that matter."""
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(chance.choices(b"ab\n\r\x00\xff", k=chance.randint(0, size)))
    if kind == 1:
        return chance.randbytes(chance.randint(0, size))
    lengths = [0, 1, 15, 16, 17, 40, 130, LINE_BYTES - 1, LINE_BYTES, LINE_BYTES + 1]
    lengths += [2 * LINE_BYTES, 2 * LINE_BYTES + 1, 3 * LINE_BYTES + 7]
    lines = [b"z" * (chance.choice(lengths) + chance.choice([0, 0, -1, 1])) for _ in range(9)]
    return b"\n".join(lines) + chance.choice([b"", b"\n"])


def cut_at_random(chance: random.Random, data: bytes) -> list[bytes]:
    most = chance.choice([1, 2, 7, 100, 4096, 30_000, 70_000])
    if len(data) // most > 4000:
        most = 4096
    pieces = []
    while data:
        n = chance.randint(1, most)
        pieces.append(data[:n])
        data = data[n:]
    return pieces


def any_cutting(seed: int) -> Case:
    chance, case = random.Random(seed), Case()
    streams = [cut_at_random(chance, some_output(chance, 30_000)) for _ in range(2)]
    while any(streams):
        stream = chance.randrange(2)
        if streams[stream]:
            case.prints(stream, streams[stream].pop(0))
        if chance.random() < 0.05:
            case.does(b"D", chance.choice([1, 100, 20_000, 1 << 30]))
    return case


def check_any_cutting(harness: Path, seeds: range) -> None:
    for start in range(seeds.start, seeds.stop, 50):
        cases = [any_cutting(seed) for seed in range(start, min(start + 50, seeds.stop))]
        for case, lines in zip(cases, play(harness, cases), strict=True):
            for stream, name in enumerate(["stdout", "stderr"]):
                filed = [(line.tag, line.text) for line in lines if line.stream == name]
                assert filed == cut_as_runtimes_do(case.printed[stream])


def test_any_cutting_of_two_streams_gives_the_lines_of_the_model(harness: Path) -> None:
    check_any_cutting(harness, range(200))


@pytest.mark.soak
def test_any_cutting_of_two_streams_gives_the_lines_of_the_model_for_long(harness: Path) -> None:
    check_any_cutting(harness, range(1000, 6_000))


def numbered(chance: random.Random, number: int) -> bytes:
    length = chance.choice([0, 1, 60, 60, 60, 60, 5000, 16_370, 40_000])
    return b"<%d>" % number + b"y" * length


def troubled(seed: int) -> tuple[Case, list[list[bytes]]]:
    """A volume that refuses, or does not answer, and comes back: with the lines of each stream."""
    chance, case = random.Random(seed), Case()
    lines: list[list[bytes]] = [[], []]
    pending = [b"", b""]
    for number in range(chance.choice([50, 400])):
        if chance.random() < 0.06:
            case.does(b"E", chance.choice([0, 28, 30, 5]))
        if chance.random() < 0.06:
            case.does(b"P", chance.choice([0, 1]))
        if chance.random() < 0.04:
            case.does(b"D", chance.choice([500, 100_000, 1 << 30]))
        stream = chance.randrange(2)
        line = numbered(chance, number)
        lines[stream].append(line)
        pending[stream] += line + b"\n"
        if chance.random() < 0.7:
            n = chance.randint(0, len(pending[stream]))
            case.prints(stream, pending[stream][:n])
            pending[stream] = pending[stream][n:]
    for stream in range(2):
        case.prints(stream, pending[stream])
    return case, lines


def check_account(filed: list[Line], lines: list[list[bytes]]) -> int:
    """Check that lines, cut lines and account are all that was printed; return how many lines lack.

    A line of which a part is in the file must be ended there, and count as left out.
    """
    said = [found for line in filed if (found := LEFT_OUT.fullmatch(line.text))]
    kept_lines = kept_bytes = 0
    for stream, name in enumerate(["stdout", "stderr"]):
        rest = [line for line in filed if not LEFT_OUT.fullmatch(line.text)]
        expected, at = lines[stream], 0
        for record in joined(rest, name):
            found = re.match(rb"<(\d+)>", record)
            assert found, record[:40]
            while not expected[at].startswith(found[0]):
                at += 1
            assert expected[at].startswith(record)
            whole = record == expected[at]
            kept_lines += whole
            kept_bytes += len(record) + whole
            at += 1
    printed = [line for stream in lines for line in stream]
    assert sum(int(found[1]) for found in said) == len(printed) - kept_lines
    assert sum(int(found[2]) for found in said) == sum(len(x) + 1 for x in printed) - kept_bytes
    return len(printed) - kept_lines


def check_trouble(harness: Path, seeds: range) -> int:
    missing = 0
    for start in range(seeds.start, seeds.stop, 20):
        pairs = [troubled(seed) for seed in range(start, min(start + 20, seeds.stop))]
        results = play(harness, [case for case, _ in pairs])
        for (_, lines), filed in zip(pairs, results, strict=True):
            missing += check_account(filed, lines)
    return missing


def test_what_is_left_out_is_counted_to_the_byte(harness: Path) -> None:
    assert check_trouble(harness, range(60)) > 1000, "nothing was left out: a tame test"


@pytest.mark.soak
def test_what_is_left_out_is_counted_to_the_byte_for_long(harness: Path) -> None:
    assert check_trouble(harness, range(1000, 4000)) > 1000


def test_rotation_keeps_to_the_limit_and_keeps_parts_together(
    harness: Path, tmp_path: Path
) -> None:
    for seed in range(10):
        chance, case = random.Random(seed), Case()
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = bytes(folder / "app.log")
        limit = chance.choice([50, 1000, 20_000, 100_000, 3_000_000])
        case.commands.append(struct.pack("<cI", b"F", len(path)) + path + struct.pack("<I", limit))
        expected = []
        for number in range(100):
            line = numbered(chance, number)
            expected.append(line)
            case.prints(0, line + b"\n")
            if chance.random() < 0.1:
                case.does(b"W", chance.randint(1, 5))
            if number % 10 == 9:  # often enough that the ring is never full
                case.does(b"W", 1000)
        play(harness, [case])

        files = sorted(folder.iterdir(), key=lambda one: -int(one.suffix[1:].replace("log", "0")))
        parsed = [parse(one.read_bytes()) for one in files]
        assert joined([line for lines in parsed for line in lines], "stdout") == expected
        for one, lines in zip(files, parsed, strict=True):
            assert one.stat().st_size <= limit or len(lines) == 1
        if limit >= 1_000_000:  # its eighth is more than the longest line
            assert [lines[-1].tag for lines in parsed] == ["F"] * len(parsed)


def test_dates_are_those_of_the_calendar(harness: Path) -> None:
    days = list(range(84_000))
    done = subprocess.run(
        [harness, "dates"],
        input="".join(f"{day}\n" for day in days),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )

    assert done.stdout.split() == [str(dt.date(1970, 1, 1) + dt.timedelta(day)) for day in days]

"""One batch's way to its backend: what each answer leads to, told by what the backend has."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.logs import Seldom
from runtime.stop import Stop
from sidecar.backends.answers import (
    Answer,
    Delivered,
    Hold,
    LeftOut,
    Partly,
    Refused,
    Retry,
    TooLarge,
)
from sidecar.batch import Batch, Piece
from sidecar.block import Block, FileFacts
from sidecar.deliver import REFUSALS_TO_HOLD, Delivery, Suspicion, Way
from sidecar.encode import Body
from sidecar.ending import Ending
from sidecar.figures import Figures
from sidecar.gate import Gate
from sidecar.quarantine import Quarantine
from sidecar.rate import Rate
from sidecar.settings import Source
from sidecar.transform.records import Records


class TextBackend:
    """Its wire form is the bare lines."""

    def append(self, body: Body, records: Records, limit: int) -> int:
        raise NotImplementedError

    def encode(self, records: Records) -> bytes:
        return b"".join(records.message(index) + b"\n" for index in range(records.count))

    def encode_again(self, records: Records, indices: Sequence[int], before: Piece) -> bytes:
        del indices, before
        return self.encode(records)

    def sender(self) -> "PickySender":
        return PickySender(lambda _: Delivered())


@dataclass
class PickySender:
    """Answers by rule, and stores what it said it has."""

    rule: Callable[[list[bytes]], Answer]
    stored: list[bytes] = field(default_factory=list)
    attempts: list[list[bytes]] = field(default_factory=list)
    sent_bytes: int = 0

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        assert seconds > 0
        lines = b"".join(batch.pieces()).splitlines()
        self.attempts.append(lines)
        self.sent_bytes += sum(map(len, lines))
        answer = self.rule(lines)
        if isinstance(answer, Delivered):
            self.stored += lines
        if isinstance(answer, Partly):
            left = set(answer.retry) | {index for index, _ in answer.rejected}
            self.stored += [line for index, line in enumerate(lines) if index not in left]
        return answer

    def close(self) -> None:
        return


class NoWait(Gate):
    """A gate whose waits are over at once, so that a test takes no time; it counts failures."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.waits: list[float | None] = []

    def failed(self, asked_seconds: float | None = None) -> None:
        super().failed(asked_seconds)
        self.waits.append(asked_seconds)
        self.wake()


@dataclass
class Bench:
    """A delivery with everything around it."""

    sender: PickySender
    state_dir: Path
    stop: Stop = field(default_factory=Stop)

    def __post_init__(self) -> None:
        ending = Ending(self.stop, drain_seconds=5, until_eof=False)
        self.gate = NoWait(ending)
        self.way = Way(
            name="main",
            backend=TextBackend(),
            gate=self.gate,
            ending=ending,
            figures=Figures(),
            quarantine=Quarantine(str(self.state_dir)),
            rate=Rate(None),
            suspicion=Suspicion(),
            seldom=Seldom(),
            request_seconds=5,
        )

    def run(self, *texts: bytes, others: Iterable[bytes] = ()) -> bool:
        batch = _batch(*texts)
        self.way.figures.took(batch.line_count, sum(map(len, texts)), {}, 0)
        more = iter(others)

        def extend() -> Batch | None:
            text = next(more, None)
            if text is None:
                return None
            extra = _batch(text)
            self.way.figures.took(extra.line_count, len(text), {}, 0)
            return extra

        delivered = Delivery(self.way, self.sender).run(batch, extend)
        figures = self.way.figures.snapshot()
        dropped = sum(figures.lines_dropped.values())
        in_flight = 0 if delivered else figures.lines_in_flight
        assert figures.lines_read == figures.lines_acknowledged + in_flight + dropped
        return delivered

    @property
    def dropped(self) -> dict[str, int]:
        return self.way.figures.snapshot().lines_dropped


_SOURCE = Source(
    index=0, path="/l/*", shown_as=None, container=None, stream="file", exclude=(), format="text",
    multiline="none", fields={}, attributes={}, keep=None, drop=None, redact=(), skip_empty=False,
)  # fmt: skip


def _batch(*texts: bytes) -> Batch:
    batch = Batch()
    start = 0
    for text in texts:
        facts = FileFacts(file="f", path="/l/a", source=_SOURCE)
        end = start + len(text)
        block = Block(facts=facts, start=start, data=text, end=end, read_at=1)
        records = Records(
            facts=facts, read_at=1, start=start, end=end, text=text, count=text.count(b"\n")
        )
        batch.add(block, records, text)
        start = end
    return batch


def _lines(count: int, poisoned: Iterable[int] = ()) -> bytes:
    bad = set(poisoned)
    return b"".join(b"%s%d\n" % (b"poison" if i in bad else b"line", i) for i in range(count))


def _refuse_poison(lines: list[bytes]) -> Answer:
    return Refused("status_400") if any(b"poison" in line for line in lines) else Delivered()


def _script(*answers: Answer) -> Callable[[list[bytes]], Answer]:
    left = list(answers)
    return lambda _: left.pop(0) if left else Delivered()


def test_a_failed_attempt_is_made_again_with_the_same_lines(tmp_path: Path):
    bench = Bench(PickySender(_script(Retry("status_503"), Retry("connection"))), tmp_path)

    assert bench.run(_lines(10))
    assert bench.sender.stored == _lines(10).splitlines()
    assert len(bench.sender.attempts) == 3
    assert bench.way.figures.snapshot().retries == {"status_503": 1, "connection": 1}


def test_what_retry_after_asks_for_reaches_the_gate(tmp_path: Path):
    bench = Bench(PickySender(_script(Retry("status_429", 7.0))), tmp_path)

    assert bench.run(_lines(1))
    assert bench.gate.waits == [7.0]


def test_a_held_backend_drops_nothing(tmp_path: Path):
    bench = Bench(PickySender(_script(*[Hold("status_401")] * 5)), tmp_path)

    assert bench.run(_lines(100))
    assert bench.sender.stored == _lines(100).splitlines()
    assert bench.dropped == {}


def test_one_poisoned_line_is_found_and_quarantined_and_the_rest_arrives_in_order(tmp_path: Path):
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(1000, [500]))
    assert bench.sender.stored == [
        line for line in _lines(1000, [500]).splitlines() if b"p" not in line
    ]
    assert bench.dropped == {"rejected": 1}
    assert b"poison500" in (tmp_path / "quarantine").read_bytes()
    assert len(bench.sender.attempts) <= 25


def test_poison_in_several_files_of_a_batch_is_found_in_each(tmp_path: Path):
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(10, [0]), _lines(10, [9]), _lines(3))
    assert len(bench.sender.stored) == 21
    assert bench.dropped == {"rejected": 2}


def test_a_batch_that_is_too_large_is_halved_with_few_extra_requests(tmp_path: Path):
    def rule(lines: list[bytes]) -> Answer:
        return TooLarge() if len(lines) > 100 else Delivered()

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(1024))
    assert bench.sender.stored == _lines(1024).splitlines()
    refused = [lines for lines in bench.sender.attempts if len(lines) > 100]
    assert len(refused) <= 11


def test_a_single_line_that_is_too_large_is_dropped_and_counted(tmp_path: Path):
    def rule(lines: list[bytes]) -> Answer:
        return TooLarge() if sum(map(len, lines)) > 500 else Delivered()

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(b"a\n" + b"b" * 600 + b"\nc\n")
    assert bench.sender.stored == [b"a", b"c"]
    assert bench.dropped == {"too_large": 1}


def test_a_backend_that_refuses_every_line_is_held_and_not_bled(tmp_path: Path):
    refusals = 0

    def rule(lines: list[bytes]) -> Answer:
        nonlocal refusals
        refusals += 1
        return Refused("status_400") if refusals < 300 else Delivered()

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(200))
    assert bench.dropped == {"rejected": REFUSALS_TO_HOLD - 1}
    assert len(bench.sender.stored) == 200 - (REFUSALS_TO_HOLD - 1)


def test_many_poisoned_lines_in_a_row_do_not_stop_the_lines_behind_them(tmp_path: Path):
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(30, range(30)), others=[b"good1\n", b"good2\n"])
    assert bench.sender.stored == [b"good1"]
    assert bench.dropped == {"rejected": 30}


def test_one_good_line_among_the_refused_ones_is_found_though_nothing_else_is_there(tmp_path: Path):
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(38, set(range(38)) - {30}))
    assert bench.sender.stored == [b"line30"]
    assert bench.dropped == {"rejected": 37}


def test_after_a_hold_lines_go_out_in_their_order_again(tmp_path: Path):
    calls = 0

    def rule(lines: list[bytes]) -> Answer:
        nonlocal calls
        calls += 1
        return Refused("status_400") if calls < 70 else Delivered()

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(100))
    numbers = [int(line[4:]) for line in bench.sender.stored]
    inversions = sum(a > b for a, b in pairwise(numbers))
    assert len(numbers) == 100 - (REFUSALS_TO_HOLD - 1)
    assert inversions <= 1


def test_while_held_attempts_alternate_between_the_line_and_others(tmp_path: Path):
    healthy = threading.Event()

    def rule(lines: list[bytes]) -> Answer:
        if len(bench.sender.attempts) > 80:
            healthy.set()
        return Delivered() if healthy.is_set() else Refused("status_400")

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(REFUSALS_TO_HOLD), others=[b"other\n"])
    held = b"line%d" % (REFUSALS_TO_HOLD - 1)
    turns = [lines[0] for lines in bench.sender.attempts[-30:]]
    assert turns.count(held) >= 10
    assert turns.count(b"other") >= 10
    assert held in bench.sender.stored


@pytest.mark.parametrize(
    "refusal",
    [Refused("status_400"), Partly(retry=(), rejected=((0, "status_400"),))],
    ids=["whole", "by-item"],
)
def test_a_held_line_that_is_refused_after_another_worker_ended_the_hold_is_dropped_once(
    tmp_path: Path, refusal: Answer
):
    def rule(lines: list[bytes]) -> Answer:
        assert len(bench.sender.attempts) < 500, "it has no end"
        if bench.way.suspicion.held and lines == [b"poison19"]:
            # What another worker's delivery does meanwhile:
            bench.way.suspicion.held = False
            bench.way.suspicion.in_row = 0
        return refusal if len(lines) == 1 else Refused("status_400")

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(25, range(25)))
    assert sum(bench.dropped.values()) == 25
    assert (tmp_path / "quarantine").read_bytes().count(b"\n") == 25


def test_the_rest_goes_out_in_order_once_another_worker_ended_the_hold(tmp_path: Path):
    def rule(lines: list[bytes]) -> Answer:
        if bench.way.suspicion.held:
            bench.way.suspicion.held = False
            bench.way.suspicion.in_row = 0
            return Retry("status_503")
        return Delivered() if len(bench.sender.attempts) > 40 else Refused("status_400")

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(40))
    assert bench.dropped == {"rejected": REFUSALS_TO_HOLD - 1}
    assert bench.sender.stored == _lines(40).splitlines()[REFUSALS_TO_HOLD - 1 :]


def test_only_the_items_that_failed_are_sent_again(tmp_path: Path):
    first = Partly(retry=(1, 3), rejected=((2, "mapping"),))
    bench = Bench(PickySender(_script(first)), tmp_path)

    assert bench.run(_lines(5))
    assert bench.sender.attempts[1] == [b"line1", b"line3"]
    assert sorted(bench.sender.stored) == [b"line0", b"line1", b"line3", b"line4"]
    assert bench.dropped == {"mapping": 1}


def test_a_bulk_that_refuses_all_it_got_right_after_an_outage_lets_the_next_through(tmp_path: Path):
    answers = (Retry("status_503"), Partly(retry=(), rejected=((0, "mapping"), (1, "mapping"))))
    bench = Bench(PickySender(_script(*answers)), tmp_path)

    assert bench.run(_lines(2))
    assert bench.run(_lines(3))
    assert bench.dropped == {"mapping": 2}
    assert bench.sender.stored == _lines(3).splitlines()


def test_a_bulk_that_refuses_every_item_is_held_too(tmp_path: Path):
    calls = 0

    def rule(lines: list[bytes]) -> Answer:
        nonlocal calls
        calls += 1
        if calls > 40:
            return Delivered()
        return Partly(retry=(), rejected=tuple((index, "mapping") for index in range(len(lines))))

    bench = Bench(PickySender(rule), tmp_path)

    assert bench.run(_lines(100))
    assert sum(bench.dropped.values()) < REFUSALS_TO_HOLD
    assert len(bench.sender.stored) > 100 - REFUSALS_TO_HOLD


def test_what_a_backend_left_out_is_counted_and_nothing_is_sent_again(tmp_path: Path):
    sender = PickySender(_script(Delivered(LeftOut(3, "too_old"))))
    bench = Bench(sender, tmp_path)

    assert bench.run(_lines(10))

    assert len(sender.attempts) == 1
    assert bench.dropped == {"too_old": 3}
    assert bench.way.figures.snapshot().lines_acknowledged == 7


def test_a_backend_cannot_leave_out_more_than_it_was_sent(tmp_path: Path):
    bench = Bench(PickySender(_script(Delivered(LeftOut(10**9, "partial_success")))), tmp_path)

    assert bench.run(_lines(10))

    assert bench.dropped == {"partial_success": 10}


def test_items_can_be_left_out_of_a_batch_of_which_others_come_again(tmp_path: Path):
    answer = Partly(retry=(0, 1), rejected=(), left_out=LeftOut(2, "too_old"))
    bench = Bench(PickySender(_script(answer)), tmp_path)

    assert bench.run(_lines(10))

    assert bench.dropped == {"too_old": 2}
    assert bench.way.figures.snapshot().lines_acknowledged == 8


def test_a_stop_whose_time_is_over_gives_the_batch_up_and_drops_nothing(tmp_path: Path):
    bench = Bench(PickySender(lambda _: Retry("connection")), tmp_path)
    bench.stop.request()
    bench.stop.request()

    assert not bench.run(_lines(3))
    assert bench.dropped == {}


@pytest.mark.parametrize("size", [0, 2**20])
def test_the_quarantine_is_bounded_and_what_it_has_no_room_for_is_still_counted(
    tmp_path: Path, size: int
):
    (tmp_path / "quarantine").write_bytes(b"x" * size)
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(4, [1]))
    assert bench.dropped == {"rejected": 1}
    assert (tmp_path / "quarantine").stat().st_size <= 2**20


def test_a_quarantine_that_is_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "quarantine").symlink_to(tmp_path / "elsewhere")
    bench = Bench(PickySender(_refuse_poison), tmp_path)

    assert bench.run(_lines(4, [1]))
    assert (tmp_path / "elsewhere").read_bytes() == b""

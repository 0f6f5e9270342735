"""Step 7 of the line: a batch goes out, attempt after attempt, until every record is settled.

What is refused is narrowed down to the line that is to blame; that one is quarantined and
counted, the rest goes on. When many lines in a row are refused alone, the backend is wrong and
not the lines: then nothing more is dropped until it takes something again.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from runtime.logs import Seldom
from sidecar.backends.answers import (
    Answer,
    Backend,
    Delivered,
    Hold,
    LeftOut,
    Partly,
    Refused,
    Retry,
    Sender,
    TooLarge,
)
from sidecar.batch import Batch
from sidecar.ending import Ending
from sidecar.figures import Figures
from sidecar.gate import Gate
from sidecar.pieces import Pieces
from sidecar.quarantine import Quarantine
from sidecar.rate import Rate

_log = logging.getLogger(__name__)

REFUSALS_TO_HOLD = 20
"""Lines in a row, each refused alone, after which the backend is held."""


@dataclass(slots=True)
class Suspicion:
    """How many lines in a row one backend has refused alone; shared by its workers."""

    in_row: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """What every delivery to one backend shares."""

    name: str
    backend: Backend
    gate: Gate
    ending: Ending
    figures: Figures
    quarantine: Quarantine
    rate: Rate
    suspicion: Suspicion
    seldom: Seldom
    request_seconds: float


class Delivery:
    """Brings one batch to its backend; used by one worker, for one batch after the other."""

    def __init__(self, way: Way, sender: Sender) -> None:
        self._way = way
        self._sender = sender
        self._pieces = Pieces(Batch())
        self._size_limit: int | None = None
        """Encoded bytes that the backend was seen to take, after a 413."""
        self.settled_lines = 0
        """Lines of the batch that are delivered or dropped."""

    def run(self, batch: Batch, extend: Callable[[], Batch | None]) -> bool:
        """Settle every record of `batch`; False if the backend was given up before that.

        Args:
            batch: what is to be delivered.
            extend: gives other lines while one is held; they become part of what is settled.
        """
        self._pieces = Pieces(batch)
        self.settled_lines = 0
        while self._pieces:
            if self._pieces.suspect is not None and not self._way.suspicion.held:
                self._pieces.release()  # another worker's delivery has ended the hold
            piece = self._fitting(self._pieces.next(extend))
            self._way.rate.wait(self._way.ending)
            if not self._way.gate.enter():
                return False
            try:
                self._settle(piece, self._attempt(piece))
            except BaseException:
                # A fault of ours: the gate waits for what this attempt came to.
                self._way.gate.failed()
                raise
        return True

    def _fitting(self, piece: Batch) -> Batch:
        """Return the head of `piece` that fits what the backend takes; the rest waits."""
        limit = self._size_limit
        while limit is not None and piece.count > 1 and piece.encoded_bytes > limit:
            piece, rest = self._halves(piece)
            self._pieces.put_back(rest)
        return piece

    def _attempt(self, piece: Batch) -> Answer:
        way = self._way
        left = way.ending.seconds_left()
        seconds = way.request_seconds if left is None else min(way.request_seconds, left)
        before = self._sender.sent_bytes
        answer = self._sender.attempt(piece, seconds=max(0.05, seconds))
        sent = self._sender.sent_bytes - before
        way.figures.sent(sent)
        way.rate.paid(sent)
        return answer

    def _settle(self, piece: Batch, answer: Answer) -> None:
        match answer:
            case Delivered(left_out):
                self._delivered(piece, left_out)
            case Retry(reason, after_seconds):
                self._failed(reason, after_seconds)
                self._pieces.put_back(piece)
            case Hold(reason):
                self._say_held(reason)
                self._failed(reason, None)
                self._pieces.put_back(piece)
            case TooLarge():
                self._narrow(piece, "too_large")
            case Refused():
                self._narrow(piece, "rejected")
            case Partly():
                self._partly(piece, answer)
            case _:
                assert_never(answer)

    def _delivered(self, piece: Batch, left_out: LeftOut | None) -> None:
        """Note that the backend has `piece`, but for what it left out; that ends a hold."""
        way = self._way
        self._pieces.clear(piece)
        way.suspicion.in_row = 0
        way.suspicion.held = False
        lost = self._left_out(piece, left_out)
        way.figures.delivered(piece.line_count - lost)
        self.settled_lines += piece.line_count
        if way.gate.succeeded() | way.seldom.over("hold", way.name):
            _log.info("the backend takes lines again", extra={"fields": {"backend": way.name}})
        self._pieces.release()

    def _left_out(self, piece: Batch, left_out: LeftOut | None) -> int:
        """Count the lines of records that the backend threw away; return how many they are."""
        if left_out is None:
            return 0
        # It does not say which ones: with records of several lines this is an estimate.
        share = min(1.0, left_out.records / piece.count)
        lines = math.ceil(share * piece.line_count)
        self._way.figures.dropped(lines, left_out.reason)
        if self._way.seldom.due("left_out", self._way.name):
            _log.error(
                "a backend left lines out of a batch and does not say which; they are dropped",
                extra={"fields": {"backend": self._way.name, "reason": left_out.reason}},
            )
        return lines

    def _failed(self, reason: str, after_seconds: float | None) -> None:
        way = self._way
        way.figures.failed(reason)
        way.gate.failed(after_seconds)
        if way.seldom.due("failed", way.name):
            _log.warning(
                "a backend cannot be reached or does not take lines now; they wait in their files",
                extra={"fields": {"backend": way.name, "reason": reason}},
            )

    def _narrow(self, piece: Batch, reason: str) -> None:
        """A piece was refused as a whole: look for the line to blame, unless it is the backend."""
        if self._way.suspicion.held:
            self._failed(reason, None)
            if self._pieces.suspect is None and piece.count == 1:
                self._pieces.hold(piece)
            else:
                self._pieces.refused(*self._halves(piece))
            return
        self._pieces.clear(piece)
        self._way.gate.answered()
        if piece.count == 1:
            self._refused_alone(piece, reason)
            return
        halves = self._halves(piece)
        self._pieces.put_back(*halves)
        if reason == "too_large":
            self._size_limit = halves[0].encoded_bytes

    def _refused_alone(self, piece: Batch, reason: str) -> None:
        suspicion = self._way.suspicion
        suspicion.in_row += 1
        if suspicion.in_row < REFUSALS_TO_HOLD:
            self._quarantine(piece, reason)
            return
        suspicion.held = True
        self._pieces.hold(piece)
        self._say_held(f"{REFUSALS_TO_HOLD} lines in a row were refused")
        self._failed(reason, None)

    def _partly(self, piece: Batch, answer: Partly) -> None:
        """Settle record by record: some are there, some come again, some never will."""
        rejected = dict(answer.rejected)
        settled = {*rejected, *answer.retry}
        taken = [index for index in range(piece.count) if index not in settled]
        stays_held = not taken and self._way.suspicion.held
        if not stays_held:
            self._pieces.clear(piece)
        if taken:
            self._delivered(self._pick(piece, taken), answer.left_out)
        elif stays_held:
            self._failed("partly", answer.after_seconds)
            self._pieces.refused(*self._halves(piece))
            return
        if answer.retry:
            self._failed("partly", answer.after_seconds)
            self._pieces.put_back(self._pick(piece, answer.retry))
        elif not taken:
            self._way.gate.answered()
        for place, (index, reason) in enumerate(answer.rejected):
            if self._way.suspicion.held:
                rest = [later for later, _ in answer.rejected[place:]]
                self._pieces.put_back(self._pick(piece, rest))
                return
            alone = self._pick(piece, [index])
            if taken:
                self._quarantine(alone, reason)
            else:
                self._refused_alone(alone, reason)

    def _quarantine(self, piece: Batch, reason: str) -> None:
        way = self._way
        kept = [way.quarantine.keep(way.name, reason, part.records) for part in piece.parts]
        way.figures.dropped(piece.line_count, reason)
        self.settled_lines += piece.line_count
        if way.seldom.due("quarantine", way.name):
            _log.error(
                "a backend refused a line for good; it is dropped",
                extra={"fields": {"backend": way.name, "reason": reason, "kept": all(kept)}},
            )

    def _say_held(self, reason: str) -> None:
        if self._way.seldom.due("hold", self._way.name):
            _log.error(
                "a backend is held: it refuses what we send, and nothing is dropped",
                extra={
                    "fields": {
                        "backend": self._way.name,
                        "reason": reason,
                        "hint": "check the backend's url, credentials and limits",
                    }
                },
            )

    def _halves(self, piece: Batch) -> tuple[Batch, ...]:
        """Return the piece in two, or as it is where it is a single record."""
        if piece.count == 1:
            return (piece,)
        middle = piece.count // 2
        indexes = range(piece.count)
        return self._pick(piece, indexes[:middle]), self._pick(piece, indexes[middle:])

    def _pick(self, piece: Batch, wanted: Sequence[int]) -> Batch:
        """Return a batch of some records, encoded anew, in their order."""
        chosen = Batch(first=piece.first + wanted[0])
        for first, part in piece.indexed():
            stop = first + part.records.count
            mine = [index - first for index in wanted if first <= index < stop]
            if mine:
                records = part.records.pick(mine)
                body = self._way.backend.encode_again(records, mine, part.body)
                chosen.add(part.block, records, body)
        return chosen

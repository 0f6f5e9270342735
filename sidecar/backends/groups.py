"""Batches that a backend takes in several requests: cut by a key, and the answers put together."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sidecar.backends.answers import Answer, Delivered, LeftOut, Partly
from sidecar.batch import Batch, Part

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class Group(Generic[Key]):
    """The parts of a batch that have a key in common, as a batch of their own."""

    key: Key
    batch: Batch = field(default_factory=Batch)
    spans: list[range] = field(default_factory=list)
    """Where its records stand in the whole batch, part by part."""

    def places(self) -> list[int]:
        """Return the index in the whole batch of each of the group's records."""
        return [index for span in self.spans for index in span]


def split(batch: Batch, key_of: Callable[[Part], Key]) -> list[Group[Key]]:
    """Return the groups of a batch, in the order of their first parts."""
    groups: dict[Key, Group[Key]] = {}
    for first, part in batch.indexed():
        key = key_of(part)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(key)
        group.batch.add(part.block, part.records, part.body)
        group.spans.append(range(first, first + part.records.count))
    if len(groups) == 1:
        # What the sender keeps for a batch that is sent again goes by the batch itself.
        next(iter(groups.values())).batch = batch
    return list(groups.values())


def attempt_each(groups: Sequence[Group[Key]], attempt: Callable[[Group[Key]], Answer]) -> Answer:
    """Attempt one group after the other until one fails, and say what became of all of them.

    What comes after a failure is not attempted: a backend in trouble is asked once.
    """
    tally: _Tally[Key] = _Tally()
    for place, group in enumerate(groups):
        answer = attempt(group)
        if isinstance(answer, (Delivered, Partly)):
            tally.settle(group, answer)
        elif not tally.settled:
            return answer
        else:
            # What it was that failed is learnt at the next attempt, which begins with this group.
            tally.again(group.places() for group in groups[place:])
            break
    return tally.answer()


class _Tally(Generic[Key]):
    """What is known of a batch's records so far."""

    def __init__(self) -> None:
        self.settled = False
        """Whether anything is known of any record."""
        self._retry: list[int] = []
        self._rejected: list[tuple[int, str]] = []
        self._after_seconds: float | None = None
        self._left_out: LeftOut | None = None

    def settle(self, group: Group[Key], answer: Delivered | Partly) -> None:
        self.settled = True
        if answer.left_out is not None:
            before = 0 if self._left_out is None else self._left_out.records
            self._left_out = LeftOut(before + answer.left_out.records, answer.left_out.reason)
        if isinstance(answer, Partly):
            places = group.places()
            self._retry += [places[index] for index in answer.retry]
            self._rejected += [(places[index], reason) for index, reason in answer.rejected]
            self._after_seconds = answer.after_seconds or self._after_seconds

    def again(self, indices: Iterable[Sequence[int]]) -> None:
        for each in indices:
            self._retry += each

    def answer(self) -> Answer:
        if not self._retry and not self._rejected:
            return Delivered(self._left_out)
        return Partly(
            retry=tuple(sorted(self._retry)),
            rejected=tuple(sorted(self._rejected)),
            after_seconds=self._after_seconds,
            left_out=self._left_out,
        )

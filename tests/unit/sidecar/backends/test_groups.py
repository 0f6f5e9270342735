"""Batches in several requests: what their answers come to together."""

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
from sidecar.backends.groups import Group, attempt_each, split
from sidecar.batch import Batch
from tests.batches import batch, facts, open_backend

A, B, C = (facts(file=name) for name in "abc")


def _batch() -> Batch:
    """Return 2 records of a, 1 of b, 3 of c, 1 more of a: places 01 2 345 6."""
    parts = ((b"1\n2\n", A), (b"3\n", B), (b"4\n5\n6\n", C), (b"7\n", A))
    return batch(open_backend("stdout"), *parts)


def _by_file(whole: Batch) -> list[Group[str]]:
    return split(whole, lambda part: part.records.facts.file)


def _ask(**answers: Answer) -> tuple[Answer, list[str]]:
    asked: list[str] = []

    def attempt(group: Group[str]) -> Answer:
        asked.append(group.key)
        return answers.get(group.key, Delivered())

    return attempt_each(_by_file(_batch()), attempt), asked


def test_parts_with_a_key_in_common_travel_together_in_their_order():
    groups = _by_file(_batch())

    assert [group.key for group in groups] == ["a", "b", "c"]
    assert [group.places() for group in groups] == [[0, 1, 6], [2], [3, 4, 5]]
    assert [group.batch.count for group in groups] == [3, 1, 3]


def test_a_batch_of_one_group_stays_the_batch_that_it_is():
    whole = batch(open_backend("stdout"), (b"1\n", A), (b"2\n", A))

    (group,) = _by_file(whole)

    assert group.batch is whole


def test_all_delivered_is_delivered():
    assert _ask() == (Delivered(), ["a", "b", "c"])


def test_the_first_failure_is_the_answer_and_nothing_more_is_asked():
    for answer in (Retry("x", 3.0), Hold("x"), TooLarge(), Refused("x")):
        assert _ask(a=answer) == (answer, ["a"])


def test_what_comes_after_a_later_failure_is_sent_again_and_what_came_before_it_is_not():
    answer, asked = _ask(b=Retry("x"))

    assert answer == Partly(retry=(2, 3, 4, 5), rejected=())
    assert asked == ["a", "b"]


def test_indexes_of_a_group_become_those_of_the_batch():
    answer, _ = _ask(
        a=Partly(retry=(2,), rejected=((1, "bad"),)),
        c=Partly(retry=(0,), rejected=((2, "worse"),), after_seconds=7.0),
    )

    assert answer == Partly(retry=(3, 6), rejected=((1, "bad"), (5, "worse")), after_seconds=7.0)


def test_what_was_left_out_is_added_up():
    answer, _ = _ask(a=Delivered(LeftOut(2, "old")), c=Delivered(LeftOut(1, "old")))

    assert answer == Delivered(LeftOut(3, "old"))


def test_what_was_left_out_is_told_beside_what_comes_again():
    answer, _ = _ask(a=Delivered(LeftOut(2, "old")), b=Hold("x"))

    assert answer == Partly(retry=(2, 3, 4, 5), rejected=(), left_out=LeftOut(2, "old"))

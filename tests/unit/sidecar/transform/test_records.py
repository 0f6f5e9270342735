"""What a batch asks of records: how far a part of them reaches, and parts of them."""

from array import array
from dataclasses import replace

import pytest

from sidecar.transform.records import Columns, Records, Taken
from tests.unit.sidecar.transform.blocks import block, decoded, records, transform


def test_plain_records_say_how_far_the_first_ones_reach():
    made = transform()(block(b"one\n\nthree\nfour", start=50))

    assert [made.taken(count) for count in range(5)] == [
        Taken(50, 0, {}),
        Taken(54, 1, {}),
        Taken(55, 2, {}),
        Taken(61, 3, {}),
        Taken(65, 4, {}),
    ]


def test_lines_left_out_count_with_the_record_before_them():
    made = records(b"no\na\nno\n\nb\nno\n", keep="^[ab]", skip_empty=True)

    assert [made.taken(count) for count in range(3)] == [
        Taken(3, 0, {"filtered": 1}),
        Taken(9, 1, {"filtered": 2, "empty": 1}),
        Taken(14, 2, {"filtered": 3, "empty": 1}),
    ]


@pytest.mark.parametrize("keep", [None, "^[ab]"], ids=["plain", "columns"])
def test_slices_tile_the_records_and_what_they_stand_for(keep: str | None):
    made = records(b"no\na\n\nno\nb\na\nno\n", keep=keep)
    for first in range(1, made.count + 1):
        for stop in range(first, made.count + 1):
            parts = [made.slice(0, first), made.slice(first, stop), made.slice(stop, made.count)]

            assert [part.count for part in parts] == [first, stop - first, made.count - stop]
            assert parts[0].start == made.start
            assert parts[0].end == parts[1].start
            assert parts[1].end == parts[2].start
            assert parts[2].end == made.end
            assert sum(part.line_count for part in parts) == made.line_count
            left_out = sum(part.dropped.get("filtered", 0) for part in parts)
            assert left_out == made.dropped.get("filtered", 0)
            assert [r for part in parts for r in decoded(part)] == decoded(made)


def test_records_can_be_picked_to_be_sent_again():
    for keep in (None, "."):
        made = records(b"a\nb\nc\nd\n", keep=keep)

        assert [record["message"] for record in decoded(made.pick([0, 2, 3]))] == ["a", "c", "d"]
        assert made.pick([]).count == 0


def test_a_record_tells_its_offset_and_its_message():
    for keep in (None, "."):
        made = records(b"a\nbb\r\nccc", keep=keep)

        assert [made.offset(index) for index in range(3)] == [0, 2, 6]
        assert [made.message(index) for index in range(3)] == [b"a", b"bb", b"ccc"]


def interleaved(*spans: tuple[int, int]) -> Records:
    """Records that begin and stop at these offsets."""
    begins, stops = (array("q", column) for column in zip(*spans, strict=True))
    zeros = array("q", bytes(8 * len(spans)))
    columns = Columns(begins=zeros, ends=zeros, offsets=begins, stops=stops)
    plain = records(b"")
    return replace(plain, count=len(spans), columns=columns, start=spans[0][0], end=max(stops))


def test_a_batch_may_not_end_inside_of_records_that_interleave():
    made = interleaved((0, 10), (10, 40), (20, 30), (30, 35), (40, 50))

    assert [made.cut(count) for count in range(6)] == [0, 1, 1, 1, 4, 5]
    assert made.together() == 1
    assert made.slice(1, 5).together() == 3
    assert made.slice(4, 5).together() == 1


def test_records_of_nothing_are_nothing():
    made = records(b"")

    assert (made.count, made.line_count, made.together(), made.cut(0)) == (0, 0, 0, 0)
    assert made.taken(0) == Taken(0, 0, {})

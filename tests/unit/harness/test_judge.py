import pytest

from tests.judge import Judge, Ledger, Verdict


def records_of(lines: bytes, *, file: str = "f") -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    offset = 0
    for line in lines.splitlines(keepends=True):
        found.append({"message": line[:-1].decode(), "offset": offset, "id": f"{file}-{offset}"})
        offset += len(line)
    return found


def judged(ledger: Ledger, *batches: list[dict[str, object]], **options: bool) -> Verdict:
    judge = Judge(ledger, **options)
    for batch in batches:
        judge.take_records(batch, at=1e9)
    return judge.verdict()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger("run")


@pytest.mark.parametrize("size", [64, 100, 130, 1000, 100_000])
def test_a_line_has_the_size_that_was_asked_for(ledger, size):
    assert len(ledger.stream("a").line(size=size)) == size


def test_lines_that_arrive_as_they_were_written_are_exact(ledger):
    verdict = judged(ledger, records_of(ledger.stream("a").lines(20)))

    verdict.assert_exact()
    assert verdict.records == 20
    assert verdict.late(0.5) > 0


def test_a_missing_line_is_seen(ledger):
    records = records_of(ledger.stream("a").lines(5))
    del records[2]

    assert judged(ledger, records).missing == {"a": [2]}
    with pytest.raises(AssertionError, match="missing"):
        judged(ledger, records).assert_at_least_once(duplicates=100)


def test_a_stream_of_which_nothing_arrived_is_missing_whole(ledger):
    ledger.stream("a").lines(3)

    assert judged(ledger).missing == {"a": [0, 1, 2]}


def test_an_excused_line_may_be_missing_and_may_arrive(ledger):
    records = records_of(ledger.stream("a").lines(5))
    ledger.stream("a").excuse([1, 2])
    judge = Judge(ledger)
    judge.take_records(records[:2] + records[3:])

    judge.verdict().assert_exact()
    assert judge.owed() == 0


def test_a_line_that_comes_twice_is_a_duplicate_and_no_disorder(ledger):
    records = records_of(ledger.stream("a").lines(5))
    verdict = judged(ledger, records, records[3:])

    assert (verdict.duplicates, verdict.disorder) == (2, [])
    verdict.assert_at_least_once(duplicates=2)
    with pytest.raises(AssertionError, match="duplicates"):
        verdict.assert_at_least_once(duplicates=1)


def test_duplicates_are_counted_without_ids_too(ledger):
    records = records_of(ledger.stream("a").lines(5))

    assert judged(ledger, records, records[3:], check_ids=False).duplicates == 2


def test_lines_of_one_stream_in_another_order_are_disorder(ledger):
    records = records_of(ledger.stream("a").lines(3))

    assert judged(ledger, [records[1], records[0], records[2]]).disorder == ["a: 0 after 1"]


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message[:-1],
        lambda message: message + " ",
        lambda message: message.replace("#", "\ufffd"),
        lambda message: "\0" + message,
        lambda message: message[1:],
        lambda message: message + "\n" + message,
        lambda _: "",
    ],
    ids=["cut", "longer", "changed", "NUL", "beheaded", "two in one", "empty"],
)
def test_a_line_that_is_not_as_it_was_written_is_corrupt(ledger, change):
    records = records_of(ledger.stream("a").lines(2))
    records[1]["message"] = change(records[1]["message"])
    verdict = judged(ledger, records)

    assert len(verdict.corrupt) == 1
    assert verdict.missing == {"a": [1]}


def test_a_line_that_nobody_wrote_is_invented(ledger):
    other = Ledger("run")
    ledger.stream("a").lines(2)
    verdict = judged(ledger, records_of(other.stream("a").lines(3)))

    assert len(verdict.invented) == 1


def test_a_line_under_two_ids_is_seen(ledger):
    lines = ledger.stream("a").lines(2)
    verdict = judged(ledger, records_of(lines), records_of(lines, file="g"))

    assert len(verdict.changed_ids) == 2


def test_a_copy_may_bring_a_line_under_another_id_but_not_twice_under_one(ledger):
    lines = ledger.stream("a").lines(2)
    once = [records_of(lines), records_of(lines, file="g")]

    judged(ledger, *once, copies=True).assert_exact()
    assert judged(ledger, *once, *once, copies=True).duplicates == 4


def test_two_lines_under_one_id_are_seen(ledger):
    one = records_of(ledger.stream("a").line())
    two = records_of(ledger.stream("b").line())

    assert len(judged(ledger, one, two).shared_ids) == 1


def test_an_id_that_does_not_end_in_the_offset_is_seen(ledger):
    records = records_of(ledger.stream("a").lines(2))
    records[1]["offset"] = 7

    assert len(judged(ledger, records).wrong_offsets) == 1


def test_a_batch_id_that_comes_with_other_lines_is_seen(ledger):
    judge = Judge(ledger)
    records = records_of(ledger.stream("a").lines(2))
    judge.take_batch("x", records)
    judge.take_batch("x", [record | {"time": "another"} for record in records])

    assert judge.verdict().changed_batches == []
    judge.take_batch("x", records[:1])
    assert judge.verdict().changed_batches == ["x"]


def test_between_two_files_of_one_stream_there_is_no_order(ledger):
    old, new = ledger.stream("a").lines(2), ledger.stream("a").lines(2)
    first = records_of(old)
    second = [record | {"id": f"g-{record['offset']}"} for record in records_of(new)]

    judged(ledger, second, first).assert_exact()
    assert judged(ledger, second[1:], second[:1], first).disorder == ["a: 2 after 3"]


def test_strangers_are_left_aside_only_where_the_test_says_so(ledger):
    stranger: list[dict[str, object]] = [{"message": "hello", "offset": 0, "id": "f-0"}]
    judge = Judge(ledger, foreign=True)
    judge.take_records(stranger)

    judge.verdict().assert_exact()
    assert judge.strangers == stranger
    assert judged(ledger, stranger).corrupt == ["hello"]

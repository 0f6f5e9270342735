"""The numbers by which a broker tells what comes again from what is new."""

import pytest

pytest.importorskip("kafka", reason="the extra kafka is not installed")

from sidecar.backends.kafka_producer import Sequences

SOME = (("file", 0, 10),)
OTHERS = (("file", 700, 10),)


def test_what_comes_again_has_the_number_that_it_had():
    numbers = Sequences(1, 0)

    assert [numbers.use(5, SOME), numbers.use(5, SOME)] == [0, 0]


def test_what_is_stored_uses_up_its_numbers_in_its_partition_alone():
    numbers = Sequences(1, 0)
    numbers.use(5, SOME)
    numbers.stored(5, 10)

    assert numbers.use(5, OTHERS) == 10
    assert numbers.use(6, OTHERS) == 0


def test_a_number_of_which_nobody_knows_is_for_the_same_records_alone():
    numbers = Sequences(1, 0)
    numbers.use(5, SOME)

    assert numbers.use(5, OTHERS) is None
    assert numbers.use(5, SOME) == 0, "and still is"


def test_a_number_under_which_nothing_was_stored_is_free_again():
    numbers = Sequences(1, 0)
    numbers.use(5, SOME)
    numbers.not_stored(5)

    assert numbers.use(5, OTHERS) == 0


def test_numbers_begin_again_after_the_last_one():
    numbers = Sequences(1, 0)
    for count in (2**31 - 4, 10):
        numbers.use(5, SOME)
        numbers.stored(5, count)

    assert numbers.use(5, SOME) == 6

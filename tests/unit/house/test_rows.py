"""Every row of the tables that the sidecar was built to has a test that bears its number.

The tables: scenarios of a tailer (`row_94`), faults (`s17`), threats (`t3`), and bad inputs
(`row_58_of_the_bad_inputs`). A test may bear several: `rows_103_109_s1_s2_…`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_TEST = re.compile(r"^ *def (test_\w+)\(", re.MULTILINE)
_ROWS = re.compile(r"_rows?_((?:\d+[a-c]?_(?:and_(?=\d))?)+)(?:s\d+_)*(of_the_bad_inputs)?")
_FAULT = re.compile(r"_s(\d+)(?=_)")
_THREAT = re.compile(r"_t(\d+)(?=_)")

_NONE = {24, 36, 40, 45, 52, 54, 59, 62, 63, 66, 71, 77, 81, 88, 90, 92, 99, 102, 110}
SCENARIOS = {*range(1, 113)} - _NONE
"""The numbers that the table has."""
NO_SCENARIO = {
    4: "nothing is started at the end of a file",
    16: "files are read in fair turn, not the oldest first",
    28: "no file is ignored for its age",
    84: "nothing is ever unpacked",
    101: "there is no version before the first",
}
FAULTS = {*range(1, 41)}
BAD_INPUTS = {*range(54, 72)}
"""Those of files in the log volume."""
THREATS = {1, 2, 3, 4, 5, 6, 10, 15, 19, 20, 21, 23}
"""Those of which the sidecar is the defence."""


def _names() -> Iterator[str]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in _TEST.findall(path.read_text(encoding="utf-8")):
            yield f"{name}_"


def _rows(*, bad_inputs: bool) -> set[int]:
    return {
        int(number)
        for name in _names()
        for numbers, kind in _ROWS.findall(name)
        if bool(kind) is bad_inputs
        for number in re.findall(r"\d+", numbers)
    }


def _numbers(pattern: re.Pattern[str]) -> set[int]:
    return {int(number) for name in _names() for number in pattern.findall(name)}


def test_every_scenario_of_a_tailer_has_a_test_or_a_reason():
    covered = _rows(bad_inputs=False)

    assert sorted(SCENARIOS - covered - NO_SCENARIO.keys()) == []
    assert sorted(NO_SCENARIO.keys() & covered) == []
    assert sorted(covered - SCENARIOS) == []


def test_every_fault_has_a_test():
    assert sorted(FAULTS - _numbers(_FAULT)) == []


def test_every_bad_input_of_the_log_volume_has_a_test():
    assert sorted(BAD_INPUTS - _rows(bad_inputs=True)) == []


def test_every_threat_that_the_sidecar_answers_has_a_test():
    assert sorted(THREATS - _numbers(_THREAT)) == []

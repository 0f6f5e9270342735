"""The demo's judge: it believes only what stands at an offset."""

from pathlib import Path

from demo.verdict import Row, judge


def _record(offset: int, message: str, file: str = "f") -> dict[str, object]:
    return {"id": f"{file}-{offset}", "offset": offset, "message": message}


def _judge(tmp_path: Path, content: bytes, records: list[dict[str, object]]) -> list[Row]:
    (tmp_path / "a.log").write_bytes(content)
    return judge([("app:/l", tmp_path)], records)


def test_every_line_there_and_once(tmp_path: Path):
    rows = _judge(tmp_path, b"one\n\ntwo\n", [_record(0, "one"), _record(4, ""), _record(5, "two")])

    assert rows == [Row("app:/l/a.log", 3, 3, 0)]


def test_a_record_of_several_lines_covers_them_all(tmp_path: Path):
    rows = _judge(tmp_path, b"boom\n\tat x\n\tat y\nnext\n", [_record(0, "boom\n\tat x\n\tat y")])

    assert (rows[0].written, rows[0].received, rows[0].lost) == (4, 3, 1)


def test_a_text_that_differs_does_not_count(tmp_path: Path):
    assert _judge(tmp_path, b"one\n", [_record(0, "uno")])[0].lost == 1
    assert _judge(tmp_path, b"one\n", [_record(1, "one")])[0].lost == 1


def test_a_repeated_line_is_seen(tmp_path: Path):
    assert _judge(tmp_path, b"one\n", [_record(0, "one")] * 3)[0].repeated == 2


def test_files_of_the_same_text_are_told_apart_by_their_ids(tmp_path: Path):
    (tmp_path / "b.log").write_bytes(b"one\n")

    rows = _judge(tmp_path, b"one\ntwo\n", [_record(0, "one", "x"), _record(4, "two", "x")])

    assert [(row.name[-5:], row.lost) for row in rows] == [("a.log", 0), ("b.log", 0)]


def test_mirrored_lines_are_compared_without_their_heads(tmp_path: Path):
    head = "2026-11-21T10:00:00.123456789Z stdout F "

    assert _judge(tmp_path, f"{head}said\n".encode(), [_record(0, "said")])[0].lost == 0


def test_an_unterminated_last_line_was_written_too(tmp_path: Path):
    assert _judge(tmp_path, b"one\ntw", [_record(0, "one"), _record(4, "tw")])[0].written == 2

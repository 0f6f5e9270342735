import ctypes
import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar import build_encoder, native
from sidecar.build_encoder import build
from sidecar.encode_native import Job
from sidecar.transform import automaton_in_c, in_c
from tests.unit.sidecar.transform.blocks import block, decoded, transform


@pytest.fixture(autouse=True)
def _looked_for_anew():
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture(scope="module")
def built(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("build") / "new" / "encode.so"
    build(target, flags=["-O0"], compiler=compiler)
    return target


def test_the_library_that_is_built_is_used(built: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "LIBRARY", built)

    library = native.library()
    assert library is not None
    assert in_c.count_lines(library, b"a\n\nb") == 2
    assert [entry.name for entry in built.parent.iterdir()] == ["encode.so"]


def test_a_variable_turns_it_off(built: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "LIBRARY", built)
    monkeypatch.setenv("SIDETAIL_ENCODER", "python")

    assert native.library() is None


def test_without_it_python_does_the_work_and_says_so_once_at_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        made = transform(format="json")(block(b'{"level":"warn"}\n'))

        assert decoded(made)[0]["severity"] == "warn"

    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(100)])
def test_what_is_no_library_is_not_used(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "encode.so"
    path.write_bytes(content)
    monkeypatch.setattr(native, "LIBRARY", path)

    assert native.library() is None


def compile_text(compiler: str, text: str, target: Path) -> None:
    source = target.with_suffix(".c")
    source.write_text(text)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True)


def test_a_library_of_another_interface_is_refused(
    compiler: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(native, "INTERFACE", native.INTERFACE + 1)

    with pytest.raises(OSError, match="got interface"):
        native.Library(built)


def test_another_program_s_library_is_refused(compiler: str, tmp_path: Path):
    target = tmp_path / "other.so"
    compile_text(compiler, "int other(void) { return 1; }\n", target)

    with pytest.raises(OSError, match="not the encoder"):
        native.Library(target)


def test_the_structures_are_as_large_as_in_c(compiler: str, tmp_path: Path):
    kafka_records = pytest.importorskip("sidecar.backends.kafka_records", reason="no extra kafka")
    structures = {
        "encode.c": {"job": Job},
        "lines.c": {"lines": in_c.LinesJob},
        "automaton.c": {
            "automaton": automaton_in_c.AutomatonJob,
            "matches": automaton_in_c.MatchesJob,
            "redaction": automaton_in_c.RedactionJob,
        },
        "objects.c": {"objects": in_c.ObjectsJob},
        "record_batch.c": {"records": kafka_records.RecordsJob},
    }
    assert {source.name for source in build_encoder.SOURCES} == structures.keys()
    for source in build_encoder.SOURCES:
        sizes = "".join(
            f"EXPORT int size_of_{name}(void) {{ return sizeof(struct {name}); }}\n"
            for name in structures[source.name]
        )
        target = tmp_path / f"{source.stem}.so"
        compile_text(compiler, f'#include "{source}"\n{sizes}', target)
        compiled = ctypes.CDLL(str(target))

        for name, structure in structures[source.name].items():
            assert getattr(compiled, f"size_of_{name}")() == ctypes.sizeof(structure)


def test_building_says_what_went_wrong(
    compiler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    target = str(tmp_path / "encode.so")

    assert build_encoder.main(["--target", target, "--", "--no-such-flag-at-all"]) == 1
    monkeypatch.setenv("CC", "/no/such/compiler")
    assert build_encoder.main(["--target", target]) == 1
    assert capfd.readouterr().err.count("building the encoder: ") == 2
    assert list(tmp_path.iterdir()) == []

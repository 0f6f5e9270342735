"""`python -m webhook.doctor` as a person runs it, and what is written of it."""

import doctest
import io
import json
import re
from pathlib import Path

import pytest

from tests.sidecar_process import free_port
from tests.webhook_process import ROOT
from webhook.doctor import findings
from webhook.doctor.__main__ import main
from webhook.doctor.checkup import CHECKS


def run(*flags: str, **environ: str) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    status = main(flags, environ, stdout, stderr)
    return status, stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """Leads to a port where nobody listens."""
    file = tmp_path / "config"
    server = f"http://127.0.0.1:{free_port()}"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    return str(file)


def test_an_api_server_that_is_not_there_is_a_broken_link(kubeconfig: str) -> None:
    status, out, err = run(KUBECONFIG=kubeconfig)

    assert status == 1
    assert out.startswith("broken  api server      the API server cannot be asked")
    assert out.endswith("\nbroken: api server\n")
    assert err == ""


def test_with_json_nothing_else_is_printed(kubeconfig: str) -> None:
    status, out, _ = run("--kubeconfig", kubeconfig, "--json")

    assert status == 1
    assert json.loads(out)["broken"] is True


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "got no --kubeconfig"),
        (["--kubeconfig", "/nowhere"], "/nowhere"),
        (["--context", "x"], "context 'x'"),
    ],
)
def test_without_a_way_to_the_cluster_it_ends_with_2(
    flags: list[str], expected: str, tmp_path: Path
) -> None:
    status, out, err = run(*flags, HOME=str(tmp_path))

    assert status == 2
    assert expected in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_config_that_cannot_be_used_ends_with_2(kubeconfig: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("on_error: explode")
    status, _, err = run("--kubeconfig", kubeconfig, "--config", str(bad))

    assert status == 2
    assert "on_error" in err


@pytest.mark.parametrize("flags", [["--namespace", "Not A Name"], ["--nope"], ["-n", ""]])
def test_wrong_flags_end_with_2(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*flags)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_document_has_a_row_for_each_check() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text("utf-8")
    table = text.partition("## The checks")[2].partition("\n## ")[0]

    assert re.findall(r"^\| `([a-z -]+)`", table, re.MULTILINE) == [one.name for one in CHECKS]


def test_what_the_document_sends_people_to_is_there() -> None:
    """Metrics and checks that the tables name."""
    names = {one.name for one in CHECKS}
    metrics = "".join(
        (ROOT / package / "metrics.py").read_text("utf-8") for package in ("sidecar", "webhook")
    )
    for document in ("docs/doctor.md", "README.md", "docs/install.md"):
        text = (ROOT / document).read_text("utf-8")
        for name in re.findall(r"`(sidetail_[a-z_]+)", text):
            assert f'"{name.removesuffix("_total")}' in metrics, f"{document}: {name}"
    rows = (ROOT / "docs" / "doctor.md").read_text("utf-8").partition("## From the symptom")[2]
    for listed in re.findall(r"`doctor`: ((?:`[a-z ]+`(?:, )?)+)", rows):
        assert set(re.findall(r"`([a-z ]+)`", listed)) <= names


def test_its_examples_hold() -> None:
    found = doctest.testmod(findings)

    assert found.attempted
    assert not found.failed

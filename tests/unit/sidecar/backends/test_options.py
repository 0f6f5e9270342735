"""The options of every type: tables that read themselves, and settings that use them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.sidecar_config import BACKEND_TYPES
from runtime.settings import REQUIRED, SettingsError
from sidecar.backends.http_wire import target_of
from sidecar.backends.registry import backend_module, option_keys, url_schemes
from sidecar.keys import BACKEND_KEYS
from sidecar.settings import BackendSettings, read_settings
from sidecar.url import parse_url
from webhook.credentials import names_credential

URLS = {
    "http": "http://h/in", "loki": "http://h", "elasticsearch": "https://h", "otlp": "http://h",
    "forward": "forward://h", "syslog": "tcp://h", "kafka": "kafka://h", "file": "/logs/out",
    "stdout": None,
}  # fmt: skip


def _read(**row: Any) -> BackendSettings:
    row = {key: value for key, value in row.items() if value is not None}
    document = {"sources": [], "state_dir": "/s", "backends": [{"name": "main", **row}]}
    settings, problems = read_settings(json.dumps(document), {})
    assert problems == []
    return settings.backends[0]


def test_there_is_a_module_for_every_type():
    assert set(URLS) == set(BACKEND_TYPES)


@pytest.mark.parametrize("kind", BACKEND_TYPES)
def test_name_type_and_url_are_enough(kind: str):
    settings = _read(type=kind, url=URLS[kind])

    assert set(settings.options) == {key.name for key in option_keys(kind)}
    assert backend_module(kind).open_backend


@pytest.mark.parametrize("kind", BACKEND_TYPES)
def test_every_option_has_a_default_a_sentence_and_a_name_of_its_own(kind: str):
    common = {key.name for key in BACKEND_KEYS}
    for key in option_keys(kind):
        assert key.default is not REQUIRED
        assert key.sentence.endswith(".")
        assert key.name not in common
        key.parse(key.default)


@pytest.mark.parametrize("kind", [kind for kind in BACKEND_TYPES if URLS[kind]])
@pytest.mark.parametrize("url", ["ftp://h", "http://user:pw@h", "gopher://h", None, "unix:///x"])
def test_a_url_of_no_scheme_of_the_type_is_a_problem(kind: str, url: str | None):
    with pytest.raises(SettingsError) as raised:
        _read(type=kind, url=url)

    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("kind", BACKEND_TYPES)
def test_an_unknown_option_is_a_problem_that_names_the_nearest(kind: str):
    with pytest.raises(SettingsError, match="an unknown key"):
        _read(type=kind, url=URLS[kind], tenants="x")


def test_schemes_are_those_that_urls_may_have():
    for kind in BACKEND_TYPES:
        for scheme in url_schemes(kind):
            assert parse_url("/x" if scheme == "file" else f"{scheme}://h").scheme == scheme


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://h", "/v1/logs", "/v1/logs"),
        ("http://h/", "/v1/logs", "/v1/logs"),
        ("http://h/otlp", "/v1/logs", "/otlp/v1/logs"),
        ("http://h/otlp/v1/logs", "/v1/logs", "/otlp/v1/logs"),
        ("http://h/v1/logs/", "/v1/logs", "/v1/logs"),
        ("http://h?key=a/b", "/v1/logs", "/v1/logs?key=a/b"),
        ("http://h/x?key=/v1/logs", "/v1/logs", "/x/v1/logs?key=/v1/logs"),
    ],
)
def test_the_protocols_own_path_is_appended_unless_it_is_there(url: str, path: str, target: str):
    assert target_of(parse_url(url), path) == target


EXAMPLES = Path(__file__).resolve().parents[4] / "manifests" / "examples" / "backends"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_an_operator_would_copy_is_what_the_sidecar_takes(example: Path):
    rows = yaml.safe_load(example.read_text(encoding="utf-8"))["backends"]
    for row in rows:
        # As the webhook hands them on.
        if "credentials" in row:
            row["credentials"] = {"dir": f"/sidetail/backends/{row['name']}"}
        if "tenant" in row:
            row["tenant"] = row["tenant"].replace("$namespace", "shop")
    document = {"sources": [], "state_dir": "/s", "backends": rows}

    settings, problems = read_settings(json.dumps(document), {})

    assert problems == []
    assert len(settings.backends) == len(rows)


def test_no_option_has_a_name_that_the_webhook_takes_for_a_secret():
    for kind in BACKEND_TYPES:
        assert not [key.name for key in option_keys(kind) if names_credential(key.name)]

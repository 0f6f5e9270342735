"""The sidecar's configuration: what is read, and how all problems are told at once."""

import json

import pytest

from runtime.settings import SettingsError
from sidecar.settings import Settings, read_settings

_LEAST = {
    "sources": [{"path": "/logs/*.log"}],
    "backends": [{"name": "main", "type": "http", "url": "http://127.0.0.1:1/"}],
    "state_dir": "/state",
}


def _read(**changes: object) -> Settings:
    settings, problems = read_settings(json.dumps({**_LEAST, **changes}), {})
    assert problems == []
    return settings


def _problems(document: object, **options: bool) -> list[str]:
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        return [str(problem) for problem in read_settings(text, {}, **options)[1]]
    except SettingsError as error:
        return [str(problem) for problem in error.problems]


def test_name_type_and_url_are_enough_for_a_backend():
    settings = _read()

    assert settings.backends[0].compression == "none"
    assert settings.backends[0].url is not None
    assert settings.backends[0].url.authority == "127.0.0.1:1"


def test_every_limit_has_its_documented_default():
    limits = _read().limits

    assert (limits.batch_bytes, limits.batch_seconds, limits.in_flight) == (2**20, 1.0, 2)
    assert (limits.max_line_bytes, limits.open_files, limits.files) == (2**20, 256, 100_000)
    assert (limits.deleted_bytes, limits.partial_seconds) == (2**28, 2.0)
    assert (limits.multiline_seconds, limits.rotated_seconds) == (3.0, 30.0)
    assert (limits.request_seconds, limits.drain_seconds) == (30.0, 25.0)
    assert (limits.max_rate, limits.clean_above) == (None, None)


def test_sizes_and_seconds_are_read_in_all_their_spellings():
    limits = _read(
        limits={"batch_bytes": 1, "max_line_bytes": "64KiB", "max_rate": "1.5MiB",
                "batch_seconds": 0, "partial_seconds": 0.25}
    ).limits  # fmt: skip

    assert (limits.batch_bytes, limits.max_line_bytes, limits.max_rate) == (1, 65536, 1572864)
    assert (limits.batch_seconds, limits.partial_seconds) == (0.0, 0.25)


def test_yaml_is_read_where_the_document_is_not_json():
    settings, _ = read_settings(
        "sources: [{path: /l/*.log}]\nbackends: [{name: b, type: stdout}]\nstate_dir: /s\n", {}
    )

    assert settings.sources[0].path == "/l/*.log"


def test_attributes_merge_and_the_sources_own_win():
    settings, _ = read_settings(
        json.dumps(
            {
                **_LEAST,
                "attributes": {"service.name": "shared", "k8s.namespace.name": "shop"},
                "sources": [
                    {"path": "/l", "container": "app", "attributes": {"service.name": "own"}}
                ],
            }
        ),
        {"POD_NAME": "orders-1", "POD_NAMESPACE": "ignored", "POD_UID": "u-1", "NODE_NAME": ""},
    )

    assert settings.sources[0].attributes == {
        "service.name": "own",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "orders-1",
        "k8s.pod.uid": "u-1",
        "k8s.container.name": "app",
        "service.instance.id": "shop.orders-1.app",
    }
    assert settings.pod_uid == "u-1"


def test_the_instance_id_is_left_out_where_a_part_of_it_is_unknown():
    settings = _read(sources=[{"path": "/l", "container": "app"}])

    assert "service.instance.id" not in settings.sources[0].attributes


def test_all_problems_are_told_at_once():
    found = _problems(
        {
            "sources": [
                {"path": "logs/*.log", "format": "jsn"},
                {"path": "/l", "redact": ["mail"]},
            ],
            "backends": [{"name": "A B", "type": "http", "url": "ftp://x"}, {"type": "carrier"}],
            "state_dir": "/state",
            "limits": {"batch_bytes": 0, "in_flight": True, "batch_second": 1},
            "scan_seconds": 0,
        }
    )

    for part in (
        "sources[0].path", "sources[0].format: got 'jsn'", "sources[1].redact: got 'mail'",
        "backends[0].name", "backends[0].url", "backends[1].name", "backends[1].type",
        "limits.batch_bytes", "limits.in_flight", "limits.batch_second", "scan_seconds",
    ):  # fmt: skip
        assert any(part in problem for problem in found), part


@pytest.mark.parametrize(
    "document", ["", "[]", "3", "{", "a: [", "\x00", "[" * 5000], ids=lambda text: repr(text[:8])
)
def test_what_is_no_object_is_one_clear_problem(document: str):
    assert any("a YAML or JSON object" in problem for problem in _problems(document))


def test_a_misspelt_key_names_the_nearest_known_one():
    found = _problems({**_LEAST, "limits": {"batch_byts": 1}})

    assert found == [
        problem for problem in found if "did you mean batch_bytes?" in problem
    ] != []  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host/", "https://good@evil/", "http://", "http://host:0/", "http://h:99999/",
        "file://host/x", "gopher://x/", "http://a b/", "http://h/#f", "http://h\\@evil/", "\u202ehttp://h/",
        "http://[::1", 7,
    ],
)  # fmt: skip
def test_a_url_that_is_none_or_holds_a_password_is_refused_without_being_shown(url: object):
    found = _problems({**_LEAST, "backends": [{"name": "a", "type": "http", "url": url}]})

    assert len(found) >= 1
    assert all("secret" not in problem and "evil" not in problem for problem in found)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "a" * 5000, "(a)\\1", 3, ""])
def test_a_pattern_that_re2_cannot_express_is_refused(pattern: object):
    document = {**_LEAST, "sources": [{"path": "/l", "keep": pattern}]}

    assert any("sources[0].keep" in problem for problem in _problems(document))


def test_a_pattern_that_would_explode_elsewhere_is_harmless_here():
    settings = _read(sources=[{"path": "/l", "drop": "(a+)+$", "multiline": "/^\\d/"}])

    assert (settings.sources[0].drop, settings.sources[0].multiline) == ("(a+)+$", "/^\\d/")


def test_two_backends_of_one_name_are_refused():
    twice = {"name": "a", "type": "stdout"}

    assert any(
        "no other backend" in text for text in _problems({**_LEAST, "backends": [twice] * 2})
    )


def test_with_keep_running_what_is_wrong_is_left_out_and_the_rest_stands():
    document = {
        "sources": [
            {"path": "/ok", "unknown": 1},
            {"path": "/bad", "keep": "("},
            {"path": "/unknown-pattern", "redact": ["nobody"]},
        ],
        "backends": [
            {"name": "good", "type": "stdout", "newer": True},
            {"name": "bad", "type": "http"},
        ],
        "limits": {"in_flight": "many", "batch_seconds": 0},
        "state_dir": "relative",
        "from_the_future": {},
    }

    settings, problems = read_settings(json.dumps(document), {}, keep_running=True)

    assert [source.path for source in settings.sources] == ["/ok"]
    assert [backend.name for backend in settings.backends] == ["good"]
    assert (settings.limits.in_flight, settings.limits.batch_seconds) == (2, 0.0)
    assert settings.state_dir is None
    assert len(problems) == 8


def test_with_keep_running_even_nothing_gives_settings():
    settings, problems = read_settings("no: [", {}, keep_running=True)

    assert (settings.sources, settings.backends) == ((), ())
    assert problems != []


def test_a_backend_takes_only_its_own_options():
    document = {**_LEAST, "backends": [{"name": "a", "type": "stdout", "tenant": "x"}]}

    assert any("backends[0].tenant" in problem for problem in _problems(document))

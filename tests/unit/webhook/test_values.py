"""Parsers of single values: numbers, quantities, regexes, globs, lists; nothing is guessed."""

import doctest
import time
from typing import Any

import pytest

import webhook.ascii_json
import webhook.attributes
import webhook.backends
import webhook.directories
import webhook.environment
import webhook.flags
import webhook.globs
import webhook.patch
import webhook.placing
import webhook.pod
from contract.annotations import BACKEND, FIELDS, KEEP, SIZE_LIMIT
from runtime.settings import ValueProblem
from webhook import values
from webhook.credentials import looks_like_credential, names_credential
from webhook.flags import parse_flags
from webhook.globs import check_glob, path_matches, residues
from webhook.paths import MAX_PATHS, BadPath, PathRequest, parse_paths
from webhook.quantities import NANO, parse_quantity, render_quantity
from webhook.shown import got


@pytest.mark.parametrize(
    "module",
    [
        webhook.ascii_json,
        webhook.attributes,
        webhook.backends,
        webhook.directories,
        webhook.environment,
        webhook.flags,
        webhook.globs,
        webhook.patch,
        webhook.placing,
        webhook.pod,
    ],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_docstrings_hold(module):
    found = doctest.testmod(module)

    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", NANO),
        ("1.5", 1_500_000_000),
        (".5", NANO // 2),
        ("1.", NANO),
        ("+2", 2 * NANO),
        ("-1", -NANO),
        ("100m", NANO // 10),
        ("10u", 10_000),
        ("5n", 5),
        ("1k", 1000 * NANO),
        ("1Ki", 1024 * NANO),
        ("128Mi", 2**27 * NANO),
        ("134217728", 2**27 * NANO),
        ("1E", 10**18 * NANO),
        ("1Ei", 2**60 * NANO),
        ("1e3", 1000 * NANO),
        ("1E3", 1000 * NANO),
        ("12e-3", 12_000_000),
        (1, NANO),
        (0.1, NANO // 10),
        ("", None),
        (".", None),
        ("m", None),
        ("1e400", None),
        ("1_000", None),
        ("٣", None),
        ("0x10", None),
        ("1 Mi", None),
        ("128Mi;", None),
        ("NaN", None),
        ("1" * 5000, None),
        (None, None),
        (True, None),
        ({}, None),
    ],
)
def test_quantities_are_those_of_kubernetes(text, amount):
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["10m", "1500m", "3", "1000", "48Mi", "4Gi", "1Ki", "1025"])
def test_a_quantity_is_shown_as_people_write_it(text):
    assert render_quantity(parse_quantity(text) or 0) == text


BAD: dict[values.Parser, list[Any]] = {
    values.parse_port: [
        "-1",
        "0",
        "65536",
        "1e9",
        "0x10",
        "٣",
        "1_000",
        "NaN",
        "9" * 5000,
        "",
        1.5,
    ],
    values.parse_size_limit: ["0", "1", "-1Gi", "1e400", "17Ti", "lots", "128Mi;", None],
    values.parse_cpu: ["0", "65", "-1", "1n", "x"],
    values.parse_memory_limit: ["8Mi", "1", "0", "65Gi"],
    values.parse_clean_above: ["1", "1.5Mi1", "0.0000001Mi", "-1"],
    values.parse_max_rate: ["0", "-1", "1m", "fast"],
    values.parse_native: ["True", "yes", "1", "", " auto"],
    values.parse_seed: ["True", "yes", "1", ""],
    values.parse_collector: ["agent", "", "Sidecar"],
    values.parse_log_level: ["warn", "DEBUG", ""],
    values.parse_format: ["JSON", "", "docker"],
    values.parse_multiline: ["javascript", "//", "/(/", "/(?=x)/", ""],
    values.parse_stdout: ["", "Mirror", "a b", "../x", ["a", "B"], "\0"],
    values.parse_names: [
        "",
        ",",
        [],
        [5],
        "a\0b",
        ",".join("abcdefgh"[i % 8] * i for i in range(1, 80)),
    ],
    values.parse_fields: [
        "team",
        "=x",
        "namespace=x",
        "k8s.pod.name=x",
        "a=",
        'a="b"',
        "a=b\nc",
        "a=" + "x" * 64,
        "password=x",
        "a=ghp_" + "x" * 30,
        "a=Bearer abcdefghijkl",
        {"a": 5},
        {"a b": "x"},
        ",".join(f"k{i}=v" for i in range(40)),
        "a=1,a=2",
    ],
    values.parse_command: [
        "",
        "[]",
        "{",
        '{"a": []}',
        '{"a": "x"}',
        '{"a": [""]}',
        '{"a": [1]}',
        '{"a": ["x\\u0000"]}',
        '{"a": ["\\ud800"]}',
        "[" * 100_000,
    ],
    values.parse_exclude: ["[a", "a/b", "{a}", "/x/$(A)", "a\x1bb", "x" * 2000, 5],
    values.parse_pattern_or_none: ["(", "(?<=x)", "a\x00b", "x" * 4097, 5, "((a{100}){100}){100}"],
}


@pytest.mark.parametrize(
    ("parse", "value"),
    [(parse, value) for parse, listed in BAD.items() for value in listed],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:24],
)
def test_what_is_not_the_value_is_refused_with_what_was_expected(parse, value):
    with pytest.raises(ValueProblem) as caught:
        parse(value)

    assert str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("parse", "value", "expected"),
    [
        (values.parse_list, " a ,, b,a ", ("a", "b")),
        (values.parse_list, '["a,b", "c"]', ("a,b", "c")),
        (values.parse_list, "[ab]*.log,x", ("[ab]*.log", "x")),
        (values.parse_exclude, "", ()),
        (
            values.parse_exclude,
            "*.gz,/var/log/**/debug.log,**/tmp/*",
            ("*.gz", "/var/log/**/debug.log", "**/tmp/*"),
        ),
        (values.parse_stdout, "app, web", ("app", "web")),
        (values.parse_stdout, "mirror", "mirror"),
        (values.parse_fields, "team=shop, stage = prod", {"team": "shop", "stage": "prod"}),
        (values.parse_command, '{"a": ["x", "$(Y)"]}', {"a": ("x", "$(Y)")}),
        (values.parse_multiline, "/^\\d+/", "/^\\d+/"),
        (values.parse_pattern_or_none, "  ", None),
        (values.parse_pattern_or_none, "(a+)+$", "(a+)+$"),
        (values.parse_clean_above, "1Gi", 2**30),
        (values.parse_clean_above, "", None),
        (values.parse_max_rate, "1.5k", 1500),
    ],
)
def test_values_are_read(parse, value, expected):
    assert parse(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://user:pass@host",
        "ghp_0123456789abcdefghij",
        "glpat-0123456789abcdefghij",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0",
        "Bearer abcdefgh1234",
        "basic dXNlcjpwYXNz",
        "-----BEGIN PRIVATE KEY-----",
        "xoxb-0123456789-abcdefghij",
    ],
)
def test_credentials_are_told_by_their_shape(text):
    assert looks_like_credential(text)
    assert looks_like_credential(f"before {text} after")


def test_ordinary_text_is_no_credential():
    for text in ("/var/log/app/*.log", "shop", "1.2.3", "https://host/path", "a@b", "desk-lamp"):
        assert not looks_like_credential(text)
    assert names_credential("db.password")
    assert names_credential("API_KEY")
    assert not names_credential("tokens_used")
    assert not names_credential("team")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.log", "a.log", True),
        ("*.log", ".a.log", False),
        (".*.log", ".a.log", True),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("**/x", ".git/x", False),
        ("a/**/x", "a/x", True),
        ("a/**/x", "b/x", False),
        ("[!a]?.log", "bc.log", True),
        ("[!a]?.log", "ac.log", False),
        ("*", "a/b", False),
        ("*" * 16, "a" * 200, True),
    ],
)
def test_globs_match_segment_by_segment(pattern, path, matches):
    assert path_matches(pattern.split("/"), path.split("/")) is matches


def test_many_stars_cost_little_time():
    began = time.perf_counter()
    assert not path_matches(["*a" * 16 + "b"], ["a" * 255])

    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("pattern", "folder", "left"),
    [
        ("**/*.log", "audit", {"**/*.log"}),
        ("*/*.log", "audit", {"*.log"}),
        ("*.log", "audit", set()),
        ("audit", "audit", set()),
        ("**/audit/*.log", "audit", {"**/audit/*.log", "*.log"}),
        ("**/*.log", ".hidden", set()),
        ("a*/b/*.log", "audit/b", {"*.log"}),
        ("a*/b/*.log", "audit/c", set()),
    ],
)
def test_what_is_left_of_a_pattern_inside_a_mount(pattern, folder, left):
    found = residues(pattern.split("/"), folder.split("/"))

    assert {"/".join(each) for each in found} == left


@pytest.mark.parametrize("pattern", ["a*b?c[x-z]", "[]a]", "[!]a]", "[a-]", "a]", "**/a/**/b"])
def test_patterns_of_the_dialect(pattern):
    check_glob(pattern)


@pytest.mark.parametrize(
    "pattern", ["[", "a[", "[]", "[!]", "[z-a]", "[^a]", "{a}", "a\\*", "**a", "***", "*" * 17]
)
def test_patterns_that_are_not_of_the_dialect(pattern):
    with pytest.raises(ValueProblem):
        check_glob(pattern)


def test_paths_past_the_last_one_are_counted_not_read():
    listed = parse_paths(",".join(f"/l/{n}/x.log" for n in range(10_000)))

    assert len(listed.requests) == MAX_PATHS
    assert (len(listed.rest), listed.rest_count) == (64, 10_000 - MAX_PATHS)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 4000,
        "- " * 2000,
        "[*a]",
        "[&a x, *a",
        "- !!python/object:x y\n- z: [",
        "[" + "a: b, " * 600,
        '["\\ud800',
    ],
)
def test_lists_that_cannot_be_read_are_refused_in_good_time(text):
    began = time.perf_counter()
    with pytest.raises(ValueProblem, match="JSON"):
        parse_paths(text)

    assert time.perf_counter() - began < 5


def test_each_element_stands_for_itself():
    good, bad, own, odd = parse_paths(
        '["app:/a/*.log", "x", {"path": "/b/../c"}, {"path": "/d/x", "container": 5}]'
    ).requests

    assert good == PathRequest("app:/a/*.log", "/a/*.log", "app", {})
    assert isinstance(bad, PathRequest)  # relative: whether that is good is the plan's to say
    assert isinstance(own, BadPath)
    assert isinstance(odd, BadPath)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--cert-file", "x"], 2),
        (["--bind", "nonsense"], 2),
        (["--bind", "[::]:70000"], 2),
        (["--standalone"], 2),
        (["--standalone", "--kubeconfig", "x", "--check"], 2),
        (["--unknown"], 2),
        (["--log-level", "warn"], 2),
        (["--help"], 0),
    ],
    ids=str,
)
def test_flags_that_cannot_be_used_end_the_process(arguments, status, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_flags(arguments)

    assert caught.value.code == status


def test_flags_have_the_defaults_of_the_design():
    flags = parse_flags([])

    assert (flags.bind, flags.metrics_bind) == (("::", 8443), ("::", 9090))
    assert not flags.standalone
    assert parse_flags(["--standalone", "--check"]).check


@pytest.mark.parametrize("value", ["JSON", "128Mb", "True", " yes", "-1", "0x10", "1_000"])
def test_a_slip_is_shown(value):
    assert got(SIZE_LIMIT, value) == f"got {value!r}, "


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SIZE_LIMIT, "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        (SIZE_LIMIT, "https://u:p@x"),
        (SIZE_LIMIT, "a\u202eb"),
        (SIZE_LIMIT, "1" * 5000),
        (SIZE_LIMIT, ["x"]),
        (SIZE_LIMIT, "hunter2"),
        (FIELDS, "true"),
        (KEEP, "true"),
        (BACKEND, "true"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(key, value):
    assert got(key, value) == ""

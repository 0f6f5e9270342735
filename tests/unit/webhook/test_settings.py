"""The operator config: what it gives, and how everything wrong with it is said at once."""

import pytest

from contract.annotations import ANNOTATIONS, PREFIX, default_name
from runtime.settings import SettingsError
from webhook.backends import is_link_local, parse_host
from webhook.choices import PARSERS
from webhook.config_keys import TOP_KEYS
from webhook.settings import DEFAULT_CONFIG, OperatorConfig, load_operator_config

BACKENDS = "backends: [{name: main, type: http, url: 'https://logs.example/ingest'}]\n"

DESIGN = """
image: registry.example/sidetail-sidecar:1.0      # sidecar and init image
image_pull_policy: IfNotPresent
image_pull_secret: null
defaults: {stdout: "off", backend: [main], collector: sidecar, native: auto, size_limit: 4Gi,
           format: text, multiline: none, redact: [],
           requests: {cpu: 10m, memory: 48Mi}, limits: {cpu: 500m, memory: 128Mi},
           guaranteed_cpu: 100m}
on_error: skip
tenant_keys: "*"
attributes: {k8s.cluster.name: prod}
pod_labels: [team]
backends:
  - {name: main, type: loki, url: "http://loki.logging:3100", tenant: "$namespace",
     credentials: {secret: loki-auth}}
redact: {email: "[a-z]+@[a-z]+"}
"""


def problems_of(text):
    with pytest.raises(SettingsError) as caught:
        load_operator_config(text)
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_the_example_of_the_design_is_read():
    config = load_operator_config(DESIGN)

    assert config.backends["main"].secret == "loki-auth"
    assert config.backends["main"].document_for("shop")["tenant"] == "shop"
    assert config.defaults == DEFAULT_CONFIG.defaults
    assert (config.requests, config.limits) == (DEFAULT_CONFIG.requests, DEFAULT_CONFIG.limits)
    assert config.tenant_keys is None


def test_backends_alone_are_enough():
    config = load_operator_config(BACKENDS)

    assert config.defaults.backend == ("main",)
    assert config.image == OperatorConfig().image


def test_a_single_backend_of_another_name_is_the_default():
    config = load_operator_config(BACKENDS.replace("main", "central"))

    assert config.defaults.backend == ("central",)


def test_every_problem_is_said_at_once():
    found = problems_of(
        """
imag: x
image_pull_policy: Sometimes
on_error: maybe
tenant_keys: [path]
pod_labels: [-x-]
attributes: {"a b": x}
defaults: {stdut: off, size_limit: 1, metrics_port: 0, redact: [zz], backend: [nobody],
           requests: {cpu: 2, gpu: 1}, exclude: ["[a"], keep: "(?=x)"}
backends:
  - {name: A_b, type: lokki, url: "http://u:p@h/"}
  - {name: m, type: http, url: "http://2852039166/", compresion: gzip}
  - {name: m, type: http, url: "https://x/", headers: {Authorization: Bearer abcdefghijklmnop}}
  - nonsense
redact: {e: "(", "Bad Name": x}
"""
    )

    assert set(found) == {
        "imag",
        "image_pull_policy",
        "on_error",
        "tenant_keys",
        "pod_labels",
        "attributes",
        "redact",
        "defaults.stdut",
        "defaults.size_limit",
        "defaults.metrics_port",
        "defaults.requests.gpu",
        "defaults.exclude",
        "defaults.keep",
        "backends[0].name",
        "backends[0].type",
        "backends[0].url",
        "backends[1].url",
        "backends[1].compresion",
        "backends[2].headers.Authorization",
        "backends[3]",
        "defaults.requests.cpu",
        "defaults.redact",
    } | ({"defaults.backend"} & set(found))
    assert "did you mean image?" in found["imag"]
    assert "did you mean paths?" in found["tenant_keys"]
    assert "abcdefghijklmnop" not in "".join(found.values())
    assert "u:p@" not in "".join(found.values())


def test_a_default_that_names_no_backend_is_a_problem():
    found = problems_of(BACKENDS + "defaults: {backend: [other], redact: [card]}")

    assert found["defaults.backend"] == "defaults.backend: got 'other', expected one of main"
    assert "there is none" in found["defaults.redact"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just text",
        "a: [",
        "a: 1\na: 2\n" + BACKENDS,
        BACKENDS + "backends: []",
        "backends: []",
        "defaults: []\n" + BACKENDS,
        "\t",
        "!!python/object:os.system {}",
        "{" * 2000,
        "x" * (1024 * 1024 + 1),
    ],
    ids=str,
)
def test_what_is_no_config_is_refused_without_a_traceback(text):
    assert problems_of(text)


def test_every_annotation_but_paths_and_command_may_stand_in_defaults():
    for annotation in ANNOTATIONS:
        assert (default_name(annotation.key) in PARSERS) == annotation.in_defaults


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("exclude", "['*.gz', tmp*]", ("*.gz", "tmp*")),
        ("stdout", "off", "off"),
        ("stdout", "all", "all"),
        ("format", "json", "json"),
        ("multiline", "'/^[0-9]/'", "/^[0-9]/"),
        ("keep", "ERROR", "ERROR"),
        ("fields", "{team: shop}", {"team": "shop"}),
        ("collector", "node", "node"),
        ("native", "true", "true"),
        ("seed", "true", True),
        ("clean_above", "1Gi", 2**30),
        ("max_rate", "1M", 10**6),
        ("log_level", "debug", "debug"),
        ("metrics_port", "19095", 19095),
        ("metrics_port", "null", None),
    ],
)
def test_a_default_is_parsed_like_its_annotation(name, given, value):
    config = load_operator_config(f"{BACKENDS}defaults: {{{name}: {given}}}")

    assert getattr(config.defaults, name) == value


def test_figures_may_stand_under_either_name():
    config = load_operator_config(
        BACKENDS + "defaults: {cpu_request: 20m, limits: {memory: 256Mi, ephemeral-storage: 1Gi}}"
    )

    assert config.requests == {"cpu": "20m", "memory": "48Mi"}
    assert config.limits == {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "1Gi"}


def test_tenant_keys_may_have_the_prefix_or_not():
    config = load_operator_config(BACKENDS + f"tenant_keys: [paths, {PREFIX}stdout]")

    assert config.tenant_keys == frozenset({PREFIX + "paths", PREFIX + "stdout"})


def test_every_key_has_a_default_that_its_own_parser_takes():
    for key in TOP_KEYS:
        key.parse(key.default)
        assert key.sentence.endswith(".")


LINK_LOCAL = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "FE80::A",
    "febf::1",
]
NOT_LINK_LOCAL = [
    "loki",
    "loki.logging.svc",
    "10.0.0.1",
    "127.0.0.1",
    "localhost",
    "169.253.1.1",
    "169.254",
    "1.2.3.4.5",
    "fd00::1",
    "::1",
    "2001:db8::1",
    "0x.a",
    "08.1.1.1",
    "99999999999",
    "a9fe.example",
]


@pytest.mark.parametrize("host", LINK_LOCAL)
def test_a_link_local_address_is_known_in_every_spelling(host):
    assert is_link_local(host)
    url = f"http://[{host}]/" if ":" in host else f"http://{host}/"
    text = BACKENDS.replace("https://logs.example/ingest", url)

    assert "a link-local address" in problems_of(text)["backends[0].url"]
    load_operator_config(text.replace("type: http", "type: http, allow_link_local: true"))


@pytest.mark.parametrize("host", NOT_LINK_LOCAL)
def test_other_hosts_are_not_link_local(host):
    assert not is_link_local(host)


@pytest.mark.parametrize(
    "url",
    [
        "https://good@evil/",
        "https://user:secret@host/",
        "https://host/#fragment",
        "https://host:0/",
        "https://host:99999/",
        "https://host:x/",
        "https://",
        "https:///path",
        "//host/path",
        "host:3100",
        "javascript:alert(1)",
        "ftp://host/",
        "gopher://host/",
        "https://ho st/",
        "https://host\\@evil/",
        "https://host/\r\nX: y",
        "https://host\x00/",
        "https://höst/",
        "https://[::1/",
        "https://" + "a" * 3000,
        "",
        5,
        None,
        ["https://host/"],
    ],
    ids=repr,
)
def test_what_is_no_safe_url_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="a URL such as") as caught:
        parse_host(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://logs.example/ingest?x=1", "logs.example"),
        ("http://127.0.0.1:3100", "127.0.0.1"),
        ("tcp://[::1]:514", "::1"),
        ("kafka://broker:9092", "broker"),
        ("/var/log/out", ""),
        ("file:///var/log/out", ""),
    ],
)
def test_urls_of_backends_are_read(url, host):
    assert parse_host(url) == host

"""What the demo's kubelet makes of a spec, held to what the real one does."""

import json

import pytest

from demo.container import expand, map_config, map_paths, resolve

POD = {"metadata": {"name": "orders-1", "labels": {"team": "shop"}}, "spec": {}}
FACTS = {"metadata.name": "orders-1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$(NO)", "$(NO)"), ("$A", "$A"),
        ("${A}", "${A}"), ("$(A)$(B)", "12"), ("$(A", "$(A"), ("a$", "a$"), ("$$", "$"),
    ],
)  # fmt: skip
def test_references_are_expanded_as_the_kubelet_does(text: str, expected: str):
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_a_container_gets_its_command_environment_and_mounts():
    container = resolve(
        {
            "name": "app",
            "image": "app:1",
            "command": ["run", "$(NAME)"],
            "args": ["--team=$(TEAM)"],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {
                    "name": "TEAM",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}},
                },
                {"name": "BOTH", "value": "$(NAME)/$(TEAM)"},
                {"name": "NOWHERE", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}},
            ],
            "volumeMounts": [
                {"name": "v", "mountPath": "/data", "subPathExpr": "$(NAME)", "readOnly": True}
            ],
        },
        POD,
        FACTS,
    )

    assert container.command == ("run", "orders-1", "--team=shop")
    assert container.environment == {"NAME": "orders-1", "TEAM": "shop", "BOTH": "orders-1/shop"}
    assert [(m.path, m.sub_path, m.read_only) for m in container.mounts] == [
        ("/data", "orders-1", True)
    ]


def test_args_without_a_command_belong_to_an_image_that_is_not_here():
    assert resolve({"name": "a", "args": ["x"]}, POD, FACTS).command == ()


def test_paths_are_mapped_by_segments_and_the_longest_first():
    folders = {"/var/log": "/v1", "/var/log/app": "/v2"}

    assert map_paths("/var/log/app/x /var/log/y /var/logs /x/var/log", folders) == (
        "/v2/x /v1/y /var/logs /x/var/log"
    )


def test_of_the_sidecars_configuration_only_what_it_opens_is_mapped():
    text = '{"sources":[{"path":"/l/a/*.log","shown_as":"/l/a"}],"backends":[],"state_dir":"/s"}'

    mapped = json.loads(map_config(text, {"/l/a": "/v/l", "/s": "/v/s"}))

    assert mapped["sources"] == [{"path": "/v/l/*.log", "shown_as": "/l/a"}]
    assert mapped["state_dir"] == "/v/s"

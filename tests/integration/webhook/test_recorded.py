"""AdmissionReviews that a real API server sent, sent again byte for byte to the running webhook."""

import json
from pathlib import Path

import pytest

from tests.webhook_process import ROOT, Webhook

RECORDED = sorted((ROOT / "tests" / "data" / "admission-reviews").glob("*.json"))


def replay(webhook: Webhook, file: Path, *, path: str | None = None, **changes: str):
    """Send a recording as it was; `changes` are annotations for the object."""
    recorded = json.loads(file.read_text())
    review = recorded["body"]
    if changes:
        metadata = review["request"]["object"]["metadata"]
        metadata["annotations"] = (metadata.get("annotations") or {}) | {
            f"sidetail.dev/{key}": value for key, value in changes.items()
        }
    headers = {
        name: value for name, value in recorded["headers"].items() if name != "Content-Length"
    }
    body = json.dumps(review).encode()
    return review["request"], webhook.call("POST", path or recorded["path"], body, headers)


def test_there_are_recordings():
    assert len(RECORDED) == 17


@pytest.mark.parametrize("path", [None, "/validate?timeout=10s", "/mutate?timeout=10s"])
@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_each_recording_is_answered_without_a_patch_or_a_word(webhook, file, path):
    """None of them asks for anything."""
    request, reply = replay(webhook, file, path=path)

    assert reply.status == 200
    assert reply.response == {"uid": request["uid"], "allowed": True}


@pytest.mark.parametrize(
    "file",
    [file for file in RECORDED if "-pod-create-" in file.stem],
    ids=lambda file: file.stem,
)
def test_each_recorded_pod_is_injected_once_it_asks(webhook, file):
    native = {"native": "true"}
    _, reply = replay(webhook, file, paths="/var/log/app/*.log", **native)

    assert reply.response["allowed"] is True
    assert {operation["op"] for operation in reply.patch} == {"add"}
    assert any("sidetail.dev~1status" in operation["path"] for operation in reply.patch)


@pytest.mark.parametrize(
    "file",
    [file for file in RECORDED if "-pod-" in file.stem and "-create-" not in file.stem],
    ids=lambda file: file.stem,
)
def test_a_recorded_update_or_deletion_is_left_alone_even_if_it_asks(webhook, file):
    """An ephemeral container arrives as an UPDATE of the pod."""
    request = json.loads(file.read_text())["body"]["request"]
    changes = {"paths": "/var/log/app/*.log"} if request["object"] is not None else {}
    _, reply = replay(webhook, file, **changes)

    assert reply.patch == []

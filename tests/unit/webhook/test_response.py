import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhook.admission import Denial
from webhook.response import (
    MAX_DENIAL,
    MAX_WARNING,
    MAX_WARNINGS,
    cut_warnings,
    render_admitted,
    render_denied,
    to_printable,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def response_of(body: bytes):
    review = json.loads(body)
    assert review["apiVersion"] == "admission.k8s.io/v1"
    assert review["kind"] == "AdmissionReview"
    return review["response"]


def test_a_pod_that_is_left_alone_gets_no_patch_and_no_warnings():
    assert response_of(render_admitted("u")) == {"uid": "u", "allowed": True}


def test_a_patch_is_json_in_base64():
    operations = [{"op": "add", "path": "/metadata/annotations", "value": {"ä": "\ud800"}}]
    response = response_of(render_admitted("u", patch=operations))

    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == operations


def test_a_response_is_ascii_whatever_it_says():
    assert render_admitted("u", warnings=["\ud800 ä \u2028"]).isascii()


def test_a_denial_has_its_code_and_its_message():
    response = response_of(render_denied("u", Denial(403, "not allowed"), warnings=["w"]))

    assert response["allowed"] is False
    assert response["status"] == {"code": 403, "message": "not allowed"}
    assert response["warnings"] == ["w"]
    assert "patch" not in response


def test_a_long_denial_is_cut():
    message = response_of(render_denied("u", Denial(400, "x\n" * 5000)))["status"]["message"]

    assert len(message) == MAX_DENIAL
    assert message.isprintable()


def test_many_warnings_end_with_the_count_of_the_rest():
    warnings = cut_warnings([f"warning {number} " + "x" * 190 for number in range(100)])

    assert sum(map(len, warnings)) <= MAX_WARNINGS
    assert len(warnings) > 10
    assert warnings[-1] == f"sidetail: and {100 - (len(warnings) - 1)} more"


def test_warnings_that_just_fit_are_all_there():
    warnings = ["x" * MAX_WARNING] * (MAX_WARNINGS // MAX_WARNING)

    assert cut_warnings(warnings) == warnings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2028", "\\u2028"),
        ("\x85", "\\x85"),
        ("\ud800", "\\ud800"),
        ("ä €", "ä €"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert to_printable(text, 100) == shown


@UNHURRIED
@given(st.lists(st.text(st.characters(), max_size=600), max_size=60))
def test_any_warnings_fit_and_are_printable(warnings):
    cut = cut_warnings(warnings)

    assert all(len(warning) <= MAX_WARNING and warning.isprintable() for warning in cut)
    assert sum(map(len, cut)) <= MAX_WARNINGS
    assert bool(cut) == any(warnings)
    json.loads(render_admitted("u", warnings=warnings))

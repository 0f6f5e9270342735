import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webhook_process import review_of
from webhook.request import MAX_DEPTH, MAX_VALUES, ReviewError, parse_json, parse_review

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parsed(document, *, content_type="application/json", **options):
    body = bytearray(json.dumps(document).encode())
    return parse_review(body, content_type=content_type, **options)


def refusal(body: bytes) -> ReviewError:
    with pytest.raises(ReviewError) as raised:
        parse_review(bytearray(body), content_type="application/json")
    return raised.value


def with_value(text: bytes) -> bytes:
    """A review with `text` as the value of an annotation."""
    body = json.dumps(review_of()).encode()
    assert b'"/var/log/orders/*.log"' in body
    return body.replace(b'"/var/log/orders/*.log"', text)


def test_a_review_of_an_api_server_is_read():
    review = parsed(review_of(dryRun=True, name="orders-x", subResource="status"))

    assert (review.operation, review.group, review.resource, review.subresource) == (
        "CREATE",
        "",
        "pods",
        "status",
    )
    assert (review.namespace, review.name, review.kind) == ("shop", "orders-x", "Pod")
    assert review.dry_run
    assert review.object is not None
    assert review.object["metadata"]["namespace"] == "shop"


def test_nothing_of_the_object_is_changed_by_reading_it():
    pod = {"spec": {"new": [1, -1, 2**63 - 1, 1.5, 1e300, None, True, "\ud800", "ä\u0000"]}}

    assert parsed(review_of(pod)).object == pod


def test_the_body_is_emptied_as_it_is_read():
    body = bytearray(json.dumps(review_of()).encode())
    parse_review(body, content_type="application/json")

    assert body == b""


def test_an_object_of_null_is_none():
    assert parsed(review_of(operation="DELETE", object=None)).object is None


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        " application/json ; charset = utf8 ",
    ],
)
def test_json_in_utf_8_is_taken(content_type):
    assert parsed(review_of(), content_type=content_type).uid


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json, application/json",
        "application/jsonx",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ],
)
def test_other_types_are_refused(content_type):
    with pytest.raises(ReviewError) as raised:
        parsed(review_of(), content_type=content_type)

    assert raised.value.status == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_nothing_is_decompressed(encoding):
    with pytest.raises(ReviewError) as raised:
        parsed(review_of(), content_encoding=encoding)

    assert raised.value.status == 415


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_no_encoding_is_taken(encoding):
    assert parsed(review_of(), content_encoding=encoding).uid


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(nested(MAX_DEPTH), id="a-little-too-deep"),
        pytest.param(nested(900), id="900-deep"),
        pytest.param(nested(100_000), id="100,000-deep"),
        pytest.param(b'{"a":' * 900 + b"1" + b"}" * 900, id="900-objects-deep"),
        pytest.param(b"9" * 5000, id="5,000-digits"),
        pytest.param(b"-" + b"9" * 4000, id="4,000-digits"),
        pytest.param(b"123456789012345678901", id="21-digits"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"Infinity", id="Infinity"),
        pytest.param(b"-Infinity", id="-Infinity"),
        pytest.param(b"1e999", id="1e999"),
        pytest.param(b"-1e999", id="-1e999"),
        pytest.param(b'{"a":1,"a":2}', id="a-key-twice"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="a-key-twice-in-two-spellings"),
        pytest.param(b'"\x00"', id="a-raw-nul"),
        pytest.param(b'"\n"', id="a-raw-newline"),
        pytest.param(b'"\xff"', id="not-utf-8"),
        pytest.param(b'"\xed\xa0\x80"', id="a-surrogate-in-utf-8"),
        pytest.param(b'"\xc0\xaf"', id="overlong-utf-8"),
        pytest.param(b"01", id="a-leading-zero"),
        pytest.param(b"'x'", id="single-quotes"),
        pytest.param(b"1,", id="a-comma-too-many"),
        pytest.param(b"/**/1", id="a-comment"),
        pytest.param(b"0x10", id="hexadecimal"),
    ],
)
def test_json_that_two_parsers_could_read_in_two_ways_is_refused(value):
    assert refusal(with_value(value)).status == 400


def test_the_outermost_level_counts_as_one():
    assert parse_json(bytearray(nested(MAX_DEPTH))) is not None
    with pytest.raises(ReviewError):
        parse_json(bytearray(nested(MAX_DEPTH + 1)))


def test_duplicate_keys_are_refused_at_every_level():
    whole = json.dumps(review_of())
    for key in ("uid", "object", "namespace"):
        assert f'"{key}": ' in whole
        twice = whole.replace(f'"{key}": ', f'"{key}": null, "{key}": ', 1)
        assert refusal(twice.encode()).status == 400
    assert refusal(b'{"request": 1, ' + whole[1:].encode()).status == 400


def test_half_a_surrogate_pair_is_taken():
    review = parse_review(bytearray(with_value(rb'"\ud800"')), content_type="application/json")

    assert review.object is not None
    assert review.object["metadata"]["annotations"]["sidetail.dev/paths"] == "\ud800"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_is_no_review_is_refused(body):
    assert refusal(body).status == 400


def test_a_byte_order_mark_is_refused():
    assert refusal(b"\xef\xbb\xbf" + json.dumps(review_of()).encode()).status == 400


def test_a_review_in_utf_16_is_refused():
    assert refusal(json.dumps(review_of()).encode("utf-16")).status == 400


@pytest.mark.parametrize("request_", [None, [], "x", 1, True, {}])
def test_a_request_that_is_no_object_is_refused(request_):
    assert refusal(json.dumps(review_of() | {"request": request_}).encode()).status == 400


@pytest.mark.parametrize(
    "uid", [None, 1, "", "x" * 10_000, "a\nb", "a b", "ä", [], {}, "\x1b[31m", "\ud800"]
)
def test_a_uid_that_cannot_stand_in_a_log_is_refused(uid):
    assert refusal(json.dumps(review_of(uid=uid)).encode()).status == 400


def test_a_missing_uid_is_refused():
    review = review_of()
    del review["request"]["uid"]

    assert refusal(json.dumps(review).encode()).status == 400


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("AdmissionReview", "admission.k8s.io/v1beta1"),
        ("AdmissionReview", "v1"),
        ("AdmissionReview", None),
        ("ConversionReview", "admission.k8s.io/v1"),
        (None, "admission.k8s.io/v1"),
    ],
)
def test_another_kind_or_version_is_refused_by_naming_the_one_that_is_spoken(kind, version):
    error = refusal(json.dumps(review_of() | {"kind": kind, "apiVersion": version}).encode())

    assert error.status == 400
    assert "admission.k8s.io/v1" in str(error)
    assert "AdmissionReview" in str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("object", [1]),
        ("object", "x"),
        ("object", 5),
        ("dryRun", "true"),
        ("dryRun", 1),
        ("namespace", 1),
        ("namespace", "x" * 300),
        ("namespace", "a\nb"),
        ("operation", {}),
        ("operation", "CREATE\r\n"),
        ("resource", "pods"),
        ("resource", {"resource": 1}),
        ("kind", ["Pod"]),
        ("subResource", 1),
        ("name", "a" * 254),
    ],
)
def test_a_member_of_the_wrong_shape_is_refused_by_name(key, value):
    error = refusal(_with(key, value))

    assert error.status == 400
    assert "request." in str(error)


def _with(key, value) -> bytes:
    return json.dumps(review_of(**{key: value})).encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uid", "hunter2 " * 3),
        ("uid", ["hunter2"]),
        ("namespace", {"hunter2": "hunter2"}),
        ("object", "hunter2"),
        ("dryRun", "hunter2"),
        ("resource", ["hunter2"]),
        ("operation", "hunter2\n"),
    ],
)
def test_what_was_sent_never_stands_in_the_error(key, value):
    assert "hunter2" not in str(refusal(_with(key, value)))


def test_a_person_who_asks_with_no_more_than_a_pod_is_understood():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}}
    review = parsed(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": "u", "object": pod},
        }
    )

    assert review.is_about("", "pods", "CREATE")


def test_the_group_of_a_bare_object_is_that_of_its_version():
    review = parsed(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": "u", "object": {"apiVersion": "apps/v1", "kind": "Deployment"}},
        }
    )

    assert review.is_about("apps", "deployments", "CREATE")


@pytest.mark.parametrize("filler", [b"{},", b"[],", b"1,", b'{"a":1},', b'"a",'])
def test_more_values_than_an_object_can_have_are_refused_before_they_are_made(filler):
    body = b"[" + filler * (MAX_VALUES // filler.count(b",") + 1) + b"1]"

    assert refusal(body).status == 400


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@UNHURRIED
@given(json_values)
def test_any_json_is_read_as_it_was_written(value):
    assert parse_json(bytearray(json.dumps(value).encode())) == value


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_that_are_no_review_are_refused(body):
    with pytest.raises(ReviewError):
        parse_review(bytearray(body), content_type="application/json")


@UNHURRIED
@given(st.dictionaries(st.sampled_from(list(review_of()["request"])), json_values, max_size=5))
def test_any_members_are_read_or_refused(members):
    with suppress(ReviewError):
        assert parsed(review_of(**members)).uid.isprintable()

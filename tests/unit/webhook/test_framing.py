from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhook.framing import (
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    Framing,
    HttpRequest,
    HttpResponse,
    Refused,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BODY_LIMIT = 1000


def framed(*pieces: bytes) -> list[HttpRequest | Refused]:
    """Feed pieces and answer each request with 200; return what came out."""
    framing = Framing(max_body_bytes=BODY_LIMIT)
    found: list[HttpRequest | Refused] = []
    for piece in pieces:
        framing.feed(piece)
        while (step := framing.next()) is not None:
            found.append(step)
            response = step.response() if isinstance(step, Refused) else HttpResponse(200, b"ok")
            _, ends = framing.render(response, close=False)
            if ends:
                return found
    return found


def only(*pieces: bytes) -> HttpRequest | Refused:
    found = framed(*pieces)
    assert len(found) == 1
    return found[0]


def status(*pieces: bytes) -> int:
    step = only(*pieces)
    return step.status if isinstance(step, Refused) else 200


HEAD = b"POST /mutate?timeout=5s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: 4\r\n\r\nbody"


def test_a_request_comes_out_whole():
    request = only(WHOLE)

    assert isinstance(request, HttpRequest)
    assert (request.method, request.target, request.body) == (
        "POST",
        "/mutate?timeout=5s",
        b"body",
    )
    assert ("content-type", "application/json") in request.headers


def test_a_request_may_come_byte_by_byte():
    pieces = [WHOLE[at : at + 1] for at in range(len(WHOLE))]

    assert only(*pieces) == only(WHOLE)


def test_chunks_become_one_body():
    request = only(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n3;x=y\r\n123\r\n0\r\n\r\n"
    )

    assert isinstance(request, HttpRequest)
    assert request.body == b"body123"


def test_pipelined_requests_are_answered_one_by_one():
    found = framed(WHOLE * 100)

    assert len(found) == 100
    assert all(isinstance(step, HttpRequest) and step.body == b"body" for step in found)


def test_nothing_is_read_past_a_request_that_ends_the_connection():
    found = framed(HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody" + WHOLE)

    assert len(found) == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", id="two-lengths"
        ),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", id="a-length-twice"
        ),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nbody", id="both"
        ),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\ncontent-length : 4\r\n\r\nbody",
            id="both-with-a-blank-before-the-colon",
        ),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", id="two-te"
        ),
        pytest.param(HEAD + b"Content-Length: 4\r\n X: y\r\n\r\nbody", id="folded"),
        pytest.param(HEAD + b"X-Bad : 1\r\nContent-Length: 4\r\n\r\nbody", id="blank-before-colon"),
        pytest.param(HEAD + b"Content-Length: +4\r\n\r\nbody", id="signed-length"),
        pytest.param(HEAD + b"Content-Length: 4x\r\n\r\nbody", id="half-a-length"),
        pytest.param(HEAD + b"Content-Length: 0x4\r\n\r\nbody", id="hexadecimal-length"),
        pytest.param(HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", id="endless-length"),
        pytest.param(HEAD + b"X: a\0b\r\nContent-Length: 4\r\n\r\nbody", id="nul-in-a-header"),
        pytest.param(HEAD.replace(b"\r\n", b"\n") + b"\n", id="bare-newlines"),
        pytest.param(b"POST /mutate HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", id="one-bare-newline"),
        pytest.param(b"POST /mutate HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", id="a-bare-return"),
        pytest.param(b"POST /mutate HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"POST https://x/mutate HTTP/1.1\r\nHost: x\r\n\r\n", id="absolute-form"),
        pytest.param(b"POST mutate HTTP/1.1\r\nHost: x\r\n\r\n", id="relative"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", id="asterisk-form"),
        pytest.param(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", id="connect"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
        pytest.param(b"POST  /mutate HTTP/1.1\r\nHost: x\r\n\r\n", id="two-blanks"),
        pytest.param(b"POST /mu\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", id="bytes-in-the-target"),
        pytest.param(b"POST /mutate\r\n\r\n", id="no-version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls"),
        pytest.param(
            b"POST /mutate HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="chunks-in-http-1.0",
        ),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_ends_the_connection(head):
    found = framed(head + WHOLE)

    assert [step.status for step in found if isinstance(step, Refused)] == [400]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (b"g\r\nbody\r\n", 400),
        (b"-4\r\nbody\r\n", 400),
        (b"4\nbody\r\n0\r\n\r\n", 400),
        (b"4\r\nbodyX\r\n0\r\n\r\n", 400),
        (b"ffffffffffffffffffffffff\r\n", 400),
        (b"4;" + b"x" * (MAX_HEAD_BYTES + 10), 431),
    ],
)
def test_chunks_that_break_the_rules_are_refused(chunks, expected):
    assert status(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks) == expected


def test_other_transfer_codings_are_not_spoken():
    assert status(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n") == 501


def test_http_2_is_not_spoken():
    assert status(b"POST /mutate HTTP/2.0\r\nHost: x\r\n\r\n") == 505


def test_a_body_over_the_limit_is_refused_as_soon_as_its_length_is_known():
    assert status(HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_LIMIT + 1)) == 413


def test_a_body_at_the_limit_is_taken():
    request = only(HEAD + b"Content-Length: %d\r\n\r\n" % BODY_LIMIT + b"x" * BODY_LIMIT)

    assert isinstance(request, HttpRequest)
    assert len(request.body) == BODY_LIMIT


def test_endless_chunks_are_refused_at_the_limit():
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

    assert status(head, *[b"64\r\n" + b"x" * 100 + b"\r\n"] * 11) == 413


def test_a_chunk_for_every_byte_is_refused():
    framing = Framing(max_body_bytes=10**9)
    framing.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MAX_CHUNKS + 1))
    step = framing.next()

    assert isinstance(step, Refused)
    assert step.status == 400


@pytest.mark.parametrize("ended", [True, False])
def test_a_head_over_the_limit_is_refused(ended):
    head = HEAD + b"X: " + b"y" * MAX_HEAD_BYTES + (b"\r\n\r\n" if ended else b"")

    assert status(head) == 431


def test_a_thousand_headers_are_refused():
    assert status(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n") == 431


def test_as_many_headers_as_a_mesh_adds_are_taken():
    many = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HEADERS - 3))

    assert status(HEAD + b"Content-Length: 4\r\n" + many + b"\r\nbody") == 200


def test_an_empty_line_before_a_request_is_ignored():
    assert status(b"\r\n\r\n" + WHOLE) == 200


def test_expect_continue_is_answered_once_and_only_while_the_body_is_awaited():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")

    assert framing.next() is None
    assert framing.take_continue().startswith(b"HTTP/1.1 100 ")
    assert framing.take_continue() == b""
    framing.feed(b"body")
    assert isinstance(framing.next(), HttpRequest)


def test_a_body_that_is_too_large_is_not_asked_for():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 4000\r\n\r\n")
    step = framing.next()

    assert isinstance(step, Refused)
    assert framing.render(step.response(), close=True)[0].startswith(b"HTTP/1.1 413 ")


def test_the_wish_for_another_protocol_is_ignored():
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    found = framed((HEAD + upgrade + b"Content-Length: 4\r\n\r\nbody") * 2)

    assert [type(step) for step in found] == [HttpRequest, HttpRequest]


def test_an_answer_has_its_length_and_says_when_it_is_the_last():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(WHOLE)
    framing.next()
    rendered, ends = framing.render(HttpResponse(200, b"yes", (("X-A", "b"),)), close=True)

    assert ends
    head, _, body = rendered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert {b"X-A: b", b"Content-Length: 3", b"Connection: close"} <= set(head.split(b"\r\n"))
    assert body == b"yes"


def test_http_1_0_gets_one_answer_and_the_end():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(b"GET /livez HTTP/1.0\r\n\r\n")

    assert isinstance(framing.next(), HttpRequest)
    rendered, ends = framing.render(HttpResponse(200, b"ok"), close=False)
    assert ends
    assert b"Connection: close" in rendered


def test_the_answer_to_head_has_a_length_and_no_body():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    framing.next()
    rendered, ends = framing.render(HttpResponse(200, b"ok"), close=False)

    assert not ends
    assert b"Content-Length: 2" in rendered
    assert rendered.endswith(b"\r\n\r\n")


def test_what_is_held_is_counted_and_let_go():
    framing = Framing(max_body_bytes=BODY_LIMIT)
    framing.feed(HEAD + b"Content-Length: 900\r\n\r\n" + b"x" * 500)
    framing.next()

    assert framing.held_bytes == 500
    framing.feed(b"x" * 400)
    framing.next()
    framing.render(HttpResponse(200, b""), close=False)
    assert framing.held_bytes == 0


PARTS = st.sampled_from(
    [
        WHOLE,
        HEAD,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"Content-Length: 4\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"X-Long: " + b"y" * 300 + b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" folded\r\n",
        b"4\r\nbody\r\n",
        b"0\r\n\r\n",
        b"body",
        b"\0",
        b":",
        b"\xff\xfe",
    ]
)
STREAMS = st.lists(PARTS | st.binary(max_size=6), max_size=12).map(b"".join)


def outline(found):
    return [
        step.status if isinstance(step, Refused) else (step.method, step.target, bytes(step.body))
        for step in found
    ]


@UNHURRIED
@given(STREAMS, st.lists(st.integers(0, 400), max_size=8))
def test_any_bytes_give_the_same_requests_however_they_are_cut(stream, cuts):
    """And never an exception: what one packet more or less changes is how requests are smuggled."""
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(ends) if start < end]

    assert outline(framed(*pieces)) == outline(framed(stream))


@UNHURRIED
@given(STREAMS)
def test_any_bytes_after_a_refusal_are_never_a_request(stream):
    found = framed(stream, WHOLE, WHOLE)

    assert not any(isinstance(step, Refused) for step in found[:-1])

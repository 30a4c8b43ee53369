"""The proxy's own responses: the right status, a length, and the cause (RFC 9209)."""

import re

import pytest

from hopproxy.errors import (
    BadRequest,
    BadResponse,
    ConnectFailed,
    Denied,
    HopError,
    LinkError,
    PoolExhausted,
)
from hopproxy.message import Body
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.answer import (
    CONTINUE,
    answer_to,
    last_hop,
    last_hop_answer,
    plain_answer,
    proxy_status,
    reason_phrase,
)
from hopproxy.wire.http1 import write_response
from tests.pure.search import get, response


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (HopError("x"), 500, "proxy_internal_error"),
        (BadRequest("x"), 400, "http_request_error"),
        (BadRequest("x", 431), 431, "http_request_error"),
        (Denied("x"), 404, "http_request_denied"),
        (Denied("x", 405), 405, "http_request_denied"),
        (Denied("x", 508, "proxy_loop_detected"), 508, "proxy_loop_detected"),
        (BadResponse("x"), 502, "http_protocol_error"),
        (PoolExhausted("x"), 503, "connection_limit_reached"),
        (ConnectFailed("x"), 502, "connection_refused"),
        (ConnectFailed("x", 504, "connection_timeout"), 504, "connection_timeout"),
        (LinkError(Hop.UPSTREAM, CloseReason.RESPONSE_TIMEOUT, "x"), 504, "http_response_timeout"),
    ],
)
def test_an_answer_names_its_cause(error: HopError, status: int, cause: str) -> None:
    head, body = answer_to(error, b"hopproxy")
    assert head.status == status
    assert head.values(b"proxy-status") == [b'hopproxy; error=%b; details="x"' % cause.encode()]
    assert body.startswith(b"%d %b" % (status, reason_phrase(status)))
    assert body.endswith(b"x\n")


@pytest.mark.parametrize(
    ("status", "name", "values"),
    [(503, b"retry-after", [b"1"]), (404, b"retry-after", []), (404, b"allow", [])],
)
def test_what_else_an_answer_says(status: int, name: bytes, values: list[bytes]) -> None:
    head, _ = answer_to(Denied("x", status), b"hopproxy")
    assert head.values(name) == values


def test_a_method_that_is_not_allowed_is_told_which_are() -> None:
    head, _ = answer_to(Denied("x", 405), b"hopproxy")
    [allowed] = head.values(b"allow")
    assert {b"GET", b"POST"} <= set(allowed.split(b", "))
    assert b"CONNECT" not in allowed


def test_an_answer_is_whole() -> None:
    head, body = plain_answer(418, b"tea", [b"X: 1"], b"text/tea")
    assert (head.body, head.length) == (Body.SIZED, 3)
    written = write_response(head, b"Connection: close\r\n").removesuffix(b"\r\n")
    assert written.startswith(b"HTTP/1.1 418 I'm a Teapot\r\n")
    for line in (b"Content-Type: text/tea", b"Content-Length: 3", b"X: 1", b"Connection: close"):
        assert b"\r\n" + line + b"\r\n" in written
    assert body == b"tea"


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, b"OK"), (504, b"Gateway Timeout"), (499, b""), (999, b"")]
)
def test_a_status_has_its_phrase(status: int, phrase: bytes) -> None:
    assert reason_phrase(status) == phrase


@pytest.mark.parametrize("detail", ['a "quoted" \\ one', "line\r\nSet-Cookie: x", "\x00é☃", ""])
def test_a_detail_cannot_leave_its_quotes(detail: str) -> None:
    line = proxy_status(BadRequest(detail), b"hopproxy")
    assert re.fullmatch(rb'Proxy-Status: hopproxy; error=\w+; details="[ !#-\[\]-~]*"', line)


def test_continue_is_an_interim_response() -> None:
    written = write_response(CONTINUE, b"")
    assert written == b"HTTP/1.1 100 Continue\r\n\r\n"
    head = response(written.removesuffix(b"\r\n\r\n"), b"POST")
    assert not isinstance(head, HopError)
    assert head.status == 100


def test_the_last_hop_of_options_says_what_is_allowed() -> None:
    head, body = last_hop_answer(get(b"Max-Forwards: 0", start=b"OPTIONS / HTTP/1.1"))
    assert (head.status, head.length, body) == (200, 0, b"")
    assert head.values(b"allow")


def test_the_last_hop_of_trace_shows_what_came_without_secrets() -> None:
    secrets = [b"Authorization: Basic eA==", b"cookie: a=1", b"Proxy-Authorization: Basic eA=="]
    request = get(b"A: 1", *secrets, b"Max-Forwards: 0", start=b"TRACE /x HTTP/1.0")
    head, body = last_hop_answer(request)
    assert head.values(b"content-type") == [b"message/http"]
    assert body == b"TRACE /x HTTP/1.0\r\nHost: a\r\nA: 1\r\nMax-Forwards: 0\r\n\r\n"
    assert head.length == len(body)


def test_trace_is_served_where_the_settings_say() -> None:
    trace = get(b"Max-Forwards: 0", start=b"TRACE / HTTP/1.1")
    with pytest.raises(Denied):
        last_hop(trace, traces=False)
    answer = last_hop(trace, traces=True)
    assert answer is not None
    assert answer[0].status == 200
    assert last_hop(get(start=b"OPTIONS / HTTP/1.1"), traces=False) is None

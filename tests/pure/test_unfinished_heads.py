"""Heads that come in pieces or are too large: what they may cost before they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest, BadResponse, HopError
from hopproxy.settings.client import ClientSettings
from hopproxy.wire import http1
from hopproxy.wire.unfinished import SHORT, UnfinishedHead, UnfinishedRequest, UnfinishedResponse
from tests.pure.search import LIMITS, REQUESTS, RESPONSES, damaged, request, response, search

#: Longer than what is read again with each byte.
START = b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * SHORT + b"\r"


def refusal(head: UnfinishedHead, *grown: bytes) -> HopError | None:
    """What is said of a head that has grown so."""
    try:
        for so_far in grown:
            head.check(so_far)
    except HopError as error:
        return error
    return None


def of_request(*grown: bytes) -> HopError | None:
    return refusal(UnfinishedRequest(LIMITS), *grown)


def of_response(*grown: bytes, method: bytes = b"GET") -> HopError | None:
    return refusal(UnfinishedResponse(method), *grown)


def beginnings(whole: bytes) -> list[bytes]:
    return [whole[: cut + 1] for cut in range(len(whole))]


@pytest.mark.parametrize("read", [1, 19, 2 * SHORT, len(START) - 1, len(START)])
def test_a_bare_line_end_is_found_where_two_pieces_meet(read: int) -> None:
    assert of_request(START[:read], START) is None  # its end may be the first of a CRLF
    assert of_request(START[:read], START + b"\n") is None
    refused = of_request(START[:read], START + b"b")
    assert refused is not None
    assert "carriage return" in refused.detail
    bare = of_request(START[:-1][:read], START[:-1] + b"\n")
    assert bare is not None
    assert "bare line feed" in bare.detail


def test_what_was_read_before_is_not_looked_at_again() -> None:
    """A head that comes byte by byte must not cost the square of its length."""
    looked_at = 0

    class Counted(bytes):
        def find(self, sub: object, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
            nonlocal looked_at
            looked_at += len(self) - start
            return super().find(sub, start)  # type: ignore[arg-type]

    head = UnfinishedResponse(b"GET")
    whole = b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 2000 + b"\r\n") * 4
    for so_far in beginnings(whole):
        head.check(Counted(so_far))
    assert looked_at <= 2 * len(whole)


@given(damaged(REQUESTS))
@search
def test_no_beginning_of_a_good_request_is_refused(raw: bytes) -> None:
    read = request(raw)
    if isinstance(read, HopError) and read.status != 405:
        return
    whole = raw + b"\r\n\r"
    assert of_request(*beginnings(whole)) is None
    for so_far in beginnings(whole):
        assert of_request(so_far) is None


@given(damaged(RESPONSES), st.sampled_from([b"GET", b"HEAD"]))
@search
def test_no_beginning_of_a_good_response_is_refused(raw: bytes, method: bytes) -> None:
    if isinstance(response(raw, method), HopError):
        return
    whole = raw + b"\r\n\r"
    assert of_response(*beginnings(whole), method=method) is None
    for so_far in beginnings(whole):
        assert of_response(so_far, method=method) is None


@given(damaged(REQUESTS))
@search
def test_what_is_refused_early_is_refused_whole(raw: bytes) -> None:
    """In pieces, in one write with an end, byte by byte: the verdict is the same."""
    early = of_request(*beginnings(raw))
    if early is None:
        return
    for end in (b"", b"\r\nX:y"):
        whole = request(raw + end)
        assert isinstance(whole, BadRequest)
    assert isinstance(of_request(raw), BadRequest)


@given(damaged(RESPONSES))
@search
def test_what_is_refused_early_of_a_response_is_refused_whole(raw: bytes) -> None:
    if of_response(*beginnings(raw)) is None:
        return
    for end in (b"", b"\r\nX:y"):
        assert isinstance(response(raw + end), BadResponse)
    assert isinstance(of_response(raw), BadResponse)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"{", 400),
        (b"<html>", 400),
        (b"G\x00T", 400),
        (b"GET\tx", 400),
        (b" GET", 400),
        (b"\n", 400),
        (b"\r\n", 400),
        (b"GET / HTTP/1.1\nHost", 400),
        (b"GET / HTTP/1.1\r\nA: b\rC", 400),
        (b"GET / HTTP/1.1\r\n\rC", 400),
        (b"GET / HTTP/1.1x", 400),
        (b"GET / HTTP/1.\r", 400),
        (b"GET / HTTP/2", 505),
        (b"GET / HTTP/10", 505),
        (b"GET a HTTP", 400),
        (b"GET foo", 400),
        (b"PRI *", 505),
        (b"GET /a#", 400),
        (b"GET ftp:", 400),
        (b"GET ftp://", 400),
        (b"GET http://u@", 400),
        (b"GET http://h:8x", 400),
        (b"GET http://[::1]x", 400),
        (b"GET / HTTP/1.1\r\nX: y\r\nHost: a b\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a\r\n", 400),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 5,5\r\n", 400),
        (b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        (b"GET / HTTP/1.1\r\nConnection: close, Host\r\n", 400),
        (b"GET / HTTP/1.1\r\nConnection: " + b",".join([b"a"] * 33) + b"\r\n", 400),
        (b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nExpect: 200-ok\r\n", 417),
    ],
)
def test_what_can_become_no_request_is_refused_early(start: bytes, status: int) -> None:
    refused = of_request(start)
    assert isinstance(refused, BadRequest)
    assert refused.status == status


@pytest.mark.parametrize(
    "start",
    [b"CONNECT a:1 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.0\r\nX", b"GET http://a:80 HTTP/1.1\r",
     b"GET /" + b"x" * 8191 + b" HTTP/1.9\r\n", b"GET /" + b"x" * 8191 + b" ",
     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100, b"CONNECT a:1 HTTP/1.1\r\nHost: b\r\n",
     b"GET HTTPS://[fe80::1%25eth0]:80/x HTTP/1.1\r\n", b"OPTIONS http://a?b HTTP/1.1\r\n",
     b"PUT http://a HTTP/1.1\r\nContent-Length: 010\r\nHost: a:80\r\nX"],
)  # fmt: skip
def test_what_can_become_a_request_is_waited_for(start: bytes) -> None:
    assert of_request(*beginnings(start)) is None


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /" + b"x" * 8192 + b" ", 414),
        (b"GET /" + b"x" * 8193, 414),
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101, 431),
    ],
)
def test_a_limit_is_passed_before_the_head_is_whole(start: bytes, status: int) -> None:
    for refused in (of_request(start), of_request(*beginnings(start))):
        assert isinstance(refused, BadRequest)
        assert refused.status == status


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x28", "TLS"),
        (b"\x16", "TLS"),
        (b"\x80\x2e\x01\x03\x01", "TLS"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "HTTP/2"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY"),
        (b"*1\r\n$4\r\nPING\r\n", "Redis"),
        (b"220 x\r\n", "SMTP"),
    ],
)
def test_another_protocol_is_named_on_both_hops(start: bytes, named: str) -> None:
    for refused in (of_request(start), of_response(start)):
        assert refused is not None
        assert named in refused.detail
        assert isinstance(refused, BadRequest) or (
            isinstance(refused, BadResponse) and refused.hint
        )


@pytest.mark.parametrize(
    ("start", "named", "hinted"),
    [
        (b"HTTP/3.0 200 OK", "HTTP/3.0", "plain HTTP/1.1"),
        (b"<html>", "without a status line", "status line"),
        (b"HTTP/1.1 200 OK\n", "bare line feed", "\\r\\n"),
        (b"HTTP/1.1 600", "status line", ""),
        (b"HTTP/1.1 200 OK\r\nX\r\n", "colon", ""),
    ],
)
def test_an_origin_that_answers_otherwise_is_told_what_to_do(
    start: bytes, named: str, hinted: str
) -> None:
    refused = of_response(start)
    assert isinstance(refused, BadResponse)
    assert named in refused.detail
    assert hinted in refused.hint
    assert bool(refused.hint) == bool(hinted)


def test_too_many_fields_are_refused_before_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 32 KiB of short fields cost 20 ms only to be refused."""
    read: list[bytes] = []
    monkeypatch.setattr("hopproxy.wire.plain.read_request", read.append)
    head = b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX:y" * 5000
    with pytest.raises(BadRequest, match="max_fields") as refused:
        http1.read_request(head, ClientSettings())
    assert (refused.value.status, read) == (431, [])

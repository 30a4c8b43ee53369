"""Heads towards HTTP/2 origins and from them: they mean what HTTP/1.1's mean (RFC 9113 8.3)."""

from __future__ import annotations

import hpack
import pytest

from hopproxy.errors import BadResponse
from hopproxy.message import CHUNKED, HTTP_2, NO_BODY, SIZED
from hopproxy.rules.hop import response_lines
from hopproxy.rules.upgrade import check_switch
from hopproxy.wire import h2_asking
from hopproxy.wire.h2_asking import MEMO_HEADS, request_block, websocket_block
from hopproxy.wire.h2_response import ResponseSection, adds_up, switched
from hopproxy.wire.hpack import FieldLine
from tests.pure.search import get

Pairs = list[tuple[bytes, bytes]]


def asked(written: bytes, scheme: bytes = b"http") -> Pairs:
    """What the origin's decoder reads of a request."""
    block = request_block(written, scheme)
    return [(name, value) for name, value in hpack.Decoder().decode(block, raw=True)]


def section(*fields: tuple[bytes, bytes]) -> ResponseSection:
    return ResponseSection([FieldLine(name, value) for name, value in fields])


def test_a_request_without_what_is_about_its_connection() -> None:
    written = (
        b"POST /a?b HTTP/1.1\r\nHost: shop:81\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: TE\r\nTE: trailers\r\nUpgrade: x\r\nVia: 1.1 me\r\nX-Empty: \r\n\r\n"
    )
    assert asked(written, b"https") == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"shop:81"),
        (b":path", b"/a?b"),
        (b"accept", b"*/*"),
        (b"te", b"trailers"),
        (b"via", b"1.1 me"),
        (b"x-empty", b""),
    ]


def test_a_request_without_host_has_no_authority() -> None:
    assert asked(b"OPTIONS * HTTP/1.1\r\n\r\n") == [
        (b":method", b"OPTIONS"),
        (b":scheme", b"http"),
        (b":path", b"*"),
    ]


def test_the_handshake_of_a_websocket_is_an_extended_connect() -> None:
    """RFC 8441 section 5.1."""
    written = (
        b"GET /chat HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n"
        b"sec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://a\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    block = websocket_block(written, b"https")
    assert list(hpack.Decoder().decode(block, raw=True)) == [
        (b":protocol", b"websocket"),
        (b":method", b"CONNECT"),
        (b":scheme", b"https"),
        (b":authority", b"a"),
        (b":path", b"/chat"),
        (b"sec-websocket-version", b"13"),
        (b"origin", b"http://a"),
    ]


def test_a_good_answer_to_an_extended_connect_is_a_101() -> None:
    good = section(
        (b":status", b"200"),
        (b"date", b"x"),
        (b"sec-websocket-protocol", b"chat"),
        (b"sec-websocket-accept", b"ours"),
        (b"content-length", b"5"),
    )
    head = switched(good.response(b"GET"), b"accepted")
    assert (head.status, head.body, head.dated) == (101, NO_BODY, True)
    asked = get(b"Connection: Upgrade", b"Upgrade: x, websocket")
    assert check_switch(asked, head) == b"websocket"
    assert response_lines(head) == [
        b"date: x",
        b"sec-websocket-protocol: chat",
        b"Sec-WebSocket-Accept: accepted",
    ]


def test_blocks_are_remembered_for_each_scheme_and_not_without_bound() -> None:
    written = b"GET /memo HTTP/1.1\r\nHost: a\r\n\r\n"
    assert request_block(written, b"http") is request_block(written, b"http")
    assert asked(written, b"https")[1] == (b":scheme", b"https")
    for n in range(MEMO_HEADS + 2):
        request_block(b"GET /%d HTTP/1.1\r\n\r\n" % n, b"http")
    assert len(h2_asking._blocks) <= MEMO_HEADS
    large = b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 5000)
    assert request_block(large, b"http") is not request_block(large, b"http")


@pytest.mark.parametrize(
    ("fields", "method", "body", "length"),
    [
        ([(b":status", b"200")], b"GET", CHUNKED, 0),
        ([(b":status", b"200"), (b"content-length", b"7")], b"GET", SIZED, 7),
        ([(b":status", b"200"), (b"content-length", b"0")], b"GET", NO_BODY, 0),
        ([(b":status", b"200"), (b"content-length", b"7")], b"HEAD", NO_BODY, 0),
        ([(b":status", b"204")], b"GET", NO_BODY, 0),
        ([(b":status", b"304"), (b"content-length", b"7")], b"GET", NO_BODY, 0),
        ([(b":status", b"103")], b"GET", NO_BODY, 0),
    ],
)
def test_how_much_body_a_response_has(
    fields: Pairs, method: bytes, body: object, length: int
) -> None:
    found = section(*fields)
    head = found.response(method)
    assert (head.body, head.length, head.minor, head.ending) == (body, length, HTTP_2, None)
    assert found.is_interim is (head.status == 103)
    assert found.response(method) is head


def test_a_response_as_http11_writes_it() -> None:
    found = section(
        (b":status", b"404"),
        (b"date", b"today"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    )
    head = found.response(b"GET")
    assert (head.status, head.reason, head.dated) == (404, b"Not Found", True)
    assert head.lines == [b"date: today", b"set-cookie: a=1", b"set-cookie: b=2"]
    assert section((b":status", b"299")).response(b"GET").reason == b""


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"x", b"1")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"2x0")],
        [(b":status", b"099")],
        [(b":status", b"600")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"X-Upper", b"1")],
        [(b":status", b"200"), (b"x", b"a\nb")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
    ],
)
def test_malformed_responses(fields: Pairs) -> None:
    with pytest.raises(BadResponse):
        section(*fields).response(b"GET")


def test_sections_that_are_too_large() -> None:
    large = ResponseSection([], too_large=True)
    with pytest.raises(BadResponse) as caught:
        large.response(b"GET")
    assert caught.value.limit == "max_head_size"
    with pytest.raises(BadResponse, match="trailers"):
        large.trailers()


def test_trailers() -> None:
    assert section((b"x-sum", b"7"), (b"content-length", b"9")).trailers() == [b"x-sum: 7"]
    with pytest.raises(BadResponse):
        section((b":status", b"200")).trailers()


def test_data_adds_up_to_the_length() -> None:
    sized = section((b":status", b"200"), (b"content-length", b"7")).response(b"GET")
    assert adds_up(sized, 6, ended=False)
    assert adds_up(sized, 7, ended=True)
    assert not adds_up(sized, 6, ended=True)
    assert not adds_up(sized, 8, ended=False)
    bare = section((b":status", b"204")).response(b"GET")
    assert adds_up(bare, 0, ended=True)
    assert not adds_up(bare, 1, ended=False)
    assert adds_up(section((b":status", b"200")).response(b"GET"), 99, ended=True)

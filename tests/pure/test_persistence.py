"""Which link outlives an exchange: each hop on its own (RFC 9112 section 9.3)."""

import pytest

from hopproxy.message import Body
from hopproxy.reasons import CloseReason
from hopproxy.rules.persistence import (
    client_asks,
    client_can_keep,
    client_ends,
    keep_alive_hint,
    upstream_allows,
)
from tests.pure.search import answer, get

SIZED = b"Content-Length: 5"
NO_CONTENT = b"HTTP/1.1 204 No Content"


@pytest.mark.parametrize(
    ("minor", "lines", "verdict"),
    [
        (b"1", [], None),
        (b"1", [b"Connection: keep-alive"], None),
        (b"1", [b"Connection: X-Foo"], None),
        (b"1", [b"Connection: close"], CloseReason.PEER_ASKED),
        (b"1", [b"Connection: CLOSE"], CloseReason.PEER_ASKED),
        (b"1", [b"Connection: keep-alive, close"], CloseReason.PEER_ASKED),
        (b"1", [b"Connection: a", b"Connection: ,Close ,"], CloseReason.PEER_ASKED),
        (b"0", [], CloseReason.PEER_HTTP10),
        (b"0", [b"Connection: X-Foo"], CloseReason.PEER_HTTP10),
        (b"0", [b"Connection: Keep-Alive"], None),
        (b"0", [b"Connection: keep-alive, close"], CloseReason.PEER_ASKED),
        (b"0", [b"Proxy-Connection: keep-alive"], CloseReason.PEER_HTTP10),
    ],
)
def test_each_peer_speaks_for_its_own_link(
    minor: bytes, lines: list[bytes], verdict: CloseReason | None
) -> None:
    request = get(*lines, start=b"GET / HTTP/1." + minor)
    assert client_asks(request) is client_ends(request, Body.SIZED) is verdict
    head = answer(SIZED, *lines, start=b"HTTP/1." + minor + b" 200 OK")
    assert upstream_allows(head) is verdict
    assert head.ending is verdict


@pytest.mark.parametrize(
    ("lines", "start", "method"),
    [
        ([], b"HTTP/1.1 200 OK", b"GET"),
        ([b"Connection: keep-alive"], b"HTTP/1.0 200 OK", b"GET"),
        ([b"Connection: close"], b"HTTP/1.1 200 OK", b"POST"),
    ],
)
def test_a_body_that_the_close_ends_ends_the_link(
    lines: list[bytes], start: bytes, method: bytes
) -> None:
    assert answer(*lines, start=start, method=method).ending is CloseReason.CLOSE_DELIMITED


@pytest.mark.parametrize(
    ("start", "method"),
    [
        (b"HTTP/1.1 200 OK", b"HEAD"),
        (b"HTTP/1.1 204 No Content", b"GET"),
        (b"HTTP/1.1 304 Not Modified", b"GET"),
    ],
)
def test_an_answer_without_a_body_keeps_the_link(start: bytes, method: bytes) -> None:
    assert answer(start=start, method=method).ending is None


@pytest.mark.parametrize(
    ("minor", "body", "verdict"),
    [
        (b"1", Body.NONE, None),
        (b"1", Body.SIZED, None),
        (b"1", Body.CHUNKED, None),
        (b"1", Body.UNTIL_CLOSE, None),
        (b"0", Body.NONE, None),
        (b"0", Body.SIZED, None),
        (b"0", Body.CHUNKED, CloseReason.NO_LENGTH),
        (b"0", Body.UNTIL_CLOSE, CloseReason.NO_LENGTH),
    ],
)
def test_an_http10_client_knows_no_other_end(
    minor: bytes, body: Body, verdict: CloseReason | None
) -> None:
    assert client_can_keep(get(start=b"GET / HTTP/1." + minor), body) is verdict


@pytest.mark.parametrize(
    ("value", "timeout", "more"),
    [
        (b"timeout=5", 5, None),
        (b"timeout=5, max=100", 5, 100),
        (b"max=3,timeout=0", 0, 3),
        (b"Timeout=5 , MAX=7", 5, 7),
        (b'timeout="5"', 5, None),
        (b"timeout = 5", 5, None),
        (b"timeout=5, timeout=9", 5, None),
        (b"timeout=x, max=3", None, 3),
        (b"timeout=-1", None, None),
        (b"timeout=5.5", None, None),
        (b"timeout=\xb2", None, None),
        (b"timeout=9999999999", None, None),
        (b"timeout", None, None),
        (b",", None, None),
        (b"", None, None),
    ],
)
def test_a_hint_is_read_and_garbage_ignored(
    value: bytes, timeout: int | None, more: int | None
) -> None:
    head = answer(b"Keep-Alive: " + value, SIZED)
    for hint in (head.hint, keep_alive_hint(head)):
        assert hint is not None
        assert (hint.timeout, hint.max) == (timeout, more)


def test_two_lines_of_hints_are_one_list() -> None:
    hint = answer(b"Keep-Alive: timeout=5", b"Keep-Alive: max=3", SIZED).hint
    assert hint is not None
    assert (hint.timeout, hint.max) == (5, 3)


def test_without_a_hint_there_is_none() -> None:
    assert keep_alive_hint(answer(SIZED)) is None
    assert answer(SIZED).hint is None


@pytest.mark.parametrize("line", [b"Date: Tue, 01 Jan 2030 00:00:00 GMT", b"date:x"])
def test_a_date_is_noticed(line: bytes) -> None:
    assert answer(line, SIZED).dated
    assert not answer(SIZED, b"X-Date: now").dated


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5"],
        [b"Content-Length: 50"],
        [b"content-length: 005"],
        [b"Connection: keep-alive", b"Content-Length: 5"],
        [b"Connection: close", b"Content-Length: 5"],
    ],
)
def test_a_204_that_announces_content_ends_the_link(lines: list[bytes]) -> None:
    assert answer(*lines, start=NO_CONTENT).ending is CloseReason.BAD_RESPONSE


@pytest.mark.parametrize("line", [b"Content-Length: 0", b"Content-Length: 00", b"Date: x", b"A: 5"])
def test_a_204_that_announces_none_keeps_it(line: bytes) -> None:
    assert answer(line, start=NO_CONTENT).ending is None


@pytest.mark.parametrize(
    ("start", "method"), [(b"HTTP/1.1 304 Not Modified", b"GET"), (b"HTTP/1.1 200 OK", b"HEAD")]
)
def test_what_another_answer_would_have_had_is_no_announcement(start: bytes, method: bytes) -> None:
    assert answer(b"Content-Length: 5", start=start, method=method).ending is None

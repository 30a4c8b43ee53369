"""Where a message ends: the tables of RFC 9112 section 6.3, and two strict readers as judges.

The judges read what we would send for whatever we understood, with another message behind it: the
same body, and the next message begins where ours ends.
"""

import re

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest, BadResponse, HopError
from hopproxy.message import Body, Head, RequestHead, ResponseHead
from hopproxy.reasons import CloseReason
from hopproxy.rules.framing import MAX_OPTIONS, check_size
from hopproxy.rules.hop import Underscores, request_for_upstream
from hopproxy.wire import plain
from hopproxy.wire.chunked import ChunkedError, ChunkedReader, chunk, last_chunk
from hopproxy.wire.http1 import write_response
from tests.pure.search import (
    REQUESTS,
    RESPONSES,
    answer,
    damaged,
    get,
    request,
    response,
    search,
)

FOLLOWER = b"GET /follower HTTP/1.1\r\nHost: f\r\n\r\n"
ANSWER_BEHIND = b"HTTP/1.1 204 No Content\r\n\r\n"

#: What never leaves in a head: controls but tab, and CR or LF alone.
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)")

BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
     b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"0\r\n\r\n", FOLLOWER, b"0\r\n\r\n" + FOLLOWER]
) | st.binary(max_size=12)  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "body", "length"),
    [
        ([], Body.NONE, 0),
        ([b"Content-Length: 0"], Body.NONE, 0),
        ([b"Content-Length: 5"], Body.SIZED, 5),
        ([b"Content-Length: 007"], Body.SIZED, 7),
        ([b"content-length:5 "], Body.SIZED, 5),
        ([b"Content-Length: 999999999999999999"], Body.SIZED, 10**18 - 1),
        ([b"Transfer-Encoding: chunked"], Body.CHUNKED, 0),
        ([b"Transfer-Encoding: CHUNKED"], Body.CHUNKED, 0),
    ],
)
def test_a_request_body_ends_where_it_says(lines: list[bytes], body: Body, length: int) -> None:
    head = get(*lines)
    assert (head.body, head.length) == (body, length)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Content-Length: 5", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Content-Length: 6"], 400),
        ([b"Content-Length: 5, 5"], 400),
        ([b"Content-Length:5,6"], 400),
        ([b"Content-Length:"], 400),
        ([b"Content-Length: +5"], 400),
        ([b"Content-Length: -1"], 400),
        ([b"Content-Length: 0x10"], 400),
        ([b"Content-Length: 1_0"], 400),
        ([b"Content-Length: 5 5"], 400),
        ([b"Content-Length: 1000000000000000000"], 400),
        ([b"Content-Length: \xb2"], 400),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding:chunked", b"Content-Length:5"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: ,chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: "], 400),
        ([b"Transfer-Encoding:"], 400),
        ([b"Transfer-Encoding:\t, "], 400),
        ([b"Transfer-Encoding: \x0bchunked"], 400),
        # Where the final coding is not chunked, the end of the body cannot be told.
        ([b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding: chunked, gzip"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b'Transfer-Encoding: "chunked"'], 400),
        ([b"Transfer-Encoding: chunked;q=1"], 400),
        ([b"Transfer-Encoding: chunked, gzip, chunked"], 400),
        ([b"Transfer-Encoding: g zip, chunked"], 400),
        ([b"Transfer-Encoding: gzip", b"Content-Length: 5"], 400),
        ([b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5"], 400),
        # A coding below a final chunked is understood, and not implemented.
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: GZip;level=9 ,, Chunked"], 501),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: identity, chunked"], 501),
    ],
)
def test_a_request_of_two_lengths_is_refused(lines: list[bytes], status: int) -> None:
    for odd in ([], [b"X-Odd:y"]):  # the other parser says the same
        refusal = request(b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *lines, *odd]))
        assert isinstance(refusal, BadRequest)
        assert refusal.status == status


def test_http10_knows_no_transfer_coding() -> None:
    coding = b"\r\nTransfer-Encoding: chunked"
    assert isinstance(request(b"POST / HTTP/1.0\r\nHost: a" + coding), BadRequest)
    assert isinstance(response(b"HTTP/1.0 200 OK" + coding), BadResponse)


@pytest.mark.parametrize(
    ("status", "method", "lines", "body", "length"),
    [
        (200, b"GET", [b"Content-Length: 5"], Body.SIZED, 5),
        (200, b"GET", [b"Content-Length: 0"], Body.NONE, 0),
        (200, b"GET", [b"Transfer-Encoding: chunked"], Body.CHUNKED, 0),
        (200, b"GET", [b"Transfer-Encoding:Chunked"], Body.CHUNKED, 0),
        (200, b"GET", [], Body.UNTIL_CLOSE, 0),
        (205, b"GET", [], Body.UNTIL_CLOSE, 0),
        (200, b"HEAD", [b"Content-Length: 5"], Body.NONE, 0),
        (200, b"HEAD", [b"Transfer-Encoding: chunked"], Body.NONE, 0),
        (200, b"HEAD", [], Body.NONE, 0),
        (200, b"HEAD", [b"X:y"], Body.NONE, 0),
        (204, b"GET", [b"Content-Length: 5"], Body.NONE, 0),
        (304, b"GET", [b"Content-Length: 5"], Body.NONE, 0),
        (304, b"GET", [b"Transfer-Encoding: chunked"], Body.NONE, 0),
        (100, b"POST", [b"Content-Length: 5"], Body.NONE, 0),
        (103, b"GET", [b"Link:</a>"], Body.NONE, 0),
    ],
)
def test_a_response_body_ends_where_it_says(
    status: int, method: bytes, lines: list[bytes], body: Body, length: int
) -> None:
    head = answer(*lines, start=b"HTTP/1.1 %d X" % status, method=method)
    assert (head.body, head.length) == (body, length)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 6"],
        [b"Content-Length: 5, 05"],
        [b"Content-Length: 5,"],
        [b"Content-Length: 5;q=1"],
        [b"Content-Length: x"],
        [b"Content-Length: x", b"Content-Length: x"],
        [b"Content-Length:"],
        [b"Content-Length: 1000000000000000000"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding:identity"],
    ],
)
def test_a_response_of_two_lengths_is_refused(lines: list[bytes]) -> None:
    for odd in ([], [b"X-Odd:y"]):
        refusal = response(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, *odd]))
        assert isinstance(refusal, BadResponse)
        assert refusal.status == 502


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([b"Content-Length: 5", b"Content-Length: 5"], 5),
        ([b"Content-Length: 5, 5"], 5),
        ([b"Content-Length: 5 ,5", b"content-length: 5"], 5),
        ([b"Content-Length: 010"], 10),
        ([b"Content-Length: 010", b"Content-Length: 010"], 10),
        ([b"Content-Length: 0, 0"], 0),
        ([b"Content-Length: 000"], 0),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_response_has_its_length_once_and_plainly(
    lines: list[bytes], length: int, method: bytes
) -> None:
    """RFC 9112 section 6.3: the same length, repeated, is one."""
    for odd in ([], [b"X-Odd:y"]):
        head = answer(b"A: 1", *lines, b"B: 2", *odd, method=method)
        assert head.length == (length if method == b"GET" else 0)
        assert head.lines[:3] == [b"A: 1", b"Content-Length: %d" % length, b"B: 2"]
        assert head.special_value(b"content-length") == b"%d" % length
        assert head.ending is (CloseReason.BAD_RESPONSE if head.doubtful else None)
        assert not head.doubtful


@pytest.mark.parametrize("value", [b"010", b"00", b"000000000000000007"])
def test_a_request_has_its_length_plainly(value: bytes) -> None:
    """A reader that takes 010 for an octal number would find another end."""
    plainly = b"Content-Length: %d" % int(value)
    for odd in ([], [b"X-Odd:y"], [b"Connection: X-Own"]):
        for _ in range(3 * plain.TEACHING):  # remembered or not
            head = get(b"A: 1", b"content-length: " + value, b"B: 2", *odd)
            assert head.length == int(value)
            sent = request_for_upstream(head, b"", b"", Underscores.SHADOW)
            assert b"\r\nA: 1\r\n" + plainly + b"\r\nB: 2\r\n" in sent
            assert sent.lower().count(b"content-length") == 1


#: Framing fields of a response that has no body: (lines, what of a length is kept, whether what
#: they say may be so, after HEAD or in a 304).
WITHOUT_BODY = [
    ([], None, True),
    ([b"Content-Length: 5"], b"5", True),
    ([b"Content-Length: 0"], b"0", True),
    ([b"Content-Length: 010"], b"10", True),
    ([b"Content-Length: 5", b"Content-Length: 5"], b"5", True),
    ([b"Transfer-Encoding: chunked"], None, True),
    ([b"Content-Length: 0", b"Transfer-Encoding: chunked"], None, False),
    ([b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Content-Length: 6"], None, False),
    ([b"Content-Length: 5", b"Content-Length: 6"], None, False),
    ([b"Content-Length: x"], None, False),
    ([b"Content-Length:"], None, False),
    ([b"Transfer-Encoding: gzip"], None, False),
    ([b"Transfer-Encoding: gzip, chunked"], None, False),
    ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], None, False),
    ([b"Transfer-Encoding:"], None, False),
]


@pytest.mark.parametrize(
    ("status", "method"),
    [(200, b"HEAD"), (404, b"HEAD"), (304, b"GET"), (204, b"GET"), (204, b"HEAD"), (103, b"GET")],
)
@pytest.mark.parametrize(("lines", "kept", "sound"), WITHOUT_BODY)
def test_a_response_without_a_body_is_never_refused_for_its_framing(
    status: int, method: bytes, lines: list[bytes], kept: bytes | None, sound: bool
) -> None:
    empty = status in (103, 204)
    for odd in ([], [b"X-Odd:y"]):
        head = answer(b"A: 1", *lines, *odd, start=b"HTTP/1.1 %d X" % status, method=method)
        assert (head.body, head.length) == (Body.NONE, 0)
        assert head.special_value(b"content-length") == kept
        doubted = not sound or (empty and lines not in ([], [b"Content-Length: 0"]))
        assert head.ending is (CloseReason.BAD_RESPONSE if doubted else None)
        sent = write_response(head, b"").removesuffix(b"\r\n")
        if kept is None or empty:
            assert b"content-length" not in sent.lower()
        else:
            assert sent.count(b"Content-Length: " + kept + b"\r\n") == 1
        assert b"transfer-encoding" not in sent.lower()


def test_a_coding_of_http10_is_doubted_after_head() -> None:
    lines = [b"Connection: keep-alive", b"Transfer-Encoding: chunked"]
    head = answer(*lines, start=b"HTTP/1.0 200 OK", method=b"HEAD")
    assert head.ending is CloseReason.BAD_RESPONSE


def test_connection_takes_a_bounded_number_of_options() -> None:
    most = b"Connection: " + b", ".join(b"x%d" % n for n in range(MAX_OPTIONS))
    assert len(get(most).options) == MAX_OPTIONS
    assert len(answer(most).options) == MAX_OPTIONS
    for head in (b"GET / HTTP/1.1\r\nHost: a", b"HTTP/1.1 200 OK"):
        raw = head + b"\r\n" + most + b"\r\nConnection: one-more"
        read = request(raw) if head.startswith(b"GET") else response(raw)
        assert isinstance(read, HopError)
        assert "options in Connection" in read.detail


def understood(head: Head, rest: bytes) -> tuple[bytes, bytes] | None:
    """(body, its bytes for the next hop) as found in what follows a head; None while unfinished."""
    if head.body is Body.NONE:
        return b"", b""
    if head.body is Body.SIZED:
        return (rest[: head.length], rest[: head.length]) if len(rest) >= head.length else None
    if head.body is Body.UNTIL_CLOSE:
        return rest, (chunk(rest) if rest else b"") + last_chunk([])
    reader = ChunkedReader()
    try:
        body, _ = reader.feed(rest)
    except ChunkedError:
        return None
    framed = (chunk(body) if body else b"") + last_chunk(reader.trailers)
    return (body, framed) if reader.done else None


def h11_bodies(connection: h11.Connection, data: bytes) -> tuple[bytes, bytes]:
    """(body, what is left behind it) of the next message in `data`, as h11 reads it."""
    connection.receive_data(data)
    body = b""
    while True:
        event = connection.next_event()
        assert event not in (h11.NEED_DATA, h11.PAUSED), "h11 still waits"
        if isinstance(event, h11.Data):
            body += event.data
        if isinstance(event, h11.EndOfMessage):
            return body, connection.trailing_data[0]


class Counter:
    """What httptools calls back: the bodies of the messages it has seen."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ended = 0

    def on_message_begin(self) -> None:
        """A start line begins."""
        self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        """The message has ended."""
        self.ended += 1


@given(damaged(REQUESTS), BODIES)
@search
def test_any_reader_of_our_request_finds_what_we_understood(raw: bytes, rest: bytes) -> None:
    head = request(raw)
    if not isinstance(head, RequestHead) or (found := understood(head, rest)) is None:
        return
    body, framed = found
    sent = request_for_upstream(head, b"", b"Via: 1.1 hopproxy\r\n", Underscores.SHADOW)
    assert not CONTROL.search(sent)
    sent += framed
    if head.upgrade is None:  # behind an upgrade, h11 waits for the verdict before it reads on
        read, left = h11_bodies(h11.Connection(h11.SERVER), sent + FOLLOWER)
        assert (read, left) == (body, FOLLOWER)
    else:
        assert h11_bodies(h11.Connection(h11.SERVER), sent)[0] == body == b""
    if head.upgrade is None and sent.startswith((b"GET ", b"POST ", b"PUT ", b"DELETE ")):
        seen = Counter()
        httptools.HttpRequestParser(seen).feed_data(sent + FOLLOWER)
        assert (seen.bodies, seen.ended) == ([body, b""], 2)


@given(damaged(RESPONSES), BODIES, st.sampled_from([b"GET", b"HEAD"]))
@search
def test_any_reader_of_our_response_finds_what_we_understood(
    raw: bytes, rest: bytes, method: bytes
) -> None:
    head = response(raw, method)
    if not isinstance(head, ResponseHead) or head.status < 200:
        return
    found = understood(head, rest)
    if found is None:
        return
    body, framed = found
    chunked = head.body in (Body.CHUNKED, Body.UNTIL_CLOSE)
    added = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    sent = write_response(head, added).removesuffix(b"\r\n")
    assert not CONTROL.search(sent)
    sent += b"\r\n" + framed
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    assert h11_bodies(client, sent + ANSWER_BEHIND) == (body, ANSWER_BEHIND)
    if method == b"GET":  # httptools cannot be told what the request was
        seen = Counter()
        httptools.HttpResponseParser(seen).feed_data(sent + ANSWER_BEHIND)
        assert (seen.bodies, seen.ended) == ([body, b""], 2)


def test_a_body_has_at_most_its_limit() -> None:
    check_size(5, 5)
    check_size(5, 0)
    with pytest.raises(BadRequest) as refused:
        check_size(6, 5)
    assert refused.value.status == 413

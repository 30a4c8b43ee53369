"""Framing fields: each message states its length in one way, on both hops and with both parsers."""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK, Message, Peer
from tests.wire_pair import Hops

#: Nothing, or a line that the fast parser leaves to h11.
PARSERS = pytest.mark.parametrize("odd", [b"", b"X-Odd:y\r\n"], ids=["plain", "h11"])


def request(*lines: bytes, start: bytes = b"POST / HTTP/1.1", host: bytes = b"a") -> bytes:
    return b"\r\n".join([start, b"Host: " + host, *lines, b"", b""])


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", odd: bytes = b"") -> bytes:
    return b"\r\n".join([start, *lines]) + b"\r\n" + odd + b"\r\n"


async def carried(hops: Hops, sent: bytes) -> tuple[Peer, Peer, Message]:
    """A request on its way: both links, and what the origin saw."""
    client = await hops.client()
    await client.send(sent)
    upstream = await hops.origins[0].accept()
    return client, upstream, await upstream.message()


async def next_link(hops: Hops, client: Peer, upstream: Peer, *, reused: bool) -> None:
    """One more exchange on the client's link: by the same upstream link, or by a new one."""
    await hops.quiet()
    if reused:
        assert (await hops.again(client, upstream)).status == 200
        return
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]
    assert (await hops.anew(client)).status == 200


@PARSERS
@pytest.mark.parametrize(
    ("value", "sent"), [(b"005", b"5"), (b"5", b"5"), (b"0000000000000005", b"5")]
)
async def test_a_request_has_its_length_plainly(
    hops: Hops, value: bytes, sent: bytes, odd: bytes
) -> None:
    await hops.start()
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + odd + b"Content-Length: " + value + b"\r\n\r\n"
    for body in (b"hello", b"again"):
        client, upstream, seen = await carried(hops, head + body)
        assert seen.values(b"content-length") == [sent]
        assert seen.body == body
        await upstream.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        upstream.close()
        assert (await client.message()).status == 200


@PARSERS
@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 05"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5, 5"],
    ],
)
async def test_a_response_has_its_length_once_and_plainly(
    hops: Hops, lines: list[bytes], odd: bytes
) -> None:
    await hops.start()
    client, upstream, _ = await carried(hops, GET)
    for _ in range(3):
        await upstream.send(response(*lines, odd=odd) + b"hello")
        answer = await client.message()
        assert answer.values(b"content-length") == [b"5"]
        assert answer.body == b"hello"
        await client.send(GET)
        await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


@pytest.mark.parametrize("host", [b"h", b"h:80", b"H"])
@pytest.mark.parametrize("authority", [b"h", b"h:80", b"H:80", b"h:"])
async def test_the_default_port_is_the_same_authority(
    hops: Hops, authority: bytes, host: bytes
) -> None:
    """Every field about the host agrees with Host."""
    await hops.start()
    start = b"GET http://" + authority + b"/x?y HTTP/1.1"
    client, upstream, seen = await carried(hops, request(start=start, host=host))
    assert seen.start == b"GET /x?y HTTP/1.1"
    assert seen.values(b"host") == [host]
    assert seen.values(b"x-forwarded-host") == [host]
    assert b"host=" + (b'"%b"' % host if b":" in host else host) in seen.values(b"forwarded")[0]
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert hops.records.kept[-1].host == host


@PARSERS
@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"gzip", 400),
        (b"chunked, gzip", 400),
        (b"identity", 400),
        (b"chunked\r\nTransfer-Encoding: gzip", 400),
        (b"gzip, chunked", 501),
    ],
)
async def test_a_request_whose_end_cannot_be_told_is_a_bad_request(
    hops: Hops, coding: bytes, status: int, odd: bytes
) -> None:
    await hops.start()
    client = await hops.client()
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + odd + b"Transfer-Encoding: " + coding
    await client.send(head + b"\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (status, [b"close"])
    client.finish()
    assert await client.rest() == b""
    assert hops.origins[0].peers == []


HEAD = GET.replace(b"GET", b"HEAD")


@PARSERS
@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (HEAD, b"HTTP/1.1 200 OK"),
        (GET, b"HTTP/1.1 304 Not Modified"),
        (GET, b"HTTP/1.1 204 No Content"),
    ],
    ids=["HEAD", "304", "204"],
)
@pytest.mark.parametrize(
    ("lines", "kept", "reused"),
    [
        ([b"content-length: 0", b"transfer-encoding: chunked"], [], False),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], [], False),
        ([b"Content-Length: 5", b"Content-Length: 5"], [b"5"], True),
        ([b"Content-Length: 5", b"Content-Length: 6"], [], False),
        ([b"Content-Length: 05"], [b"5"], True),
        ([b"Content-Length: what"], [], False),
        ([b"Transfer-Encoding: gzip"], [], False),
        ([b"Transfer-Encoding: chunked"], [], True),
    ],
)
async def test_a_response_without_a_body_is_passed_on_whatever_its_framing_says(
    hops: Hops,
    sent: bytes,
    start: bytes,
    lines: list[bytes],
    kept: list[bytes],
    reused: bool,
    odd: bytes,
) -> None:
    await hops.start()
    client, upstream, _ = await carried(hops, sent)
    await upstream.send(response(*lines, start=start, odd=odd))
    answer = await client.message(bodiless=True)
    empty = b" 204 " in start
    assert answer.start == start
    assert answer.values(b"content-length") == ([] if empty else kept)
    assert answer.values(b"transfer-encoding") == []
    assert answer.values(b"connection") == []
    # A 204 that announces a body is not trusted to send none.
    await next_link(hops, client, upstream, reused=reused and not empty)


@PARSERS
async def test_an_interim_response_is_passed_on_whatever_its_framing_says(
    hops: Hops, odd: bytes
) -> None:
    await hops.start()
    client, upstream, _ = await carried(hops, GET)
    lines = b"Link: </a>", b"Content-Length: 5", b"Transfer-Encoding: gzip"
    early = response(*lines, start=b"HTTP/1.1 103 Early Hints", odd=odd)
    await upstream.send(early + OK)
    interim = await client.message(bodiless=True)
    assert interim.start == b"HTTP/1.1 103 Early Hints"
    assert [name for name, _ in interim.fields if name != b"x-odd"] == [b"link"]
    assert (await client.message()).body == b"ok"
    await next_link(hops, client, upstream, reused=False)


@PARSERS
async def test_a_body_of_two_lengths_stays_refused(hops: Hops, odd: bytes) -> None:
    await hops.start()
    for lines in (
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 6"],
    ):
        client, upstream, _ = await carried(hops, GET)
        await upstream.send(response(*lines, odd=odd) + b"5\r\nhello\r\n0\r\n\r\n")
        assert (await client.message()).status == 502
        assert await upstream.rest() == b""


@PARSERS
@pytest.mark.parametrize("value", [b"", b",", b" , ,"])
async def test_an_empty_expectation_is_none(hops: Hops, value: bytes, odd: bytes) -> None:
    await hops.start(upstream={"continue_timeout": 5.0})
    head = b"PUT / HTTP/1.1\r\nHost: a\r\n" + odd + b"Expect:" + value
    began = trio.current_time()
    client, upstream, seen = await carried(hops, head + b"\r\nContent-Length: 5\r\n\r\nhello")
    assert trio.current_time() == began
    assert seen.values(b"expect") == []
    assert seen.body == b"hello"
    await upstream.send(OK)
    assert (await client.message()).status == 200


@PARSERS
async def test_an_expectation_in_a_list_is_one(hops: Hops, odd: bytes) -> None:
    await hops.start()
    client = await hops.client()
    head = b"PUT / HTTP/1.1\r\nHost: a\r\n" + odd + b"Expect: ,100-Continue,"
    await client.send(head + b"\r\nContent-Length: 5\r\n\r\n")
    upstream = await hops.origins[0].accept()
    seen = await upstream.until(b"\r\n\r\n")
    assert seen.count(b"\r\nExpect: 100-continue\r\n") == 1
    await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.message()).status == 100
    await client.send(b"hello")
    assert await upstream.exactly(5) == b"hello"
    await upstream.send(OK)
    assert (await client.message()).status == 200


@pytest.mark.parametrize("reused", [False, True], ids=["new link", "reused link"])
async def test_a_body_broken_where_it_begins_is_a_502(hops: Hops, reused: bool) -> None:
    await hops.start()
    client, upstream = await hops.asked(reused=reused)
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\nzz\r\n")
    assert (await client.message()).status == 502
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]
    assert (await hops.anew(client)).body == b"ok"


@pytest.mark.parametrize("reused", [False, True], ids=["new link", "reused link"])
@pytest.mark.parametrize("line", [b"Transfer-Encoding: chunked", b"Content-Length: 5"])
async def test_a_204_that_announces_content_does_not_keep_its_link(
    hops: Hops, reused: bool, line: bytes
) -> None:
    await hops.start()
    client, upstream = await hops.asked(reused=reused)
    await upstream.send(b"HTTP/1.1 204 No Content\r\n" + line + b"\r\n\r\n")
    answer = await client.message(bodiless=True)
    assert answer.status == 204
    assert not answer.values(b"transfer-encoding") + answer.values(b"content-length")
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]
    assert (await hops.anew(client)).body == b"ok"


async def test_an_old_client_is_sent_no_continue_and_its_expectation_goes_no_further(
    hops: Hops,
) -> None:
    await hops.start()
    request = b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    client = await hops.client()
    await client.send(request + b"hi")
    upstream = await hops.origins[0].accept()
    message = await upstream.message()
    assert (message.values(b"expect"), message.body) == ([], b"hi")
    await upstream.send(OK)
    assert (await client.message()).status == 200

"""Bodies in both directions: complete, cut, stalled, and back-pressure."""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, Peer
from tests.wire_pair import Hops

CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def request(method: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """A request with a sized body."""
    if body:
        lines = (*lines, b"Content-Length: %d" % len(body))
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *lines, b"", body])


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
    ids=["HEAD", "204", "304", "empty chunked"],
)
async def test_a_response_without_content_keeps_both_links(
    hops: Hops, method: bytes, response: bytes
) -> None:
    await hops.start()
    client, upstream = await hops.asked(request(method))
    await upstream.send(response)
    await client.until(b"\r\n\r\n")
    if b"chunked" in response:
        assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"
    await hops.quiet()
    assert client.pending() == b""
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_body_delimited_by_close_is_chunked_for_a_client_that_knows_chunks(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nbo")
    await hops.quiet()
    await upstream.send(b"dy")
    upstream.close()
    answer = await client.message()
    assert (answer.body, answer.values(b"transfer-encoding")) == (b"body", [b"chunked"])
    await client.send(GET)
    await (await hops.origins[0].accept()).message()


async def test_a_body_delimited_by_close_ends_the_link_of_an_old_client(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    )
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nbody")
    upstream.close()
    answer = await client.message()
    assert (answer.body, answer.values(b"connection")) == (b"body", [b"close"])


async def test_a_cut_chunked_body_gets_no_last_chunk(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.until(b"\r\n\r\n")
    upstream.close()
    assert await client.rest() == b"3\r\nabc\r\n"
    assert hops.closes(Hop.CLIENT) == [CloseReason.RESPONSE_CUT]


async def test_a_cut_body_whose_end_only_the_close_tells_is_reset(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.until(b"abc")
    upstream.close()
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_a_body_that_stalls_is_cut_at_the_limit(hops: Hops) -> None:
    await hops.start(upstream={"body_timeout": 20.0})
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(b"abc")
    began = trio.current_time()
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(20.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BODY_TIMEOUT]


async def test_a_head_that_does_not_come_is_answered_504(hops: Hops) -> None:
    await hops.start(upstream={"response_timeout": 20.0})
    client, upstream = await hops.asked()
    began = trio.current_time()
    await trio.sleep(15)
    await upstream.send(b"HTTP/1.1 200")
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(20.0)
    assert await upstream.rest() == b""


# -- back-pressure, clients that leave ---------------------------------------------------------


async def test_a_client_that_reads_nothing_stops_an_endless_origin(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert await _swallowed(upstream, b"8000\r\n" + bytes(32768) + b"\r\n") < 2_000_000


async def test_an_origin_that_reads_nothing_stops_an_endless_upload(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(CHUNKED_POST)
    await hops.origins[0].accept()
    assert await _swallowed(client, b"8000\r\n" + bytes(32768) + b"\r\n") < 2_000_000


async def _swallowed(peer: Peer, piece: bytes) -> int:
    """How many bytes can be sent before nothing moves for a second."""
    sent = 0
    while sent < 20_000_000:
        with trio.move_on_after(1):
            await peer.send(piece)
            sent += len(piece)
            continue
        break
    return sent


async def test_a_client_that_leaves_ends_the_wait_for_its_response(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    began = trio.current_time()
    client.close()
    assert await upstream.rest() == b""
    assert trio.current_time() == began
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


async def test_a_client_that_leaves_during_a_response_ends_it(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(b"abc")
    client.close()
    assert await upstream.rest() == b""

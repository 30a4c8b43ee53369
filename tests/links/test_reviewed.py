"""What a review found on the wire: writes that stall, what one batch brings, what may serve on."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

OLD = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"HTTP/1.1 200 OK\r\nCont"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def at_once(peer: Peer, data: bytes) -> None:
    """Send without a checkpoint: what else follows so comes in the same batch of events."""
    assert os.write(peer.sock.fileno(), data) == len(data)


async def asked_again(hops: Hops, *, reused: bool, request: bytes = GET) -> tuple[Peer, Peer]:
    """A request under way on the express lane (`reused`), or carried by its link's task."""
    if not reused:
        return await hops.asked(request)
    client, upstream = await hops.pair()
    await client.send(request)
    await upstream.message()
    return client, upstream


# -- clients that take nothing -----------------------------------------------------------------


async def test_a_byte_from_a_client_that_reads_nothing_is_no_progress(hops: Hops) -> None:
    await hops.start(client={"write_timeout": 11.0})
    client, upstream = await hops.asked()
    body = bytes(4_000_000)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + body)
            assert trio.current_time() - began == pytest.approx(11.0)

        for _ in range(5):
            await trio.sleep(3)
            await client.send(b"G")
        await trio.sleep(5)  # it lingers, since the client had more to say
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]


async def test_a_client_that_reads_slowly_makes_progress(hops: Hops) -> None:
    await hops.start(client={"write_timeout": 11.0})
    client, upstream = await hops.asked()
    async with trio.open_nursery() as nursery:
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000)
        nursery.start_soon(upstream.send, whole)
        await client.until(b"\r\n\r\n")
        for _ in range(5):  # each time more than the kernel holds: what makes room is seen to
            await trio.sleep(9)
            await client.exactly(400_000)
    assert hops.closes(Hop.CLIENT) == []


@pytest.mark.parametrize("reused", [False, True], ids=["its task", "express lane"])
async def test_a_whole_body_that_an_old_client_does_not_take_ends_with_a_reset(
    tcp_hops: Hops, reused: bool
) -> None:
    hops = tcp_hops
    await hops.start(client={"write_timeout": 11.0})
    client = await hops.client(receive_buffer=2048)
    await client.send(GET if reused else OLD)
    upstream = await hops.origins[0].accept()
    await upstream.message()
    if reused:
        await upstream.send(OK)
        await client.message()
        await client.send(OLD)
        await upstream.message()
    (link,) = hops.runtime.clients.links
    with socket.socket(fileno=os.dup(link.transport.fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    at_once(upstream, CHUNKED + b"c350\r\n" + bytes(50_000) + b"\r\n0\r\n\r\n")
    await trio.sleep(30)
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]
    with pytest.raises(ConnectionResetError):
        await client.rest()


# -- one batch of events -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reused", "first"),
    [
        pytest.param(False, HINTS, id="interim, its task"),
        pytest.param(True, HINTS, id="interim, express lane"),
        pytest.param(
            False,
            PIECE,
            id="piece, its task",
        ),
        pytest.param(True, PIECE, id="piece, express lane"),
    ],
)
async def test_a_client_that_leaves_while_its_answer_begins_is_not_waited_for(
    hops: Hops, reused: bool, first: bytes
) -> None:
    await hops.start(upstream={"response_timeout": 60.0})
    client, upstream = await asked_again(hops, reused=reused)
    await hops.quiet()
    began = trio.current_time()
    at_once(upstream, first)
    client.close()
    await upstream.gone()
    assert trio.current_time() == began
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


@pytest.mark.parametrize("reused", [False, True], ids=["its task", "express lane"])
async def test_a_client_that_leaves_while_a_body_comes_is_not_waited_for(
    hops: Hops, reused: bool
) -> None:
    await hops.start(upstream={"body_timeout": 60.0})
    client, upstream = await asked_again(hops, reused=reused)
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    await client.until(b"ab")
    began = trio.current_time()
    at_once(upstream, b"c")
    client.close()
    await upstream.gone()
    assert trio.current_time() == began


async def test_unasked_bytes_that_came_with_a_request_are_not_its_answer(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    at_once(client, GET)
    at_once(upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"
    with pytest.raises(ConnectionResetError):  # with its bytes unread, and nothing asked on it
        await upstream.sock.recv(1)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]


@pytest.mark.parametrize("at", [1, 10, len(GET) - 1])
async def test_urgent_data_does_not_hold_up_a_whole_head(tcp_hops: Hops, at: int) -> None:
    origin = await tcp_hops.start(client={"head_timeout": 10.0})
    client = await tcp_hops.client()
    await tcp_hops.quiet()
    with socket.socket(fileno=os.dup(client.sock.fileno())) as raw:
        raw.send(GET[:at], socket.MSG_OOB)
        raw.send(GET[at:])
    start = b""
    with trio.move_on_after(5):
        start = (await (await origin.accept()).message()).start
    await tcp_hops.leave()
    assert start == b"GET / HTTP/1.1"


# -- links that must not, or may, serve again --------------------------------------------------


async def test_a_link_that_never_served_and_dies_under_a_get_is_repeated(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    async with origin.full():
        leaver = await hops.client()
        await leaver.send(GET)
        await hops.quiet()
        leaver.close()
        await hops.quiet()
    upstream = await origin.accept()
    await trio.sleep(1)
    client = await hops.client()
    await client.send(GET)
    await upstream.message()
    upstream.close()
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"


@pytest.mark.parametrize("reused", [False, True], ids=["its task", "express lane"])
async def test_a_body_broken_where_it_begins_is_a_502(hops: Hops, reused: bool) -> None:
    await hops.start()
    client, upstream = await asked_again(hops, reused=reused)
    await upstream.send(CHUNKED + b"4\r\nfour\r\nzz\r\n")
    assert (await client.message()).status == 502
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]
    assert (await hops.anew(client)).body == b"ok"


@pytest.mark.parametrize("reused", [False, True], ids=["its task", "express lane"])
@pytest.mark.parametrize("line", [b"Transfer-Encoding: chunked", b"Content-Length: 5"])
async def test_a_204_that_announces_content_does_not_keep_its_link(
    hops: Hops, reused: bool, line: bytes
) -> None:
    await hops.start()
    client, upstream = await asked_again(hops, reused=reused)
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

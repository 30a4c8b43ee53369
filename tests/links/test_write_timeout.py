"""A client that takes nothing is cut off in time; one that reads slowly is not."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

OLD = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


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


@pytest.mark.parametrize("reused", [False, True], ids=["new link", "reused link"])
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
    upstream.send_at_once(CHUNKED + b"c350\r\n" + bytes(50_000) + b"\r\n0\r\n\r\n")
    await trio.sleep(30)
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]
    with pytest.raises(ConnectionResetError):
        await client.rest()

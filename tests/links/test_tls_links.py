"""Client links over TLS: long bodies, tunnels, and how each side ends the connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hopproxy.link.client import ClientLink
from hopproxy.link.tls import Tls
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import Listener
from tests.authority import TlsPeer, client_context, listener_tls
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

MANY = 1 << 20


async def start(hops: Hops, directory: Path, **settings: object) -> Origin:
    """Start the worker with a TLS listener."""
    return await hops.start(listeners=(Listener(tls=listener_tls(directory)),), **settings)  # type: ignore[arg-type]


async def connect(hops: Hops) -> TlsPeer:
    """A client after its handshake."""
    client = TlsPeer(await hops.client(), client_context())
    await client.shake()
    return client


async def asked(hops: Hops, request: bytes = GET) -> tuple[TlsPeer, Peer]:
    """A client whose request has reached the origin."""
    client = await connect(hops)
    await client.send(request)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    return client, upstream


async def test_a_quiet_link_serves_again_and_ends_with_close_notify(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory, client={"idle_timeout": 9.0})
    client, upstream = await asked(hops)
    await upstream.send(OK)
    await client.message()
    await trio.sleep(3)
    [link] = hops.runtime.clients.links
    assert isinstance(link, ClientLink)
    end = link.transport.endpoint
    assert isinstance(end, Tls)
    assert end.tls is None  # freed after the handshake
    assert await hops.again(client, upstream)
    assert await client.rest() == b""  # up to close_notify
    assert hops.closes(Hop.CLIENT) == [CloseReason.IDLE_TIMEOUT]


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the system has no TCP_INFO")
async def test_the_end_of_a_handshake_is_acknowledged_at_once(hops: Hops, directory: Path) -> None:
    """Until then, Nagle's algorithm keeps back the first request."""
    hops.tcp = True
    await start(hops, directory)
    for _ in range(3):
        client = await connect(hops)
        await wait_all_tasks_blocked(0.005)  # far less than the kernel's delay of 40 ms
        assert client.unacknowledged() == 0


async def test_a_long_response_is_whole_however_slowly_it_is_read(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    body = os.urandom(MANY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            upstream.send, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MANY + body
        )
        await hops.quiet()  # it is stuck: the client reads nothing yet
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await client.exactly(MANY) == body
    await client.send(GET)
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_long_request_is_whole(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    body = os.urandom(MANY)
    client, upstream = await asked(
        hops, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MANY
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, body)
        assert await upstream.exactly(MANY) == body
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_client_that_reads_nothing_is_given_up_in_time(hops: Hops, directory: Path) -> None:
    await start(hops, directory, client={"write_timeout": 9.0})
    client, upstream = await asked(hops)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await upstream.send(bytes(9000000))

    assert trio.current_time() - began == 9.0
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]
    with pytest.raises((EOFError, ConnectionResetError)):
        await client.rest()


async def test_several_requests_in_one_record_are_answered_in_turn(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops, GET * 3)
    for number in range(3):
        if number:
            await upstream.until(b"\r\n\r\n")
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert (await client.message()).body == b"%d" % number


async def test_a_whole_response_ends_with_close_notify(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "begun",
    [b"Content-Length: 99\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
)
async def test_a_cut_response_does_not(hops: Hops, directory: Path, begun: bytes) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    await upstream.send(b"HTTP/1.1 200 OK\r\n" + begun)
    await client.until(b"\r\n\r\n")
    upstream.close()
    with pytest.raises((EOFError, ConnectionResetError)):
        await client.rest()
    assert hops.closes(Hop.CLIENT) == [CloseReason.RESPONSE_CUT]


async def test_close_notify_alone_ends_an_idle_link(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    await upstream.send(OK)
    await client.message()
    await hops.quiet()
    await client.say_goodbye()
    assert await client.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    assert hops.runtime.closes.last[-1].notified


async def test_close_notify_alone_during_a_request_ends_the_link_after_it(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    await client.say_goodbye()
    await hops.quiet()
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert await client.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]


async def test_a_fin_during_a_request_aborts_it(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    client.close()
    await upstream.gone()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]


async def test_a_websocket_runs_over_tls_and_ends_one_way_after_the_other(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client, upstream = await asked(
        hops,
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    await upstream.send(switching + b"\r\nfirst")
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(5) == b"first"
    for _ in range(3):
        await client.send(b"there")
        assert await upstream.exactly(5) == b"there"
        await upstream.send(b"back")
        assert await client.exactly(4) == b"back"
    await client.send(b"last")
    await client.say_goodbye()
    assert await upstream.rest() == b"last"
    await upstream.send(b"still heard")
    assert await client.exactly(11) == b"still heard"
    upstream.close()
    assert await client.rest() == b""
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.TUNNEL_ENDED]


async def test_an_idle_link_over_tls_makes_room(hops: Hops, directory: Path) -> None:
    await start(hops, directory, client={"max_connections": 1})
    first, upstream = await asked(hops)
    await upstream.send(OK)
    await first.message()
    await hops.quiet()
    await connect(hops)
    assert await first.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.MADE_ROOM]


async def test_garbage_on_an_open_link_ends_it(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client, upstream = await asked(hops)
    await upstream.send(OK)
    await client.message()
    await hops.clients[0].send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises((EOFError, OSError)):
        await client.rest()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_RESET]

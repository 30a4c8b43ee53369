"""PROXY headers towards origins: a connection belongs to the client that its header names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from hopproxy.observe.snapshot import unready
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.schema import Admin
from hopproxy.settings.units import Bind
from hopproxy.settings.upstream import Check, Health
from hopproxy.wire.proxy_protocol import Header, read_header
from tests.h2_peer import H2Peer
from tests.raw_peers import GET, OK, Peer
from tests.tls_peers import NAME, TlsHops, TlsPeer, ca_file
from tests.wire_pair import Hops, nothing_left


async def header_on(upstream: Peer) -> Header:
    """The header that this connection begins with, taken off what has arrived."""
    while (found := read_header(upstream.unread)) is None:
        await upstream.more()
    upstream.unread = upstream.unread[found.size :]
    return found


def port_of(client: Peer) -> int:
    name: Any = client.sock.getsockname()
    return int(name[1])


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_header_names_the_client_and_comes_once(tcp_hops: Hops, version: str) -> None:
    hops = tcp_hops
    origin = await hops.start(upstream={"proxy_protocol": version})
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    found = await header_on(upstream)
    assert (found.address, found.port) == ("127.0.0.1", port_of(client))
    assert (await upstream.message()).start == b"GET / HTTP/1.1"
    await upstream.send(OK)
    assert (await client.message()).status == 200
    for _ in range(2):
        assert (await hops.again(client, upstream)).status == 200


async def test_version_1_says_where_the_client_has_connected(tcp_hops: Hops) -> None:
    origin = await tcp_hops.start(upstream={"proxy_protocol": "v1"})
    client = await tcp_hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    line = await upstream.until(b"\r\n")
    gateway: Any = tcp_hops.target
    assert line == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port_of(client), gateway[1])


async def test_an_http2_client_is_reported_with_where_it_has_connected(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = await hops.start(upstream={"proxy_protocol": "v1"})
    peer = await hops.client()
    client = H2Peer(peer)
    await client.start()
    gateway: Any = hops.target
    expected = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port_of(peer), gateway[1])
    first, second = await client.request(), await client.request()
    for stream in (first, second):
        upstream = await origin.accept()
        assert await upstream.until(b"\r\n") == expected
        await upstream.message()
        await upstream.send(OK)
        assert (await client.answer(stream)).status == 200
    third = await client.request()  # on the link that was used last
    await upstream.message()
    await upstream.send(OK)
    assert (await client.answer(third)).status == 200


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_check_names_no_client(tcp_hops: Hops, version: str) -> None:
    hops = tcp_hops
    health = Health(check=Check(path="/healthz"))
    origin = await hops.start(upstream={"proxy_protocol": version, "health": health})
    checking = await origin.accept()
    assert (await header_on(checking)).address == ""
    assert (await checking.message()).start == b"GET /healthz HTTP/1.1"
    await checking.send(OK)
    assert await checking.rest() == b""
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    assert (await header_on(upstream)).port == port_of(client)
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_clients_share_no_connection(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = await hops.start(upstream={"proxy_protocol": "v1"})
    links = []
    clients = [await hops.client() for _ in range(3)]
    for client in clients:
        await client.send(GET)
        upstream = await origin.accept()
        assert (await header_on(upstream)).port == port_of(client)
        await upstream.message()
        await upstream.send(OK)
        await client.message()
        links.append(upstream)
    for client, upstream in zip(clients, links, strict=True):
        assert (await hops.again(client, upstream)).status == 200
    clients[0].close()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PRIVATE]
    assert await links[0].rest() == b""


async def test_a_retry_has_a_header_too(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = await hops.start(upstream={"proxy_protocol": "v2"})
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    await header_on(upstream)
    await upstream.message()
    await upstream.send(OK)
    await client.message()
    await client.send(GET)
    await upstream.message()
    upstream.reset()
    again = await origin.accept()
    assert (await header_on(again)).port == port_of(client)
    await again.message()
    await again.send(OK)
    assert (await client.message()).status == 200


async def test_nothing_waits_where_all_connections_are_in_use(tcp_hops: Hops) -> None:
    hops = tcp_hops
    await hops.start(upstream={"proxy_protocol": "v1"}, pool={"max_connections": 1})
    busy, other = await hops.client(), await hops.client()
    await busy.send(GET)
    upstream = await hops.origins[0].accept()
    await header_on(upstream)
    await upstream.message()
    await other.send(GET)
    answer = await other.message()
    assert answer.status == 503
    assert b"error=connection_limit_reached" in answer.values(b"proxy-status")[0]
    await upstream.send(OK)
    await busy.message()
    await other.send(GET)  # the idle one of the first client gives up its place
    fresh = await hops.origins[0].accept()
    assert (await header_on(fresh)).port == port_of(other)
    await fresh.message()
    await fresh.send(OK)
    assert (await other.message()).status == 200


async def test_a_client_that_leaves_meanwhile_takes_its_connection_along(tcp_hops: Hops) -> None:
    hops = tcp_hops
    hops.add_origin(backlog=0)
    await hops.start(upstream={"proxy_protocol": "v1"})
    client = await hops.client()
    await client.send(GET)
    client.close()
    await hops.quiet()
    other = await hops.client()
    await other.send(GET)
    while True:
        upstream = await hops.origins[0].accept()
        if (await header_on(upstream)).port == port_of(other):
            break
    await upstream.message()
    await upstream.send(OK)
    assert (await other.message()).status == 200


async def test_an_origin_that_refuses_is_reported_as_without_a_header(tcp_hops: Hops) -> None:
    origin = await tcp_hops.start(upstream={"proxy_protocol": "v1"})
    origin.close()
    client = await tcp_hops.client()
    await client.send(GET)
    assert (await client.message()).status == 502


async def test_a_client_on_a_unix_socket_is_unknown(hops: Hops) -> None:
    origin = await hops.start(upstream={"proxy_protocol": "v1"})
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    assert await upstream.until(b"\r\n") == b"PROXY UNKNOWN\r\n"
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_the_header_comes_before_tls(directory: Path) -> None:
    clock: Any = trio.lowlevel.current_clock()
    clock.autojump_threshold = 0.03
    with nothing_left():
        async with trio.open_nursery() as nursery:
            hops = TlsHops(nursery, directory)
            hops.tcp = True
            origin = await hops.start(upstream={"proxy_protocol": "v1", **_tls(directory)})
            client = await hops.client()
            await client.send(GET)
            upstream = await origin.accept_raw()
            line = b""
            while not line.endswith(b"\r\n"):
                line += await upstream.sock.recv(1)
            assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d " % port_of(client))
            assert isinstance(upstream, TlsPeer)
            await upstream.shake()
            await upstream.message()
            await upstream.send(OK)
            assert (await client.message()).status == 200
            assert (await hops.again(client, upstream)).status == 200
            await hops.end()


async def test_a_trial_without_a_request_has_a_header_too(directory: Path) -> None:
    """Otherwise the origin refuses its handshake, and is never ready."""
    clock: Any = trio.lowlevel.current_clock()
    clock.autojump_threshold = 0.03
    with nothing_left():
        async with trio.open_nursery() as nursery:
            hops = TlsHops(nursery, directory)
            hops.tcp = True
            admin = Admin(bind=Bind("tcp", host="127.0.0.1", port=0))
            origin = await hops.start(
                admin=admin, upstream={"proxy_protocol": "v1", **_tls(directory)}
            )
            trial = await origin.accept_raw()
            assert await trial.sock.recv(15) == b"PROXY UNKNOWN\r\n"
            await trial.shake()
            await hops.quiet()
            assert unready(hops.runtime) == ""
            await hops.end()


def _tls(directory: Path) -> dict[str, Any]:
    return {"tls": OriginTls(ca=ca_file(directory), server_name=NAME)}

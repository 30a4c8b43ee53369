"""Requests that arrive as a link is closed; cut requests in the log; clients that leave."""

from __future__ import annotations

import gc
import socket

import pytest
import trio

from hopproxy.link.client import ClientLink
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.connection import Connection
from tests import drivers
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops, tasks

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def connected_at_once(hops: Hops) -> Peer:
    """Connect without a checkpoint."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(hops.target)
    hops.clients.append(Peer(trio.socket.from_stdlib_socket(sock)))
    return hops.clients[-1]


async def answer_all(origin: Origin, nursery: trio.Nursery) -> None:
    """Answer every request of every new connection of this origin."""
    while True:
        nursery.start_soon(answer_on, await origin.accept())


async def answer_on(upstream: Peer) -> None:
    try:
        while True:
            await upstream.message()
            await upstream.send(OK)
    except (EOFError, OSError):
        return


async def test_a_link_whose_request_has_come_is_not_idle_and_makes_no_room(hops: Hops) -> None:
    await hops.start(client={"max_connections": 2, "head_timeout": 60.0})
    first, upstream = await hops.pair()
    second = await hops.client()
    await hops.quiet()
    third = connected_at_once(hops)  # and in the same batch of events the longest idle one asks
    first.send_at_once(GET)
    await upstream.message()
    await upstream.send(OK)
    assert (await first.message()).body == b"ok"
    assert await second.rest() == b""
    assert (await hops.again(third, upstream)).status == 200


async def test_who_comes_with_a_request_makes_no_room_for_who_comes_behind(hops: Hops) -> None:
    origin = await hops.start(client={"max_connections": 2, "head_timeout": 60.0})
    busy, upstream = await hops.asked()
    clients = [connected_at_once(hops) for _ in range(4)]
    for client in clients:
        client.send_at_once(GET)
    statuses = []

    async def read(client: Peer) -> None:
        statuses.append((await client.message()).status)
        client.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, origin, nursery)
        async with trio.open_nursery() as readers:
            for client in clients:
                readers.start_soon(read, client)
        nursery.cancel_scope.cancel()
    assert statuses == [200] * 4
    await upstream.send(OK)
    assert (await busy.message()).status == 200


@pytest.mark.parametrize("reused", [False, True], ids=["first", "reused"])
@pytest.mark.parametrize("cut", ["drain_timeout", "cancelled"])
async def test_an_exchange_that_is_cut_is_on_record(hops: Hops, reused: bool, cut: str) -> None:
    await hops.start(drain_timeout=30.0)
    if reused:
        client, upstream = await hops.pair()
        await client.send(GET)
        await upstream.message()
    else:
        await hops.asked()
    await hops.quiet()
    hops.records.kept.clear()
    if cut == "cancelled":
        hops.cancel()
    else:
        hops.worker.stop()
    await hops.ended.wait()
    assert [record.cause for record in hops.records.kept] == ["stopped"]


async def test_a_request_that_comes_as_the_drain_begins_is_answered(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    client.send_at_once(GET)  # after the last look at the sockets
    [link] = hops.runtime.clients.links
    hops.runtime.drain()
    assert isinstance(link.driver, Connection)
    link.driver.end_idle()
    await upstream.message()
    await upstream.send(OK)
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (200, [b"close"])


async def test_a_client_that_leaves_takes_no_task(hops: Hops) -> None:
    await hops.start()
    await hops.quiet()
    before = tasks()
    client = await hops.client()
    await hops.quiet()
    assert drivers.DRIVER != "events" or tasks() == before
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    assert tasks() == before


async def test_a_body_read_whole_keeps_its_link_where_no_upstream_link_came_free(
    hops: Hops,
) -> None:
    await hops.start(pool={"max_connections": 1, "queue": 1, "queue_timeout": 1.0})
    await hops.asked()
    client = await hops.client()
    await client.send(POST)
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (503, [])


async def test_an_upstream_link_does_not_hold_the_client_that_it_served_last(hops: Hops) -> None:
    gc.collect()
    before = [one for one in gc.get_objects() if type(one) is ClientLink]  # of other tests
    await hops.start()
    _, upstream = await hops.pair()
    other = await hops.client()
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert (await hops.again(other, upstream, closing)).status == 200
    assert await other.rest() == b""
    after = [one for one in gc.get_objects() if type(one) is ClientLink]
    assert len([one for one in after if one not in before]) == 1

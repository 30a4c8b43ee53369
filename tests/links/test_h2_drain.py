"""A slow drain: HTTP/2 clients get GOAWAY one after the other, as HTTP/1.1 links are closed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.h2_peer import ACK, PING, H2Peer, frame
from tests.raw_peers import OK, Peer
from tests.wire_pair import Hops

COUNT = 40


async def client_of(hops: Hops) -> tuple[H2Peer, int]:
    """A client, and the stream of its request."""
    h2 = H2Peer(await hops.client())
    await h2.start()
    return h2, await h2.request()


async def busy_clients(hops: Hops) -> tuple[list[H2Peer], list[Peer]]:
    """So many clients with a request under way, and the links that carry those."""
    clients = [(await client_of(hops))[0] for _ in range(COUNT)]
    return clients, [await hops.origins[0].accept() for _ in clients]


async def idle_clients(hops: Hops) -> list[H2Peer]:
    """So many clients, each with a request that was answered."""
    clients: list[H2Peer] = []
    for _ in range(COUNT):
        h2, stream = await client_of(hops)
        upstream = hops.origins[0].peers[0] if clients else await hops.origins[0].accept()
        await upstream.message()
        await upstream.send(OK)
        assert (await h2.answer(stream)).status == 200
        await hops.quiet()
        clients.append(h2)
    return clients


async def told(h2: H2Peer, began: float, times: list[float]) -> None:
    """Note when this client gets GOAWAY, answer the PING, and read to the end."""
    while not h2.goaways:
        await h2.read()
    times.append(trio.current_time() - began)
    while not (pings := [f for f in h2.frames if f.kind == PING]):
        await h2.read()
    await h2.send(frame(PING, ACK, 0, pings[0].payload))
    await h2.until_end()
    h2.peer.close()


@pytest.mark.parametrize("idle", [True, False])
async def test_clients_are_told_one_after_the_other(hops: Hops, idle: bool) -> None:
    await hops.start()
    clients, upstreams = (await idle_clients(hops), []) if idle else await busy_clients(hops)
    times: list[float] = []
    async with trio.open_nursery() as nursery:
        for h2 in clients:
            nursery.start_soon(told, h2, trio.current_time(), times)
        await hops.quiet()
        hops.worker.stop()
        await trio.sleep(3)
        for upstream in upstreams:
            await upstream.send(OK)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert 1.9 <= times[-1] <= 2.05
    assert max(gaps) < 0.11
    await hops.ended.wait()
    assert hops.closes(Hop.CLIENT) == [CloseReason.DRAINING] * COUNT
    assert hops.worker.report is not None
    assert hops.worker.report[:4] == (COUNT, 0, 0, 0)


async def test_all_clients_get_goaway_at_once_if_there_is_no_time(hops: Hops) -> None:
    await hops.start(drain_timeout=8.0)
    clients, _ = await busy_clients(hops)
    hops.worker.stop()
    began = trio.current_time()
    for h2 in clients:
        while not h2.goaways:
            await h2.read()
    assert trio.current_time() == began


async def test_a_client_that_asks_meanwhile_is_served_and_told(hops: Hops) -> None:
    await hops.start()
    *_, last = await idle_clients(hops)
    hops.worker.stop()
    await hops.quiet()
    assert not last.goaways
    stream = await last.request()
    await hops.origins[0].accept_and_answer()
    assert (await last.answer(stream)).status == 200
    assert last.goaways

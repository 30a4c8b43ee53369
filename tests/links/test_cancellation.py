"""Cancellation at every point: the pool stays consistent, and others are served."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
import trio

from hopproxy.errors import HopError
from hopproxy.link.stepper import in_task
from hopproxy.link.upstream import UpstreamLink
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.settings.client import Listener
from tests.cancel_everywhere import Scenario, Victim, everywhere
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

SEEDS = [1, 2]
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
#: What a peer meets when the other side was cancelled.
GONE = (EOFError, OSError)
#: Makes the origin answer, from now on, whatever it is asked.
Answering = Callable[[], None]


async def answer(origin: Origin, nursery: trio.Nursery) -> None:
    """Answer every request of every connection of this origin, for ever."""
    while True:
        nursery.start_soon(answer_on, await origin.accept())


async def answer_on(upstream: Peer) -> None:
    """Answer every request on this connection, until it ends."""
    with suppress(*GONE):
        while True:
            await upstream.message()
            await upstream.send(OK)


async def served(hops: Hops, victim: Victim, nursery: trio.Nursery) -> Peer:
    """A client whose connection is served in the victim's scope."""
    near, far = socket.socketpair()

    async def serve() -> None:
        with victim.scope:
            async with trio.open_nursery() as connections:
                gateway = Gateway(hops.runtime, connections)
                gateway.admit(near, Entrance(hops.runtime.settings, Listener()))
                gateway.move_to_tasks()
                try:
                    await trio.sleep_forever()
                finally:
                    gateway.stop()

    nursery.start_soon(serve)
    client = Peer(trio.socket.from_stdlib_socket(far))
    hops.clients.append(client)
    return client


async def check_after(hops: Hops) -> None:
    """Nothing is held by the victim, and another client is served as ever."""
    await hops.quiet()
    hops.check_ledger()
    for share in hops.runtime.pool.ledger.shares:
        assert (share.in_use, share.dialling, len(share.waiters)) == (0, 0, 0)
    client = await hops.client()
    await client.send(GET)
    with trio.fail_after(1):
        assert (await client.message()).body == b"ok"


async def three_callers_of_one_link(hops: Hops, victim: Victim) -> None:
    origin = await hops.start(pool={"max_connections": 1, "queue_timeout": 50.0})
    pool = hops.runtime.pool
    [share] = hops.runtime.upstreams["app"].balancer.members
    done = []

    async def call(number: int) -> None:
        link = pool.acquire_now(share)
        if link is None:
            link = await in_task(pool.acquire(share))
        assert isinstance(link, UpstreamLink)
        try:
            await trio.sleep(1)
            link.ending = None
        finally:
            pool.release(share, link, trio.current_time())
        done.append(number)

    async def cancelled_call() -> None:
        with victim.scope:
            await call(1)

    async with trio.open_nursery() as answering:
        answering.start_soon(answer, origin, answering)
        victim.arm()
        with trio.fail_after(20):
            async with trio.open_nursery() as callers:
                callers.start_soon(call, 0)
                callers.start_soon(cancelled_call)
                callers.start_soon(call, 2)
        assert {0, 2} <= set(done)
        await check_after(hops)
        answering.cancel_scope.cancel()


@asynccontextmanager
async def one_link_to(hops: Hops, victim: Victim) -> AsyncIterator[tuple[Origin, Peer, Answering]]:
    """An origin, the victim's client, and what makes the origin answer; after it, the proof."""
    origin = await hops.start(pool={"max_connections": 1})
    async with trio.open_nursery() as nursery:
        client = await served(hops, victim, nursery)
        yield origin, client, lambda: nursery.start_soon(answer, origin, nursery)
        await check_after(hops)
        nursery.cancel_scope.cancel()


@contextmanager
def struck(victim: Victim, client: Peer) -> Iterator[None]:
    """Within, the victim is cancelled at one step or another; its client leaves at the end."""
    victim.arm()
    with suppress(*GONE):
        yield
    victim.disarm()
    client.close()


async def get_twice(hops: Hops, victim: Victim) -> None:
    async with one_link_to(hops, victim) as (_, client, let_answer):
        let_answer()
        with struck(victim, client):
            for _ in range(2):
                await client.send(GET)
                await client.message()


async def post_with_its_body_on_its_way(hops: Hops, victim: Victim) -> None:
    async with one_link_to(hops, victim) as (_, client, let_answer):
        let_answer()
        with struck(victim, client):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"3\r\nabc\r\n", b"3\r\nde", b"f\r\n0\r\n\r\n"):
                await trio.sleep(1)
                await client.send(piece)
            assert (await client.message()).body == b"ok"


#: A body that is still on its way is sent by a coroutine of its own.
POST_BEGUN = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh"


async def repetition(hops: Hops, victim: Victim) -> None:
    async with one_link_to(hops, victim) as (origin, client, let_answer):
        await client.send(GET)
        upstream = await origin.accept_and_answer()
        await client.message()
        await hops.quiet()
        let_answer()
        with struck(victim, client):
            await client.send(GET)
            await upstream.message()
            upstream.close()
            assert (await client.message()).body == b"ok"
            await client.send(POST_BEGUN)
            await client.send(b"i")
            assert (await client.message()).body == b"ok"


async def tunnel(hops: Hops, victim: Victim) -> None:
    async with one_link_to(hops, victim) as (origin, client, let_answer):
        with struck(victim, client):
            await client.send(UPGRADE)
            with trio.move_on_after(1):  # the victim may have gone before it dialled
                upstream = await origin.accept()
                await upstream.message()
                await upstream.send(SWITCH)
                await client.message()
                await client.send(b"ping")
                assert await upstream.exactly(4) == b"ping"
                upstream.finish()
                assert await client.rest() == b""
        for peer in origin.peers:  # one that was dialled for the victim is idle, and nobody answers
            peer.close()
        await hops.quiet()
        let_answer()


async def drain(hops: Hops, victim: Victim) -> None:
    """The worker itself is cancelled, as when the process ends."""
    hops.scope = victim.scope
    await hops.start()
    client, upstream = await hops.asked()
    await hops.client()
    victim.arm()
    hops.worker.stop()
    with suppress(*GONE):
        await trio.sleep(1)
        await upstream.send(OK)
        await client.message()
    with suppress(HopError):
        await hops.ended.wait()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "scenario",
    [
        three_callers_of_one_link,
        get_twice,
        post_with_its_body_on_its_way,
        repetition,
        tunnel,
        drain,
    ],
)
def test_a_party_cancelled_at_any_step_leaves_nothing_and_affects_no_others(
    scenario: Scenario, seed: int
) -> None:
    assert everywhere(scenario, seed) > 10, "too few steps: the victim did nothing"

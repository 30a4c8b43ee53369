"""Origins of HTTP/2 that have gone silent: their links get no more requests."""

from __future__ import annotations

import h2.events
import pytest
import trio

from hopproxy.pool.pulse import AGAIN
from hopproxy.reasons import CloseReason, Hop
from tests.h2_origin import H2Peer
from tests.links.test_h2_upstream import accept, ask, opened
from tests.links.test_one_of_two import Serving, Stage, member
from tests.raw_peers import GET, Peer
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def pings(origin: H2Peer) -> int:
    return sum(isinstance(event, h2.events.PingReceived) for event in origin.events)


# -- one origin ------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_link_that_went_silent_gets_no_more_requests(hops: Hops, request_: bytes) -> None:
    await opened(hops)
    waits = await ask(hops)
    await trio.sleep(1)
    assert not hops.origins[0].waiting()
    await trio.sleep(1.5)
    clients = [await ask(hops, request_) for _ in range(3)]
    fresh = await accept(hops)
    await fresh.serve(3)
    for client in clients:
        assert (await client.message()).status == 200
    assert hops.closes(Hop.UPSTREAM) == []
    assert (await waits.message()).status == 504
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PING_TIMEOUT]
    assert len(hops.runtime.pool.links) == 1


async def test_a_slow_response_is_waited_for_on_a_link_that_answers(hops: Hops) -> None:
    _client, origin = await opened(hops)
    slow = await ask(hops)
    request = await origin.whole()
    await origin.stay(20)
    quick = await ask(hops)
    await origin.stay(1)
    await origin.respond(origin.arrived.pop(0).number)
    assert (await quick.message()).status == 200
    await origin.respond(request.number)
    assert (await slow.message()).status == 200
    assert len(hops.runtime.pool.links) == 1


async def test_servers_that_count_pings_see_one_between_two_responses(hops: Hops) -> None:
    """gRPC's end a connection after three of them within five minutes."""
    _client, origin = await opened(hops)
    waiting = []
    for count in (1, 2):
        for _ in range(4):
            waiting.append(await ask(hops))
            await origin.stay(2)
        assert pings(origin) == count
        await origin.respond(origin.arrived.pop(0).number)
        assert (await waiting.pop(0).message()).status == 200
    for client in waiting:
        client.close()


async def test_a_response_without_end_is_asked_for_again_after_minutes(hops: Hops) -> None:
    await hops.start(upstream={"protocol": "h2", "body_timeout": 3600.0})
    watcher = await ask(hops)
    origin = await accept(hops)
    request = await origin.whole()
    await origin.respond(request.number, b"begun", ended=False)
    await watcher.until(b"begun")
    await origin.stay(AGAIN - 5)
    assert pings(origin) == 1
    await origin.stay(10)
    assert pings(origin) == 2
    watcher.close()


async def test_the_other_links_of_a_silent_address_go_too(hops: Hops) -> None:
    """A POST finds the origin silent; idle links of the same address may be dead too."""
    first, _ = await opened(hops, {3: 1})
    waits = await ask(hops)
    other = await ask(hops)
    second = await accept(hops, {3: 1})
    await second.serve()
    assert (await other.message()).status == 200
    await trio.sleep(4)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.ORIGIN_OUT]
    await first.send(GET)
    third = await accept(hops, {3: 1})
    await third.serve()
    assert (await first.message()).status == 200
    waits.close()


async def test_links_on_which_the_address_was_heard_since_stay(hops: Hops) -> None:
    await opened(hops, {3: 1})
    waits = await ask(hops)
    other = await ask(hops)
    second = await accept(hops, {3: 1})
    await trio.sleep(0.5)
    await second.serve()
    assert (await other.message()).status == 200
    await trio.sleep(20)
    assert hops.closes(Hop.UPSTREAM) == []
    [share] = hops.runtime.upstreams["app"].balancer.members
    assert len(share.idle) == 1
    waits.close()


# -- one of two ------------------------------------------------------------------------------


class H2Serving(Serving):
    """The same in HTTP/2: each stream is answered by itself, and PINGs by the library."""

    async def _one(self, peer: Peer) -> None:
        origin = H2Peer(peer)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    request = await origin.whole()
                    start = f"{request[':method']} ".encode()
                    self.seen.append((trio.current_time(), start))
                    nursery.start_soon(self._answer, origin, request.number)
        except* (EOFError, OSError):
            peer.close()

    async def _answer(self, origin: H2Peer, number: int) -> None:
        await self.answer(self, _Stream(origin, number))


class _Stream(Peer):
    """Lets an `Answer` respond on a stream."""

    def __init__(self, origin: H2Peer, number: int) -> None:
        super().__init__(origin.peer.sock)
        self._origin = origin
        self._number = number

    async def send(self, data: bytes) -> None:
        await self._origin.respond(self._number)


async def hangs(_: Serving, peer: Peer) -> None:
    await trio.sleep_forever()


async def test_one_of_two_that_hangs_costs_little_after_five_seconds(hops: Hops) -> None:
    """Its connections answer PINGs, as those of a proxy in front of it would."""
    stage = await Stage.start(hops, serving=H2Serving, protocol="h2")
    good, stage.bad.answer = stage.bad.answer, hangs
    await stage.suffer()
    long = [one for one in stage.load.seen if one[3] > 5.0]
    assert all(b"POST" in one[1] for one in long), "a GET that waited has gone elsewhere"
    stage.bad.answer = good
    await stage.recover()
    stage.stop()


async def test_one_of_two_that_stands_still_costs_little(hops: Hops) -> None:
    """Its kernel accepts connections and bytes, but no process reads them."""
    stage = await Stage.start(hops, serving=H2Serving, protocol="h2")
    links = {*member(hops, 0).idle, *member(hops, 0).lent}
    stage.bad.stop()
    await stage.suffer()
    assert links
    assert not links & {*member(hops, 0).idle, *member(hops, 0).roomy}
    stage.stop()

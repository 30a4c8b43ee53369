"""Origins that serve few connections at a time, and take up no other while ours are open."""

from __future__ import annotations

import pytest
import trio

from hopproxy.link.endpoint import Endpoint
from hopproxy.pool.origin import Origin
from hopproxy.pool.width import FIRST, KNOWN
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import Pool, UpstreamSettings
from tests.raw_peers import GET, OK, Message, Peer, get
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


class Few:
    """An origin with so many workers, each of which stays with a connection until it ends."""

    def __init__(self, hops: Hops, workers: int, *, takes: float = 0.001) -> None:
        self.origin = hops.origins[0]
        self.workers = workers
        self.takes = takes
        self.accepted = 0

    async def run(self) -> None:
        free = trio.Semaphore(self.workers)
        async with trio.open_nursery() as nursery:
            while True:
                await free.acquire()
                peer = await self.origin.accept()
                self.accepted += 1
                nursery.start_soon(self._serve, peer, free)

    async def _serve(self, peer: Peer, free: trio.Semaphore) -> None:
        try:
            while True:
                await peer.message()
                await trio.sleep(self.takes)
                await peer.send(OK)
        except (EOFError, OSError):
            peer.close()
            free.release()


async def asked(client: Peer, request: bytes = GET) -> tuple[Message, float]:
    """The response, and how long it took."""
    began = trio.current_time()
    await client.send(request)
    return await client.message(), trio.current_time() - began


def pool_of(hops: Hops) -> Origin:
    """What the pool knows of the first origin."""
    return hops.runtime.upstreams["app"].balancer.members[0]


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with TCP, it is not known whether the origin has read a request."""
    monkeypatch.setattr(Endpoint, "is_taken_up", lambda _: False)


@pytest.fixture
async def settled(hops: Hops) -> Hops:
    """A worker whose clients stay."""
    await hops.start(client={"idle_timeout": 600.0, "body_rate": 0})
    return hops


async def test_a_post_takes_the_place_of_the_idle_link_that_is_too_old_for_it(
    settled: Hops,
) -> None:
    origin = Few(settled, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        client = await settled.client()
        for _ in range(3):
            assert (await asked(client))[0].status == 200
            await trio.sleep(2)
            answer, seconds = await asked(client, POST)
            assert answer.status == 200
            assert seconds < 0.1
            await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert len(settled.runtime.pool.links) == 1
    assert CloseReason.MADE_ROOM in settled.closes(Hop.UPSTREAM)


async def test_an_origin_is_left_with_no_more_links_than_it_had(settled: Hops) -> None:
    origin = Few(settled, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        clients = [await settled.client() for _ in range(3)]
        for client in clients:
            await client.send(GET)
        for client in clients:
            await client.message()
        for _ in range(10):
            await trio.sleep(5)
            assert (await asked(clients[0], POST))[0].status == 200
            assert len(settled.runtime.pool.links) == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("clients", [2, 5, 8])
@pytest.mark.parametrize("takes", [0.001, 0.3])
async def test_who_waits_in_the_origin_costs_idle_links_their_place(
    settled: Hops, workers: int, clients: int, takes: float
) -> None:
    origin = Few(settled, workers, takes=takes)
    times: list[float] = []

    async def ask(client: Peer, delay: float) -> None:
        await trio.sleep(delay)
        for number in range(20):
            answer, seconds = await asked(client, POST if number % 5 == 4 else GET)
            assert answer.status == 200
            times.append(seconds)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        async with trio.open_nursery() as asking:
            for number in range(clients):
                asking.start_soon(ask, await settled.client(), 0.003 * number)
        nursery.cancel_scope.cancel()
    assert len(times) == 20 * clients
    # While it finds out; and then hardly more than the origin needs with one connection a request.
    assert max(times) < 4.0 + 2 * takes * clients
    times.sort()
    assert times[len(times) // 2] <= 0.3 + 1.5 * takes * clients / workers


async def test_one_that_is_passed_over_gets_another_turn(settled: Hops) -> None:
    (origin,) = settled.origins
    first, idle = await settled.asked()
    clients = [await settled.client() for _ in range(2)]
    for client in clients:
        await client.send(GET)
        await settled.quiet()
    early, late = [await origin.accept() for _ in range(2)]
    await idle.send(OK)
    await first.message()
    began = trio.current_time()
    assert await idle.rest() == b""  # closed for the earlier of the two
    await late.message()
    await late.send(OK)
    assert (await clients[1].message()).status == 200
    assert await late.rest() == b""  # closed for the one that was passed over
    assert trio.current_time() - began < 3.0
    await early.message()
    await early.send(OK)
    assert (await clients[0].message()).status == 200


async def test_a_lone_client_keeps_its_link(settled: Hops) -> None:
    origin = Few(settled, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        client = await settled.client()
        for _ in range(50):
            await asked(client)
            await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert origin.accepted == 1


async def test_such_an_origin_is_known_after_a_while(settled: Hops) -> None:
    origin = Few(settled, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        clients = [await settled.client() for _ in range(2)]
        for round_ in range(6):
            for client in clients:
                await client.send(GET)
            began = trio.current_time()
            for client in clients:
                assert (await client.message()).status == 200
            if round_ == 0:
                assert trio.current_time() - began == pytest.approx(FIRST, abs=0.01)
            await trio.sleep(5)
        assert trio.current_time() - began - 5 == pytest.approx(KNOWN, abs=0.01)
        width = pool_of(settled).unheard.width
        assert (width.tight, width.proven) == (True, 1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("takes", [0.1, 0.3, 0.5, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("apart", [0.0, 0.13, 0.7])
@pytest.mark.usefixtures("untold")
async def test_slow_responses_of_an_origin_with_room_are_not_taken_for_it(
    settled: Hops, takes: float, apart: float
) -> None:
    origin = Few(settled, 100, takes=takes)
    clients = 4

    async def ask(client: Peer, delay: float) -> None:
        await trio.sleep(delay)
        for _ in range(30):
            assert (await asked(client))[0].status == 200
            await trio.sleep(apart)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        async with trio.open_nursery() as asking:
            for number in range(clients):
                asking.start_soon(ask, await settled.client(), apart * number)
        nursery.cancel_scope.cancel()
    assert not pool_of(settled).unheard.width.tight
    assert origin.accepted <= clients + 5


async def test_a_request_that_the_origin_has_read_costs_no_idle_link(settled: Hops) -> None:
    client, upstream = await settled.asked()
    slow, _ = await settled.asked()
    await upstream.send(OK)
    await client.message()
    await trio.sleep(30)
    assert (await settled.again(client, upstream)).status == 200
    assert settled.closes(Hop.UPSTREAM) == []
    slow.close()


@pytest.mark.usefixtures("untold")
async def test_a_long_response_that_has_begun_is_not_silent(settled: Hops) -> None:
    client, streaming = await settled.asked()
    await streaming.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    await client.until(b"begun")
    other, idle = await settled.pair()
    await trio.sleep(20)
    assert (await settled.again(other, idle)).status == 200
    assert settled.closes(Hop.UPSTREAM) == []


@pytest.mark.usefixtures("untold")
async def test_an_upload_that_goes_on_is_not_silent(settled: Hops) -> None:
    _, idle = await settled.pair()
    held = await settled.client()
    await held.send(GET)  # the idle link is in use while the upload gets its own
    await idle.message()
    client = await settled.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    upload = await settled.origins[0].accept()
    await upload.until(b"\r\n\r\n")
    await idle.send(OK)
    await held.message()
    for _ in range(20):
        await trio.sleep(1)
        await client.send(b"12345")
        await upload.exactly(5)
    await upload.send(OK)
    assert (await client.message()).status == 200
    assert settled.closes(Hop.UPSTREAM) == []


@pytest.mark.usefixtures("untold")
async def test_a_repetition_is_not_kept_waiting_by_another_idle_link(settled: Hops) -> None:
    (first, one), (second, two) = [await settled.asked() for _ in range(2)]
    for client, upstream in ((first, one), (second, two)):
        await upstream.send(OK)
        await client.message()
    await trio.sleep(0.5)
    await first.send(GET)
    await two.message()
    two.close()
    fresh = await settled.origins[0].accept()  # repeated, and left without an answer
    await fresh.message()
    assert await one.rest() == b""
    await fresh.send(OK)
    assert (await first.message()).status == 200


async def test_a_link_that_served_no_request_gives_way_too(settled: Hops) -> None:
    # Dialled for one who was served by a released link before it came: it waits in the origin's
    # queue, in front of the next.
    origin = Few(settled, 1, takes=0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        clients = [await settled.client() for _ in range(3)]
        for _ in range(8):
            for client in clients:
                await client.send(GET)
            for client in clients:
                with trio.fail_after(10):
                    assert (await client.message()).status == 200
        nursery.cancel_scope.cancel()


async def test_the_idle_link_of_another_upstream_gives_way(hops: Hops) -> None:
    address = hops.add_origin().address
    await hops.start(
        client={"idle_timeout": 600.0},
        upstreams={name: UpstreamSettings(origins=(address,), pool=Pool()) for name in ("a", "b")},
        routes=tuple(Route(upstream=name, path=f"/{name}") for name in ("a", "b")),
    )
    origin = Few(hops, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        client = await hops.client()
        for path in (b"/a", b"/b") * 5:
            answer, seconds = await asked(client, get(path))
            assert answer.status == 200
            assert seconds < 2.0
            await trio.sleep(1)
        assert seconds < 0.05
        nursery.cancel_scope.cancel()

"""One of two origins hangs, vanishes, refuses, closes, fails or is slow: who notices, how long."""

from __future__ import annotations

import ctypes
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from hopproxy.pool.origin import Origin as Member
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.upstream import Health
from tests.links.test_unreachable_origins import Dials
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
BAD = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
#: Clients, and the seconds between two requests of one.
CLIENTS, PAUSE = 4, 0.2
#: Linux has no names for them in Python: attach a packet filter to a socket, and take it off.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27

Answer = Callable[["Serving", Peer], Awaitable[None]]


async def well(_: Serving, peer: Peer) -> None:
    await peer.send(OK)


async def hangs(_: Serving, peer: Peer) -> None:
    await trio.sleep_forever()


async def closes(_: Serving, peer: Peer) -> None:
    raise EOFError


async def fails(_: Serving, peer: Peer) -> None:
    await peer.send(BAD)


async def breaks_off(_: Serving, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nConte")
    raise EOFError


async def speaks_no_http(_: Serving, peer: Peer) -> None:
    await peer.send(b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n")
    raise EOFError


async def contradicts(_: Serving, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok")


async def slow(_: Serving, peer: Peer) -> None:
    await trio.sleep(0.5)
    await peer.send(OK)


class Serving:
    """Serves an origin in a way that may change; notes each request that it has read."""

    def __init__(self, hops: Hops, origin: Origin, answer: Answer = well) -> None:
        self.answer = answer
        self.seen: list[tuple[float, bytes]] = []
        self._scope = trio.CancelScope()
        self._origin = origin
        hops.nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._one, await self._origin.accept())

    async def _one(self, peer: Peer) -> None:
        try:
            while True:
                message = await peer.message()
                self.seen.append((trio.current_time(), message.start))
                await self.answer(self, peer)
        except (EOFError, OSError):
            peer.close()

    def stop(self) -> None:
        self._scope.cancel()


@dataclass
class Load:
    """What clients saw: when each request began, its method, its status, and how long it took."""

    clients: int = CLIENTS
    pause: float = PAUSE
    seen: list[tuple[float, bytes, int, float]] = field(default_factory=list)

    async def run(self, hops: Hops, seconds: float) -> None:
        """Half of the requests are POST."""
        chance = random.Random(5)
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(self.clients):
                nursery.start_soon(self._client, hops, until, chance)

    async def _client(self, hops: Hops, until: float, chance: random.Random) -> None:
        client = await hops.client()
        await trio.sleep(chance.random() * self.pause)
        while trio.current_time() < until:
            request = chance.choice([GET, POST])
            began = trio.current_time()
            await client.send(request)
            try:
                status = (await client.message()).status
            except EOFError:
                status = 0
            self.seen.append((began, request[:4], status, trio.current_time() - began))
            await trio.sleep(self.pause * (0.5 + chance.random()))

    def poor(self, after: float, method: bytes = b"") -> list[tuple[float, bytes, int, float]]:
        """Requests begun after this time that failed, or took longer than a second."""
        return [
            one
            for one in self.seen
            if one[0] >= after and method in one[1] and (one[2] != 200 or one[3] > 1.0)
        ]

    def count(self, after: float) -> int:
        return sum(one[0] >= after for one in self.seen)


def member(hops: Hops, number: int) -> Member:
    return hops.runtime.upstreams["app"].balancer.members[number]


@dataclass
class Stage:
    """Two origins behind a worker, and the clients; the first origin is the bad one."""

    hops: Hops
    bad: Serving
    good: Serving
    load: Load

    @classmethod
    async def start(
        cls,
        hops: Hops,
        load: Load | None = None,
        serving: type[Serving] = Serving,
        **upstream: object,
    ) -> Stage:
        bad, good = (serving(hops, hops.add_origin()) for _ in range(2))
        await hops.start(upstream=upstream)
        made = cls(hops, bad, good, load or Load())
        await made.load.run(hops, 15 * made.load.pause)
        assert made.load.poor(0.0) == []
        assert len(bad.seen) == pytest.approx(len(good.seen), rel=0.1, abs=2)
        return made

    async def suffer(self, seconds: float = 30.0) -> None:
        """The first origin has gone bad: after five seconds hardly anybody notices."""
        late = trio.current_time() + 5.0
        await self.load.run(self.hops, seconds)
        load = self.load
        assert len(load.poor(late)) <= 0.01 * load.count(late)
        assert load.poor(late, b"GET") == []
        posted = sum(b"POST" in start for one in (self.bad, self.good) for _, start in one.seen)
        assert posted <= sum(one[1] == b"POST" for one in load.seen), "none came twice"

    async def recover(self) -> None:
        """It is well again: within 40 seconds it has its share."""
        back = trio.current_time()
        await self.load.run(self.hops, 40.0)
        assert self.load.poor(back, b"GET") == []
        half = self.load.count(back + 30.0) / 2
        assert len([1 for at, _ in self.bad.seen if at > back + 30.0]) > 0.9 * half

    def stop(self) -> None:
        self.bad.stop()
        self.good.stop()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(hangs, "3 timeouts", id="hang"),
        pytest.param(closes, "3 closes", id="accept and close"),
        pytest.param(breaks_off, "3 closes", id="half a head"),
        pytest.param(speaks_no_http, "3 malformed responses", id="no HTTP"),
        pytest.param(contradicts, "3 malformed responses", id="two lengths"),
        pytest.param(fails, "3 times status 500", id="always 500"),
        pytest.param(slow, None, id="slow"),
    ],
)
async def test_one_of_two_that_serves_badly_costs_little_after_five_seconds(
    hops: Hops, answer: Answer, why: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hopproxy")
    stage = await Stage.start(hops, health=Health(statuses=(500,)))
    stage.bad.answer = answer
    await stage.suffer()
    stage.bad.answer = well
    await stage.recover()
    label = member(hops, 0).label
    assert (f"origin {label} out for 5 s: {why}" in caplog.text) is (why is not None)
    assert (f"origin {label} is back after" in caplog.text) is (why is not None)
    stage.stop()


async def test_one_slow_of_two_costs_little_of_the_rate_of_the_other(hops: Hops) -> None:
    """And it has its share again once it is as fast."""
    stage = await Stage.start(hops, Load(4, 0.1))
    began = trio.current_time()
    await stage.load.run(hops, 20.0)
    before = stage.load.count(began)
    stage.bad.answer = slow
    began = trio.current_time()
    await stage.load.run(hops, 20.0)
    assert stage.load.count(began) > 0.9 * before
    assert [at for at, _ in stage.bad.seen if at > began + 10.0], "it is tried now and then"
    stage.bad.answer = well
    await stage.recover()
    stage.stop()


@pytest.mark.parametrize("answers", [False, True], ids=["unanswered", "refused"])
async def test_one_of_two_that_accepts_no_connection_costs_little(
    hops: Hops, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await Stage.start(hops)
    dials = Dials(hops, {0} if answers else set(), monkeypatch)
    blackhole = hops.add_origin(backlog=0)
    dials.elsewhere = {} if answers else {0: blackhole.address.path}
    async with AsyncExitStack() as stack:
        if not answers:
            await stack.enter_async_context(blackhole.full())
        for peer in hops.origins[0].peers:
            peer.finish()
        await stage.suffer()
        dials.gone.clear()
        dials.elsewhere = {}
    await stage.recover()
    stage.stop()


async def test_a_host_that_vanishes_with_its_idle_links_costs_little(tcp_hops: Hops) -> None:
    """Nothing that is sent to it is acknowledged, a SYN neither."""
    hops = tcp_hops
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.autojump_threshold = 0.005
    stage = await Stage.start(hops, Load(3, 0.3))
    sockets = [hops.origins[0].raw, *(peer.sock for peer in hops.origins[0].peers)]
    idle = list(member(hops, 0).idle)
    assert idle
    for one in sockets:
        if one.fileno() >= 0:
            drop_all(one)
    await stage.suffer(7.0)
    gone = {CloseReason.ORIGIN_OUT, CloseReason.WENT_ELSEWHERE}
    assert gone & set(hops.closes(Hop.UPSTREAM))
    assert not set(idle) & set(member(hops, 0).idle)
    listed = [one for one in stage.load.seen if one[3] > 5.0]
    assert all(b"POST" in one[1] for one in listed), "a GET that waited has gone elsewhere"
    for one in sockets:
        if one.fileno() >= 0:
            one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    stage.load = Load(1, 0.5)
    await stage.recover()
    stage.stop()


def drop_all(sock: trio.socket.SocketType) -> None:
    """The kernel drops whatever arrives for this socket, unacknowledged."""
    program = (ctypes.c_ubyte * 8).from_buffer_copy(struct.pack("HBBI", 0x06, 0, 0, 0))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    )

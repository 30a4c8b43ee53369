"""Origins that are names: each address is an origin, and changes are followed."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from hopproxy.pool.names import KEPT, MOST
from hopproxy.pool.origin import Origin as Member
from hopproxy.pool.service_records import Record, Records
from hopproxy.proxy.upstream import Upstream
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.settings.upstream import Health, UpstreamSettings
from tests.names import Names
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


class Stage:
    """Origins on one port of several loopback addresses, behind a name."""

    def __init__(self, hops: Hops, names: Names) -> None:
        self.hops = hops
        self.names = names
        self.port = 0
        self.asked: dict[str, int] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    def listen(self, host: str) -> Origin:
        sock = open_listener(Bind("tcp", host=host, port=self.port), 64)
        self.port = sock.getsockname()[1]
        origin = Origin(sock, OriginAddress("tcp", host=host, port=self.port))
        self.hops.origins.append(origin)
        self.hops.nursery.start_soon(self._serve, origin, host)
        return origin

    async def _serve(self, origin: Origin, host: str) -> None:
        with trio.CancelScope() as scope:
            self.scopes[host] = scope
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._one, await origin.accept(), host)

    async def _one(self, peer: Peer, host: str) -> None:
        try:
            while True:
                await peer.message()
                self.asked[host] = self.asked.get(host, 0) + 1
                await peer.send(OK)
        except (EOFError, OSError):
            peer.close()

    async def start(self, kind: str = "tcp", interval: float = 10.0, **more: object) -> Upstream:
        port = self.port if kind == "tcp" else 0
        address = OriginAddress(kind, host="app.test", port=port)  # type: ignore[arg-type]
        settings = UpstreamSettings(
            origins=(address,),
            health=Health(slow_start=0.0),
            **more,  # type: ignore[arg-type]
        )
        await self.hops.start(upstreams={"app": settings}, dns_interval=interval)
        await self.hops.quiet()
        return self.upstream

    @property
    def upstream(self) -> Upstream:
        return self.hops.runtime.upstreams["app"]

    @property
    def hosts(self) -> list[str]:
        return sorted(member.address.host for member in self.upstream.balancer.members)

    def member(self, host: str) -> Member:
        return next(m for m in self.upstream.balancer.members if m.address.host == host)

    async def ask(self, times: int = 1) -> list[int]:
        """Requests one after another; their statuses."""
        client = await self.hops.client()
        found = []
        for _ in range(times):
            await client.send(GET)
            found.append((await client.message()).status)
        client.close()
        return found

    def stop(self) -> None:
        for scope in self.scopes.values():
            scope.cancel()


@pytest.fixture
async def stage(tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.autojump_threshold = 0.01
    made = Stage(tcp_hops, Names(tcp_hops.nursery, monkeypatch))
    made.listen(ONE)
    made.listen(TWO)
    made.names.addresses = [ONE, TWO]
    yield made
    made.stop()


async def test_each_address_of_a_name_is_an_origin(stage: Stage) -> None:
    await stage.start()
    assert stage.hosts == [ONE, TWO]
    assert await stage.ask(8) == [200] * 8
    assert stage.asked == {ONE: 4, TWO: 4}
    assert stage.hops.records.kept[0].origin == f"http://{ONE}:{stage.port}"
    assert stage.member(ONE).authority == f"app.test:{stage.port}".encode()


async def test_a_request_waits_for_the_first_answer(stage: Stage) -> None:
    stage.names.delay = 2.0
    await stage.start()
    assert stage.hosts == ["app.test"]
    began = trio.current_time()
    assert await stage.ask() == [200]
    assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
    assert stage.hosts == [ONE, TWO]
    assert len(stage.names.asked) == 1
    assert sum(stage.asked.values()) == 1


async def test_a_change_is_followed_within_the_interval(stage: Stage) -> None:
    await stage.start()
    await stage.ask(4)
    stage.listen(THREE)
    stage.names.addresses = [TWO, THREE]
    await trio.sleep(10.1)
    assert stage.hosts == [TWO, THREE]
    assert CloseReason.ORIGIN_REMOVED in stage.hops.closes(Hop.UPSTREAM)
    stage.asked.clear()
    assert await stage.ask(8) == [200] * 8
    assert stage.asked == {TWO: 4, THREE: 4}


async def test_of_too_many_addresses_those_in_use_stay(stage: Stage) -> None:
    every = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(2 * MOST)]
    stage.names.addresses = every
    await stage.start()
    used = stage.hosts
    assert len(used) == MOST
    stage.names.addresses = every[::-1]
    await trio.sleep(10.1)
    assert stage.hosts == used
    gone = used[0]
    stage.names.addresses = [host for host in every if host != gone]
    await trio.sleep(10.1)
    assert len(stage.hosts) == MOST
    assert set(used) - set(stage.hosts) == {gone}


async def test_a_request_on_an_address_that_vanishes_is_served_to_its_end(stage: Stage) -> None:
    slow = stage.listen(THREE)
    stage.names.addresses = [THREE]
    await stage.hops.quiet()
    stage.stop()
    await stage.hops.quiet()
    await stage.start()
    client = await stage.hops.client()
    await client.send(GET)
    upstream = await slow.accept()
    await upstream.message()
    stage.names.addresses = [ONE]
    await trio.sleep(11)
    assert stage.hosts == [ONE]
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert await upstream.rest() == b""


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "try again"), id="SERVFAIL"),
        pytest.param(socket.gaierror(socket.EAI_NONAME, "no such name"), id="no such name"),
        pytest.param(None, id="empty"),
    ],
)
async def test_the_last_good_answer_is_kept_for_five_minutes(
    stage: Stage, failure: Exception | None
) -> None:
    await stage.start()
    stage.names.failure, stage.names.addresses = failure, []
    await trio.sleep(KEPT - 20)
    assert stage.hosts == [ONE, TWO]
    assert await stage.ask(2) == [200, 200]
    await trio.sleep(40)
    assert stage.hosts == ["app.test"]
    assert await stage.ask() == [502]
    assert stage.hops.records.kept[-1].cause == "dns_error"
    stage.names.failure, stage.names.addresses = None, [TWO]
    await trio.sleep(10.1)
    assert stage.hosts == [TWO]
    assert await stage.ask() == [200]


async def test_a_look_up_that_hangs_changes_nothing_but_is_too_old_in_the_end(
    stage: Stage,
) -> None:
    await stage.start()
    stage.names.delay = 10_000.0
    await trio.sleep(200)
    assert len(stage.names.asked) == 2, "one at a time"
    assert await stage.ask(2) == [200, 200]
    await trio.sleep(200)
    assert stage.hosts == ["app.test"]


async def test_a_failed_dial_asks_again_at_once(stage: Stage) -> None:
    """A container was recreated: its old address is gone."""
    await stage.start(interval=60.0)
    gone = stage.hops.origins[0]
    stage.names.addresses = [TWO]
    stage.scopes[ONE].cancel()
    await stage.hops.quiet()
    gone.close()
    for peer in gone.peers:
        peer.finish()
    assert await stage.ask(4) == [200] * 4
    await trio.sleep(1.1)
    assert stage.hosts == [TWO]


async def test_addresses_that_come_and_go_lose_no_request(stage: Stage) -> None:
    stage.listen(THREE)
    await stage.start(interval=1.0)
    chance, statuses = random.Random(3), []

    async def ask() -> None:
        client = await stage.hops.client()
        for _ in range(15):
            await client.send(GET)
            statuses.append((await client.message()).status)
            await trio.sleep(0.2 * chance.random())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        for _ in range(4):
            stage.names.addresses = chance.sample([ONE, TWO, THREE], chance.randint(1, 3))
            await trio.sleep(0.5)
    assert statuses == [200] * 45
    stage.hops.check_ledger()


async def test_an_hour_of_changing_addresses_leaves_nothing_behind(stage: Stage) -> None:
    await stage.start()
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.autojump_threshold = 0.0  # nothing is on its way
    pool = stage.hops.runtime.pool
    for minute in range(60):
        fleeting = [f"127.1.{minute}.{number}" for number in range(1, 9)]
        stage.names.addresses = [ONE, *fleeting]
        await trio.sleep(60)
        if minute == 9:
            before = len(pool.known)
    assert len(stage.names.asked) == pytest.approx(360, abs=3)
    assert stage.hosts == sorted([ONE, *fleeting])
    assert len(pool.ledger.shares) == 9
    assert len(pool.known) <= max(before, 64 + 9)
    assert len(pool.connector.plans) == 9
    clock.autojump_threshold = 0.01
    assert await stage.ask() == [200]


async def test_records_of_a_service_have_ports_weights_and_priorities(stage: Stage) -> None:
    stage.names.records = Records(
        [
            Record(ONE, stage.port, 10, 3, "a.app.test"),
            Record(TWO, stage.port, 10, 1, "b.app.test"),
            Record(THREE, stage.port, 20, 1, "c.app.test"),
        ],
        5.0,
    )
    await stage.start("srv")
    assert stage.hosts == [ONE, TWO, THREE]
    assert await stage.ask(8) == [200] * 8
    assert stage.asked == {ONE: 6, TWO: 2}
    assert stage.member(ONE).authority == f"a.app.test:{stage.port}".encode()
    await trio.sleep(5.1)
    assert len(stage.names.asked) == 2, "as its TTL says"
    stage.names.records = Records([Record(ONE, stage.port, 10, 1, "a.app.test")], 0.0)
    await trio.sleep(5)
    assert stage.hosts == [ONE]
    asked = len(stage.names.asked)
    await trio.sleep(3.1)
    assert len(stage.names.asked) - asked == 3, "at most once a second"


async def test_a_target_whose_look_up_fails_keeps_its_last_addresses_for_five_minutes(
    stage: Stage,
) -> None:
    records = [Record(ONE, stage.port, 0, 1, "a.test"), Record(TWO, stage.port, 0, 1, "B.test")]
    stage.names.records = Records(records, 5.0)
    await stage.start("srv")
    failed = frozenset({("b.test", False), ("b.test", True)})
    stage.names.records = Records(records[:1], 5.0, failed)
    await trio.sleep(280)
    assert stage.hosts == [ONE, TWO]
    await trio.sleep(30)
    assert stage.hosts == [ONE]
    stage.names.records = Records(records, 5.0)
    await trio.sleep(10)
    assert stage.hosts == [ONE, TWO]
    stage.names.records = Records(records[:1], 5.0)
    await trio.sleep(10)
    assert stage.hosts == [ONE], "its look-up did not fail: it has no addresses"


async def test_new_weights_of_the_same_addresses_are_used(stage: Stage) -> None:
    def records(first: int) -> Records:
        rows = [(ONE, first), (TWO, 1)]
        return Records([Record(host, stage.port, 0, n, "a.test") for host, n in rows], 1.0)

    stage.names.records = records(1)
    await stage.start("srv")
    kept = stage.member(ONE)
    stage.names.records = records(3)
    await trio.sleep(1.1)
    assert stage.member(ONE) is kept
    assert await stage.ask(8) == [200] * 8
    assert stage.asked == {ONE: 6, TWO: 2}
    assert stage.hops.closes(Hop.UPSTREAM) == []


async def test_a_stop_does_not_wait_for_look_ups(stage: Stage) -> None:
    await stage.start()
    stage.names.delay = 10_000.0
    await trio.sleep(15)
    began = trio.current_time()
    stage.hops.worker.stop()
    await stage.hops.ended.wait()
    assert trio.current_time() - began < 1.0


async def test_a_name_that_left_the_settings_is_asked_no_more(stage: Stage) -> None:
    upstream = await stage.start()
    upstream.change((stage.hops.origins[0].address,), sought=False)
    assert stage.hosts == [ONE]
    asked = len(stage.names.asked)
    await trio.sleep(60)
    assert len(stage.names.asked) == asked
    assert await stage.ask() == [200]


async def test_many_silent_addresses_do_not_hide_the_one_that_answers(stage: Stage) -> None:
    silent = [f"127.0.1.{number}" for number in range(1, 15)]
    fillers = []
    for host in silent:
        sock = open_listener(Bind("tcp", host=host, port=stage.port), 0)
        stage.hops.origins.append(Origin(sock, OriginAddress("tcp", host=host, port=stage.port)))
        for _ in range(3):
            fillers.append(trio.socket.socket(socket.AF_INET))
            with trio.move_on_after(0.1):
                await fillers[-1].connect((host, stage.port))
    stage.names.addresses = [*silent, TWO]
    await stage.start(connect_timeout=3.0)
    began = trio.current_time()
    assert await stage.ask() == [200]
    assert trio.current_time() - began < 3.0
    assert await stage.ask(3) == [200] * 3
    assert trio.current_time() - began < 3.0, "the next ones do not wait"
    for filler in fillers:
        filler.close()


async def test_a_name_with_a_new_weight_keeps_its_links(stage: Stage) -> None:
    upstream = await stage.start()
    await stage.ask(2)
    entry = replace(upstream.settings.origins[0], weight=3)
    upstream.change((entry,), sought=False)
    await trio.sleep(1.1)
    assert [member.weight for member in upstream.balancer.members] == [3, 3]
    assert stage.hops.closes(Hop.UPSTREAM) == []

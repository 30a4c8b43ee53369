"""Origins that cannot be reached: passed over, tried again, and what the readiness probe says."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from hopproxy.observe.snapshot import unready
from hopproxy.pool.origin import Origin as Member
from hopproxy.reasons import Hop
from hopproxy.settings.schema import Admin
from hopproxy.settings.units import Bind
from hopproxy.settings.upstream import Health, Pool, UpstreamSettings
from tests.links.test_unreachable_origins import Dials
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

#: With it somebody may ask for /readyz.
ADMIN = Admin(bind=Bind("tcp", host="127.0.0.1", port=0))


class Served:
    """Serves an origin: `requests` answered, and `unused` connections that brought none."""

    def __init__(self, hops: Hops, origin: Origin) -> None:
        self.requests = 0
        self.unused = 0
        self._scope = trio.CancelScope()
        self._origin = origin
        hops.nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._one, await self._origin.accept())

    async def _one(self, peer: Peer) -> None:
        before = self.requests
        try:
            while True:
                await peer.message()
                self.requests += 1
                await peer.send(OK)
        except (EOFError, OSError):
            self.unused += self.requests == before
            peer.close()

    def stop(self) -> None:
        self._scope.cancel()


def members(hops: Hops, name: str = "app") -> list[Member]:
    """The origins of an upstream; chance does not put off their trials."""
    found = hops.runtime.upstreams[name].balancer.members
    for member in found:
        member.reach._chance = lambda: 0.0
    return found


async def ask(client: Peer) -> float:
    """One request; how long its answer took."""
    began = trio.current_time()
    await client.send(GET)
    assert (await client.message()).status == 200
    return trio.current_time() - began


async def asked_for(client: Peer, seconds: float, pause: float = 0.1) -> list[float]:
    """A request now and then for so long; how long each took."""
    until = trio.current_time() + seconds
    taken = []
    while trio.current_time() < until:
        taken.append(await ask(client))
        await trio.sleep(pause)
    return taken


# -- passed over -------------------------------------------------------------------------------


async def test_an_origin_that_does_not_answer_holds_up_its_first_requests_only(hops: Hops) -> None:
    silent, alive = hops.add_origin(backlog=0), hops.add_origin()
    await hops.start()
    served = Served(hops, alive)
    clients = [await hops.client() for _ in range(20)]
    taken: list[list[float]] = []

    async def load(client: Peer) -> None:
        taken.append(await asked_for(client, 30.0))

    async with silent.full(), trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(load, client)
    served.stop()
    for times in taken:
        assert len(times) > 250
        assert sum(seconds > 0 for seconds in times) <= 1
        assert max(times) <= 0.5


async def test_an_origin_that_accepts_and_does_not_answer_costs_its_first_requests_only(
    hops: Hops,
) -> None:
    """Its process is stopped: the kernel accepts on its behalf, and idle links look alive."""
    stopped, first, second = (hops.add_origin() for _ in range(3))
    await hops.start(upstream={"response_timeout": 1.0})
    members(hops)
    served = [Served(hops, origin) for origin in (first, second)]
    clients = [await hops.client() for _ in range(20)]
    statuses: list[tuple[float, int]] = []

    async def load(client: Peer) -> None:
        while trio.current_time() < until:
            await client.send(GET)
            status = (await client.message()).status
            statuses.append((trio.current_time(), status))
            await trio.sleep(0.1)

    begun = trio.current_time()
    until = begun + 60.0
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(load, client)
    failed = [at - begun for at, status in statuses if status == 504]
    assert sum(at > 2 for at in failed) <= 5
    served.append(Served(hops, stopped))
    until = trio.current_time() + 60.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, clients[0])
    assert served[-1].requests > 60
    for one in served:
        one.stop()


async def test_one_that_failed_is_tried_by_one_dial_at_a_time_and_by_no_request(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops.add_origin()
    served = Served(hops, hops.add_origin())
    await hops.start()
    dials = Dials(hops, {0}, monkeypatch)
    members(hops)
    client = await hops.client()
    began, times = trio.current_time(), []
    while trio.current_time() < began + 65:
        before = dials.made.count(0)
        assert await ask(client) == 0
        await trio.sleep(0.25)
        times += [trio.current_time() - began] * (dials.made.count(0) - before)
    assert times == pytest.approx([0.25, 2.0, 6.0, 14.0, 30.0, 54.0], abs=0.3)
    served.stop()


async def test_one_that_is_back_is_used_again_and_its_trial_is_closed_unused(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    back, other = (Served(hops, hops.add_origin()) for _ in range(2))
    await hops.start(pool={"max_idle": 0}, upstream={"health": Health(slow_start=0.0)})
    dials = Dials(hops, {0}, monkeypatch)
    members(hops)
    client = await hops.client()
    await asked_for(client, 1.0)
    assert back.requests == 0
    dials.gone.clear()
    await asked_for(client, 0.8)
    assert back.requests == 0
    assert (await asked_for(client, 2.0)) == [0.0] * 20
    assert 10 <= back.requests <= 12  # it catches up a little
    assert back.requests == dials.made.count(0) - 2
    assert back.unused == 1
    assert (
        hops.closes(Hop.UPSTREAM).count(hops.closes(Hop.UPSTREAM)[0])
        == other.requests + back.requests
    )
    hops.check_ledger()
    back.stop()
    other.stop()


async def test_a_trial_has_its_place_in_the_limits(hops: Hops) -> None:
    silent = hops.add_origin(backlog=0)
    async with silent.full():
        await hops.start(pool={"max_connections": 1, "queue_timeout": 9.0}, admin=ADMIN)
        [member] = members(hops)
        await trio.sleep(1)
        assert (member.trials, member.size, hops.runtime.pool.ledger.total) == (1, 1, 1)
        client = await hops.client()
        await client.send(GET)
        await hops.quiet()
        assert (member.dialling, len(member.waiters)) == (0, 1)
    served = Served(hops, silent)
    assert (await client.message()).status == 200  # by the trial, for whoever waits has its link
    assert (served.requests, served.unused) == (1, 0)
    hops.check_ledger()
    served.stop()


async def test_a_trial_that_has_no_room_is_put_off(hops: Hops) -> None:
    upstreams = {
        name: UpstreamSettings(origins=(hops.add_origin().address,), pool=Pool())
        for name in ("a", "b")
    }
    await hops.start(upstreams=upstreams, max_upstream_connections=1, admin=ADMIN)
    first, second = members(hops, "a")[0], members(hops, "b")[0]
    await hops.quiet()
    # The first trial has taken the only place; the other one follows.
    assert [first.reach.reached, second.reach.reached] == [True, False]
    await trio.sleep(1.5)
    assert second.reach.reached
    for origin in hops.origins:
        assert await (await origin.accept()).rest() == b""


# -- readiness ---------------------------------------------------------------------------------


async def test_no_worker_is_ready_before_a_dial_has_succeeded_and_no_request_is_needed(
    hops: Hops,
) -> None:
    origin = hops.add_origin(backlog=0)
    async with origin.full():
        await hops.start(admin=ADMIN)
        assert unready(hops.runtime) == "no origin of app can be reached"
        await trio.sleep(20)
        assert unready(hops.runtime) == "no origin of app can be reached"
    await trio.sleep(0.1)
    assert unready(hops.runtime) == ""
    assert await (await origin.accept()).rest() == b""
    await trio.sleep(3600)
    assert not origin.waiting()  # once is enough
    assert unready(hops.runtime) == ""


async def test_an_upstream_that_is_down_is_tried_each_second_and_only_a_success_ends_it(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        hops.add_origin()
    dials = Dials(hops, {0, 1}, monkeypatch)
    await hops.start(admin=ADMIN)
    for _ in range(100):
        await trio.sleep(1)
        assert unready(hops.runtime) == "no origin of app can be reached"
    assert 198 <= len(dials.made) <= 204
    assert abs(dials.made.count(0) - dials.made.count(1)) <= 1
    dials.gone.remove(1)
    await trio.sleep(1.1)
    assert unready(hops.runtime) == ""
    dials.made.clear()
    await trio.sleep(60)
    assert 1 <= dials.made.count(0) <= 3  # another one answers: it is tried more seldom
    assert dials.made.count(1) == 0
    await (await hops.origins[1].accept()).rest()


async def test_a_failed_request_makes_it_unready_at_once(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = await hops.start(admin=ADMIN)
    await (await origin.accept()).rest()
    assert unready(hops.runtime) == ""
    dials = Dials(hops, {0}, monkeypatch)
    client = await hops.client()
    await client.send(GET)
    assert (await client.message()).status == 502
    assert unready(hops.runtime) == "no origin of app can be reached"
    dials.gone.clear()
    assert (await hops.anew(client)).status == 200  # a request's own dial is as good as a trial
    assert unready(hops.runtime) == ""


@pytest.mark.parametrize(
    ("readiness", "gone", "reason"),
    [
        ("any", set(), ""),
        ("any", {0}, ""),
        ("any", {0, 1}, ""),
        ("any", {2}, ""),
        ("any", {0, 1, 2}, "no origin of a, b can be reached"),
        ("all", {0}, ""),
        ("all", {0, 1}, "no origin of a can be reached"),
        ("all", {2}, "no origin of b can be reached"),
        ("all", {0, 1, 2}, "no origin of a, b can be reached"),
        ("self", {0, 1, 2}, ""),
    ],
)
async def test_what_readiness_asks_of_the_upstreams(
    hops: Hops, readiness: str, gone: set[int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (hops.add_origin() for _ in range(3))
    dials = Dials(hops, gone, monkeypatch)
    upstreams = {
        "a": UpstreamSettings(origins=(first.address, second.address)),
        "b": UpstreamSettings(origins=(third.address,)),
    }
    await hops.start(upstreams=upstreams, readiness=readiness, admin=ADMIN)
    await trio.sleep(0.5)
    assert unready(hops.runtime) == reason
    assert sorted(dials.made) == ([] if readiness == "self" else [0, 1, 2])
    hops.worker.stop()
    await hops.quiet()
    assert hops.runtime.draining
    assert unready(hops.runtime) == "draining"


async def test_without_an_admin_listener_nobody_is_dialled_unasked(hops: Hops) -> None:
    origin = await hops.start()
    await trio.sleep(60)
    assert not origin.waiting()


async def test_a_stop_ends_trials(hops: Hops) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(hops.add_origin(backlog=0).full())
        await hops.start(admin=ADMIN)
        await trio.sleep(0.5)
        assert hops.runtime.pool.ledger.total == 2
        began = trio.current_time()
        hops.worker.stop()
        await hops.ended.wait()
        assert trio.current_time() == began
        assert hops.runtime.pool.ledger.total == 0

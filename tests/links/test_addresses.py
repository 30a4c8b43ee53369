"""A dial to several addresses, as of localhost: a silent one costs a quarter of a second."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator

import pytest
import trio

from hopproxy.link import dial
from hopproxy.link.dial import Target, _in_turn
from hopproxy.reasons import CloseReason
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.ports import fill, free_port
from tests.raw_peers import GET, Origin
from tests.wire_pair import Hops

SILENT, ALIVE = "127.0.0.2", "127.0.0.3"


class Stage:
    """An origin whose dials lead to one port of several addresses."""

    def __init__(self, hops: Hops) -> None:
        self.hops = hops
        self.addresses: list[str] = []
        self.port = 0
        self._fillers: list[socket.socket] = []

    def listen(self, host: str) -> Origin:
        """Answer at this address."""
        self.port = self.port or free_port(host, "127.0.0.1", SILENT, ALIVE)
        return self._listens(host, open_listener(Bind("tcp", host=host, port=self.port), 16))

    def _listens(self, host: str, sock: socket.socket) -> Origin:
        self.hops.origins.append(Origin(sock, OriginAddress("tcp", host=host, port=self.port)))
        return self.hops.origins[-1]

    def silent(self, host: str) -> Origin:
        """Listen at this address, with a backlog that is full."""
        self.port = self.port or free_port(host, "127.0.0.1", SILENT, ALIVE)
        sock = open_listener(Bind("tcp", host=host, port=self.port), 0)
        self._fillers.append(fill(sock))
        return self._listens(host, sock)

    async def start(self, host: str = "origin.test", **settings: float) -> None:
        """Start the worker in front of it."""
        address = OriginAddress("tcp", host=host, port=self.port)
        upstream = UpstreamSettings(origins=(address,), **settings)  # type: ignore[arg-type]
        await self.hops.start(upstreams={"app": upstream})

    async def ask(self) -> tuple[int, float]:
        """Send one request; its status and how long it took."""
        client = await self.hops.client()
        began = trio.current_time()
        await client.send(GET)
        status = (await client.message()).status
        taken = trio.current_time() - began
        await self.hops.quiet()
        return status, taken

    def clear(self) -> None:
        """Close what fills backlogs."""
        for filler in self._fillers:
            filler.close()


@pytest.fixture
async def stage(tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    made = Stage(tcp_hops)
    known = dial.known_targets

    def targets(address: OriginAddress) -> list[Target] | None:
        if address.host != "origin.test":
            return known(address)
        return [(socket.AF_INET, (host, address.port)) for host in made.addresses]

    monkeypatch.setattr("hopproxy.pool.resolver.known_targets", targets)
    monkeypatch.setattr("hopproxy.proxy.upstream.known_targets", targets)
    yield made
    made.clear()


async def test_the_second_address_is_tried_when_the_first_is_silent(stage: Stage) -> None:
    stage.silent(SILENT)
    alive = stage.listen(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    status, taken = await stage.ask()
    assert status == 200
    assert taken == pytest.approx(0.25, abs=0.05)


async def test_an_address_that_was_silent_comes_last_for_a_while(stage: Stage) -> None:
    stage.silent(SILENT)
    alive = stage.listen(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    for pause, expected in ((0.0, 0.25), (0.0, 0.0), (20.0, 0.0), (11.0, 0.25), (0.0, 0.0)):
        await trio.sleep(pause)
        for link in list(stage.hops.runtime.pool.links):
            stage.hops.runtime.pool.drop_idle(link, CloseReason.IDLE_TIMEOUT)
        stage.hops.nursery.start_soon(alive.accept_and_answer)
        status, taken = await stage.ask()
        assert status == 200
        assert taken == pytest.approx(expected, abs=0.05)


async def test_the_second_address_is_tried_at_once_when_the_first_refuses(stage: Stage) -> None:
    alive = stage.listen(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    assert await stage.ask() == (200, 0.0)


async def test_localhost_is_answered_by_its_second_loopback_when_the_first_is_silent(
    stage: Stage,
) -> None:
    try:
        alive = stage.listen("::1")
    except OSError:
        pytest.skip("no IPv6 on the loopback interface")
    stage.silent("127.0.0.1")
    await stage.start("localhost")
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    status, taken = await stage.ask()
    assert status == 200
    assert taken == pytest.approx(0.25, abs=0.05)


async def test_many_silent_addresses_do_not_hide_the_one_that_answers(stage: Stage) -> None:
    silent = [f"127.0.1.{number}" for number in range(1, 15)]
    for host in silent:
        stage.silent(host)
    alive = stage.listen(ALIVE)
    stage.addresses = [*silent, ALIVE]
    await stage.start(connect_timeout=3.0)
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    status, taken = await stage.ask()
    assert status == 200
    assert taken < 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_attempts_of_many_dials_take_few_descriptors(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    further, clients = 6, 8
    monkeypatch.setattr(dial, "MOST_FURTHER", further, raising=False)
    silent = [f"127.0.1.{number}" for number in range(1, 15)]
    for host in silent:
        stage.silent(host)
    alive = stage.listen(ALIVE)
    stage.addresses = [*silent, ALIVE]
    await stage.start(connect_timeout=3.0)

    async def answer() -> None:
        for _ in range(clients):
            await alive.accept_and_answer()

    stage.hops.nursery.start_soon(answer)
    peers = [await stage.hops.client() for _ in range(clients)]
    await trio.sleep(0.1)
    at_rest = open_descriptors()
    for peer in peers:
        await peer.send(GET)
    await trio.sleep(2.5)
    assert open_descriptors() - at_rest <= clients + further
    for peer in peers:
        assert (await peer.message()).status == 200


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_short_connect_timeout_is_shared_by_the_addresses(stage: Stage) -> None:
    stage.silent(SILENT)
    alive = stage.listen(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start(connect_timeout=0.2)
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    status, taken = await stage.ask()
    assert status == 200
    assert taken == pytest.approx(0.1, abs=0.05)


async def test_connect_timeout_bounds_all_addresses_together(stage: Stage) -> None:
    stage.silent(SILENT)
    stage.silent(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start(connect_timeout=2.0)
    status, taken = await stage.ask()
    assert status == 504
    assert taken == pytest.approx(2.0, abs=0.05)
    assert stage.hops.records.kept[-1].cause == "connection_timeout"


async def test_an_address_that_answers_late_is_closed_and_serves_no_request(stage: Stage) -> None:
    slow = stage.silent(SILENT)
    alive = stage.listen(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    stage.hops.nursery.start_soon(alive.accept_and_answer)
    assert (await stage.ask())[0] == 200
    stage.clear()
    with trio.move_on_after(20) as scope:  # longer than the kernel asks again
        while True:
            assert await (await slow.accept()).rest() == b""
    assert scope.cancelled_caught


async def test_a_name_whose_addresses_all_refuse_is_answered_at_once(stage: Stage) -> None:
    stage.listen("127.0.0.1").close()
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    assert await stage.ask() == (502, 0.0)
    assert stage.hops.records.kept[-1].cause == "connection_refused"


async def test_a_client_that_leaves_leaves_no_attempt_behind(stage: Stage) -> None:
    stage.silent(SILENT)
    stage.silent(ALIVE)
    stage.addresses = [SILENT, ALIVE]
    await stage.start()
    client = await stage.hops.client()
    await client.send(GET)
    await trio.sleep(0.5)
    client.close()  # and the end of the test looks for sockets


def test_the_families_take_turns_and_each_target_is_tried_once() -> None:
    four: list[Target] = [(socket.AF_INET, (f"192.0.2.{n}", 80)) for n in (1, 2, 3)]
    six: list[Target] = [(socket.AF_INET6, (f"2001:db8::{n}", 80, 0, 0)) for n in (1, 2)]
    assert _in_turn([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert _in_turn([*four, four[0], *six]) == [four[0], six[0], four[1], six[1], four[2]]
    assert _in_turn([]) == []

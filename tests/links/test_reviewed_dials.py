"""Dials, as a review found them: a fault in one, what is no host name, who is tried."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from hopproxy.link.dial import Target
from hopproxy.record import Hop
from hopproxy.settings.schema import UpstreamSettings
from hopproxy.settings.units import OriginAddress
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

# -- faults of a dial --------------------------------------------------------------------------


def faulty(*_: object) -> socket.socket:
    """A dial that meets what nobody has thought of."""
    raise TypeError("what nobody has thought of")


async def test_a_fault_of_a_dial_is_answered_and_ends_nothing_else(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    bystander, upstream = await hops.asked()
    client = await hops.client()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        await client.send(GET)
        answer = await client.message()
    assert answer.status == 500
    assert b"proxy_internal_error" in answer.values(b"proxy-status")[0]
    await upstream.send(OK)
    assert (await bystander.message()).body == b"ok"
    await hops.quiet()
    hops.check_ledger()
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_fault_of_a_repetition_is_answered_and_ends_nothing_else(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    bystander = await hops.client()
    client, upstream = await hops.pair()
    await client.send(GET)
    await upstream.message()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        upstream.close()
        assert (await client.message()).status == 500
    assert hops.closes(Hop.CLIENT) == []
    assert (await hops.anew(bystander)).body == b"ok"


async def test_after_a_fault_the_next_in_the_queue_has_a_dial_of_its_own(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = await hops.start(pool={"max_connections": 1})
    clients = [await hops.client() for _ in range(2)]
    await hops.quiet()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        for client in clients:
            await client.send(GET)
        assert [(await client.message()).status for client in clients] == [500, 500]
    assert not origin.waiting()


@pytest.mark.parametrize("host", ["a" * 70, "a." + "b" * 70, "a..b"])
async def test_what_is_no_host_name_is_answered_502(hops: Hops, host: str) -> None:
    await hops.start(
        upstreams={"app": UpstreamSettings(origins=(OriginAddress("tcp", host=host, port=80),))}
    )
    client = await hops.client()
    for _ in range(2):
        await client.send(GET)
        answer = await client.message()
        assert answer.status == 502
        assert b"dns_error" in answer.values(b"proxy-status")[0]


@pytest.mark.parametrize("seconds", [32768.0, 2_160_000.0, 2.0**31, 1e12])
async def test_times_longer_than_the_kernel_knows_are_its_longest(
    tcp_hops: Hops, seconds: float
) -> None:
    await tcp_hops.start(
        upstream={"tcp_keepalive": seconds, "tcp_user_timeout": seconds},
        client={"tcp_keepalive": seconds},
    )
    client, upstream = await tcp_hops.pair()
    assert (await tcp_hops.again(client, upstream)).body == b"ok"
    for link in (*tcp_hops.runtime.clients.links, *tcp_hops.runtime.pool.links):
        with socket.socket(fileno=os.dup(link.transport.fd)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 32767


# -- origins that cannot be reached ------------------------------------------------------------


class Dials:
    """Counts the dials to each address; those that are `gone` lead to nobody."""

    def __init__(self, hops: Hops, gone: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.gone = set(gone)
        self._numbers = {origin.address: number for number, origin in enumerate(hops.origins)}
        self.made: list[int] = []
        monkeypatch.setattr("hopproxy.pool.resolver.known_targets", self)

    def __call__(self, address: OriginAddress) -> list[Target]:
        self.made.append(self._numbers[address])
        gone = self._numbers[address] in self.gone
        return [(socket.AF_UNIX, address.path + "-gone" if gone else address.path)]


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5, 5.3])
async def test_a_request_tries_every_origin_once_before_it_gives_up(
    hops: Hops, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        hops.add_origin()
    await hops.start()
    dials = Dials(hops, {0, 1, 2}, monkeypatch)
    client = await hops.client()
    for _ in range(4):
        dials.made.clear()
        await client.send(GET)
        assert (await client.message()).status == 502
        assert sorted(dials.made) == [0, 1, 2]
        await trio.sleep(spread)


@pytest.mark.parametrize("alive", [0, 1, 2])
async def test_the_one_origin_that_can_be_reached_is_found(
    hops: Hops, alive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        hops.add_origin()
    await hops.start(pool={"max_idle": 0})
    dials = Dials(hops, {0, 1, 2} - {alive}, monkeypatch)
    client = await hops.client()
    for _ in range(4):
        dials.made.clear()
        assert (await hops.anew(client, alive)).body == b"ok"
        assert len(dials.made) == len(set(dials.made))
        await trio.sleep(0.7)


async def test_a_repetition_that_reaches_nobody_marks_the_origin_and_goes_on(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    pairs = [await hops.asked(origin=number) for number in (0, 1)]
    for client, upstream in pairs:
        await upstream.send(OK)
        await client.message()
    await hops.quiet()
    dials = Dials(hops, {1}, monkeypatch)
    client, upstream = pairs[0]
    await client.send(GET)
    await upstream.message()
    upstream.close()
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).body == b"ok"
    assert dials.made == [1, 0]
    first, second = hops.runtime.upstreams["app"].balancer.members
    assert (first.reach.failed_at, second.reach.failed_at) == (None, trio.current_time())

"""Which origins a request tries while some of them cannot be reached."""

from __future__ import annotations

import socket

import pytest
import trio

from hopproxy.link.dial import Target
from hopproxy.settings.units import OriginAddress
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops


class Dials:
    """Counts the dials to each address; those in `gone` do not answer.

    Those in `elsewhere` lead to another path.
    """

    def __init__(self, hops: Hops, gone: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.gone = set(gone)
        self._numbers = {origin.address: number for number, origin in enumerate(hops.origins)}
        self.made: list[int] = []
        self.elsewhere: dict[int, str] = {}
        monkeypatch.setattr("hopproxy.pool.resolver.known_targets", self)

    def __call__(self, address: OriginAddress) -> list[Target]:
        self.made.append(self._numbers[address])
        number = self._numbers[address]
        if number in self.elsewhere:
            return [(socket.AF_UNIX, self.elsewhere[number])]
        return [(socket.AF_UNIX, address.path + "-gone" * (number in self.gone))]


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


async def test_a_repetition_that_reaches_no_one_marks_the_origin_and_goes_on(
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

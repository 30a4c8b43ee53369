"""Many handshakes at once take turns, and live links are served between two turns."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio.testing

from hopproxy.link.handshake import ANEW, TURN, Handshakes
from hopproxy.link.stepper import Stepper, in_task
from hopproxy.link.tls import Tls
from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import Listener
from tests.authority import TlsPeer, client_context, listener_tls
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

#: What one handshake costs on the clock of these tests, in seconds.
COST = 0.0004


class Clock:
    """A clock that a handshake moves."""

    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """A watch that runs."""
    async with trio.open_nursery() as nursery:
        made = Watch()
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_handshakes_take_turns_of_a_millisecond(watch: Watch) -> None:
    clock = Clock()
    handshakes = Handshakes(watch, clock)
    turns: list[list[int]] = [[]]
    take_turn = handshakes._take_turn

    def counted() -> None:
        turns.append([])
        take_turn()

    handshakes._take_turn = counted  # type: ignore[method-assign]

    async def one(number: int) -> None:
        await handshakes.turn()
        turns[-1].append(number)
        clock.now += COST

    for number in range(20):
        Stepper().begin(one(number))
    await trio.testing.wait_all_tasks_blocked()
    handshakes.close()
    assert sorted(number for turn in turns for number in turn) == list(range(20))
    assert all(len(turn) <= TURN / COST + 1 for turn in turns)
    assert len(turns) >= 20 * COST / TURN / 2


async def test_a_lone_handshake_does_not_wait(watch: Watch) -> None:
    clock = Clock()
    handshakes = Handshakes(watch, clock)
    for _ in range(10):
        await in_task(handshakes.turn())
        clock.now += max(COST, ANEW)
    assert handshakes.fd < 0


async def test_a_live_client_is_served_while_hundreds_shake_hands(
    hops: Hops, directory: Path
) -> None:
    await hops.start(listeners=(Listener(tls=listener_tls(directory)),))
    live = TlsPeer(await hops.client(), client_context())
    await live.shake()
    await live.send(GET)
    upstream = await hops.origins[0].accept_and_answer()
    assert (await live.message()).body == b"ok"
    await hops.quiet()
    hellos = []
    for _ in range(60):
        new = TlsPeer(await hops.client(), client_context())
        with pytest.raises(ssl.SSLWantReadError):
            new.tls.do_handshake()
        hellos.append((new, new.outgoing.read()))
    await hops.quiet()
    for new, hello in hellos:
        new.send_at_once(hello)
    live.tls.write(GET)
    live.send_at_once(live.outgoing.read())
    await upstream.message()
    assert hops.runtime.handshakes.waiting > 30, "it was served before most of them"
    openings = hops.runtime.clients.openings
    begun = [one for one in openings if isinstance(one.transport.endpoint, Tls)]
    assert len(begun) < 30, "those that wait have not been looked at"
    await upstream.send(OK)
    assert (await live.message()).body == b"ok"


async def test_hundreds_that_never_finish_are_gone_in_time(hops: Hops, directory: Path) -> None:
    await hops.start(
        listeners=(Listener(tls=listener_tls(directory)),),
        client={"max_handshakes": 400, "handshake_timeout": 10.0},
    )
    for number in range(500):
        stuck = await hops.client()
        if number % 2:
            await stuck.send(b"\x16\x03\x01\x02\x00\x01\x00")
        if number % 50 == 0:
            await hops.quiet()
    assert len(hops.runtime.clients.openings) <= 400
    honest = TlsPeer(await hops.client(), client_context())
    await honest.shake()
    await honest.send(GET)
    await hops.origins[0].accept_and_answer()
    assert (await honest.message()).body == b"ok"
    await trio.sleep(10.1)
    assert len(hops.runtime.clients.links) == 1
    ended = set(hops.closes(Hop.CLIENT))
    assert ended == {CloseReason.HANDSHAKE_TIMEOUT, CloseReason.HANDSHAKE_LIMIT}

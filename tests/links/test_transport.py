"""One socket and its watch: what is at hand, what is waited for, and what ends a wait."""

from __future__ import annotations

import gc
import math
import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hopproxy.errors import LinkError
from hopproxy.link.endpoint import Plain
from hopproxy.link.stepper import in_task
from hopproxy.link.transport import Transport
from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason, Hop

LATE = CloseReason.BODY_TIMEOUT


class Pair:
    """A watched transport and the raw socket at its other end."""

    def __init__(self, watch: Watch) -> None:
        near, self.far = socket.socketpair()
        self.transport = Transport(Plain(near), watch, Hop.CLIENT)

    def close(self) -> None:
        """Close both ends."""
        self.transport.close()
        self.far.close()


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """A watch that runs."""
    async with trio.open_nursery() as nursery:
        made = Watch()
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
async def pair(watch: Watch) -> AsyncIterator[Pair]:
    """One pair, closed at the end."""
    made = Pair(watch)
    yield made
    made.close()


async def reason_of(transport: Transport, deadline: float = math.inf) -> CloseReason:
    """Why a receive fails."""
    with pytest.raises(LinkError) as failure:
        await in_task(transport.receive(deadline, LATE))
    return failure.value.reason


async def test_a_wait_ends_with_the_bytes_that_come(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await in_task(pair.transport.receive(math.inf, LATE)) == b"x"

        await wait_all_tasks_blocked()
        pair.far.send(b"x")
    assert pair.transport.received == 1


async def test_a_wait_ends_at_its_deadline_exactly(pair: Pair) -> None:
    began = trio.current_time()
    assert await reason_of(pair.transport, began + 12.5) is LATE
    assert trio.current_time() - began == 12.5


async def test_bytes_are_read_before_the_fin_behind_them(pair: Pair) -> None:
    pair.far.send(b"last")
    pair.far.shutdown(socket.SHUT_WR)
    assert await in_task(pair.transport.receive(math.inf, LATE)) == b"last"
    for _ in range(2):
        assert await in_task(pair.transport.receive(math.inf, LATE)) == b"", "a FIN stays a FIN"


async def test_a_deadline_moved_later_or_earlier_is_the_one_that_counts(pair: Pair) -> None:
    transport, began = pair.transport, trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await reason_of(transport, began + 10) is LATE
            assert trio.current_time() - began == 20

        await trio.sleep(5)
        transport.wait_until(began + 30, LATE)
        await trio.sleep(10)
        transport.wait_until(began + 20, LATE)


async def test_a_peer_that_takes_nothing_ends_the_send(pair: Pair) -> None:
    data = bytes(4_000_000)
    count = pair.transport.send_now(data)
    assert 0 < count < len(data)
    began = trio.current_time()
    with pytest.raises(LinkError) as failure:
        await in_task(pair.transport.send_rest(memoryview(data)[count:], 7))
    assert failure.value.reason is CloseReason.WRITE_TIMEOUT
    assert trio.current_time() - began == 7


async def test_each_byte_accepted_renews_the_patience_of_a_send(pair: Pair) -> None:
    data = bytes(1_000_000)
    count = pair.transport.send_now(data)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_task, pair.transport.send_rest(memoryview(data)[count:], 7))
        left = len(data)
        while left:
            await trio.sleep(5)
            left -= len(pair.far.recv(300_000))
    assert pair.transport.sent == len(data)


async def test_closing_wakes_reader_and_writer(pair: Pair) -> None:
    rest = memoryview(bytes(4_000_000))
    rest = rest[pair.transport.send_now(rest) :]
    reasons = []

    async def read() -> None:
        reasons.append(await reason_of(pair.transport))

    async def write() -> None:
        with pytest.raises(LinkError) as failure:
            await in_task(pair.transport.send_rest(rest, 100))
        reasons.append(failure.value.reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        pair.transport.close()
    assert reasons == [CloseReason.PEER_RESET] * 2


async def test_an_interrupt_reaches_who_waits_and_nobody_else(pair: Pair) -> None:
    gone = LinkError(Hop.CLIENT, CloseReason.MADE_ROOM, "room")
    assert not pair.transport.interrupt(gone)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await reason_of(pair.transport) is CloseReason.MADE_ROOM

        await wait_all_tasks_blocked()
        assert pair.transport.interrupt(gone)
        assert not pair.transport.interrupt(gone), "it is told once"
    pair.far.send(b"x")
    assert await in_task(pair.transport.receive(math.inf, LATE)) == b"x", "and is over then"


async def test_a_cancelled_wait_leaves_the_transport_as_it_was(pair: Pair) -> None:
    with trio.move_on_after(3):
        await in_task(pair.transport.receive(math.inf, LATE))
    assert not pair.transport.interrupt(LinkError(Hop.CLIENT, LATE, "nobody waits"))
    pair.far.send(b"x")
    assert await in_task(pair.transport.receive(math.inf, LATE)) == b"x"


async def test_deadlines_of_many_are_kept_in_order(watch: Watch) -> None:
    pairs = [Pair(watch) for _ in range(200)]
    order: list[int] = []
    began = trio.current_time()

    async def wait(number: int) -> None:
        assert await reason_of(pairs[number].transport, began + number % 50 + 1) is LATE
        assert trio.current_time() - began == number % 50 + 1
        order.append(number % 50)

    async with trio.open_nursery() as nursery:
        for number in range(len(pairs)):
            nursery.start_soon(wait, number)
    assert order == sorted(order)
    for pair in pairs:
        pair.close()


def transports() -> int:
    """How many of them something still holds."""
    gc.collect()
    return sum(type(one) is Transport for one in gc.get_objects())


async def test_the_deadlines_of_closed_transports_do_not_pile_up(watch: Watch) -> None:
    before = transports()
    for _ in range(1000):
        pair = Pair(watch)
        pair.transport.rest_until(trio.current_time() + 3600)
        pair.close()
    assert transports() < before + 200


async def test_a_watch_that_has_ended_lets_links_close_and_takes_no_more() -> None:
    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await wait_all_tasks_blocked()
        pair = Pair(watch)
        nursery.cancel_scope.cancel()
    pair.close()
    near, far = socket.socketpair()
    with near, far, pytest.raises(OSError, match="watch has ended"):
        Transport(Plain(near), watch, Hop.CLIENT)


async def test_a_peer_that_is_always_ahead_does_not_starve_the_others(pair: Pair) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    pair.far.send(bytes(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(1000):
            assert await in_task(pair.transport.receive(math.inf, LATE, 1)) == b"\0"
        nursery.cancel_scope.cancel()
    assert turns >= 50

"""The epoll in trio's hook, and what stands in for it."""

from __future__ import annotations

import math
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
from outcome import Outcome

from hopproxy.link import readiness, trio_epoll
from hopproxy.link.endpoint import Plain
from hopproxy.link.stepper import in_task
from hopproxy.link.transport import Transport
from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET
from tests.wire_pair import Hops


def in_real_time(test: Callable[[], Awaitable[None]]) -> None:
    async def within_seconds() -> None:
        with trio.fail_after(20):
            await test()

    trio.run(within_seconds)


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """A watch that runs."""
    async with trio.open_nursery() as nursery:
        made = Watch()
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


class Told:
    """A socket that notes its events, and does with each what the test wants."""

    def __init__(self, sock: socket.socket, act: Callable[[], None]) -> None:
        self.fd = sock.fileno()
        self.closed = self.readable = self.urgent = False
        self.timer_at = float("inf")
        self.act = act
        self.events = 0
        self.fault: Exception | None = None

    def on_ready(self, hung_up: bool) -> None:
        self.events += 1
        self.act()

    def on_time(self, now: float) -> float:
        return float("inf")

    def on_fault(self, error: Exception) -> None:
        self.fault = error


async def test_an_event_that_wakes_no_task_costs_no_turn_of_trio() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.02)
            turns += 1

    async def echoes() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)

        def echo() -> None:
            # What one event does is the next event: thousands of them fit between two turns.
            near.recv(1)
            if not told.events % 2000:
                done.set()
            far.send(b"x")

        done = trio.Event()
        told = Told(near, echo)
        async with trio.open_nursery() as nursery:
            watch = Watch()
            nursery.start_soon(watch.run)
            nursery.start_soon(count_turns)
            await trio.sleep(0.01)
            watch.add(told)
            far.send(b"x")
            await done.wait()
            assert told.events == 2000
            before = turns
            await trio.sleep(0.1)  # a deadline is kept although events never pause
            assert turns > before
            watch.remove(told)
            near.close()
            far.close()
            nursery.cancel_scope.cancel()

    await trio.to_thread.run_sync(partial(in_real_time, echoes))


async def test_threads_timers_and_sockets_of_trio_are_served_while_the_hook_waits() -> None:
    async def mixed() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watch().run)
            await trio.sleep(0.05)
            assert await trio.to_thread.run_sync(lambda: 5) == 5
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            client = await trio.open_tcp_stream("127.0.0.1", port)
            server = await listeners[0].accept()
            await client.send_all(b"hi")
            assert await server.receive_some() == b"hi"
            for stream in (client, server, *listeners):
                await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()

    await trio.to_thread.run_sync(partial(in_real_time, mixed))


async def test_a_fault_in_an_event_is_told_to_its_owner_and_ends_nothing_else(
    watch: Watch,
) -> None:
    def fall() -> None:
        raise ZeroDivisionError

    pairs = [socket.socketpair() for _ in range(2)]
    faulty = Told(pairs[0][0], fall)
    other = Told(pairs[1][0], lambda: None)
    for told, (_, far) in zip((faulty, other), pairs, strict=True):
        watch.add(told)
        far.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(faulty.fault, ZeroDivisionError)
    assert (other.events, other.fault) == (1, None)
    for near, far in pairs:
        near.close()
        far.close()


async def test_after_the_longest_wait_of_trio_the_watch_still_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trio._core._run, "_MAX_TIMEOUT", 0.3)  # it is a day

    async def silence() -> None:
        near, far = socket.socketpair()
        async with trio.open_nursery() as nursery:
            watch = Watch()
            nursery.start_soon(watch.run)
            transport = Transport(Plain(near), watch, Hop.CLIENT)
            threading.Timer(0.4, far.send, [b"x"]).start()
            began = time.monotonic()
            await in_task(transport.receive(math.inf, CloseReason.IDLE_TIMEOUT))
            assert time.monotonic() - began < 0.55, "heard only when the next wait was over"
            transport.close()
            far.close()
            nursery.cancel_scope.cancel()

    await trio.to_thread.run_sync(partial(in_real_time, silence))


class Sender:
    """Notes when it sends."""

    def __init__(self, name: str, course: list[str]) -> None:
        self.name = name
        self.course = course

    def send_queued(self) -> None:
        self.course.append(f"sends {self.name}")

    def on_fault(self, error: Exception) -> None:
        raise error


async def test_what_a_batch_wants_to_send_goes_out_at_its_end(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness.Batches, "TOGETHER", 2)
    course: list[str] = []
    pairs = [socket.socketpair() for _ in range(3)]

    def asked(name: str) -> None:
        course.append(f"hears {name}")
        watch.later(Sender(name, course))

    for name, (near, _) in zip("abc", pairs, strict=True):
        watch.add(Told(near, partial(asked, name)))
    for _, far in pairs:
        far.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert course == ["hears a", "hears b", "sends a", "sends b", "hears c", "sends c"]
    watch.later(Sender("at once", course))
    assert course[-1] == "sends at once"
    for near, far in pairs:
        near.close()
        far.close()


async def test_a_second_watch_of_a_run_is_nested() -> None:
    async with trio.open_nursery() as nursery:
        watches = [Watch(), Watch()]
        for watch in watches:
            nursery.start_soon(watch.run)
            await trio.testing.wait_all_tasks_blocked()
        for watch in watches:
            near, far = socket.socketpair()
            link = Transport(Plain(near), watch, Hop.CLIENT)
            far.send(b"hello")
            receiving = link.receive(trio.current_time() + 5, CloseReason.IDLE_TIMEOUT)
            assert await in_task(receiving) == b"hello"
            link.close()
            far.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("missing", ["/proc", "entry"])
async def test_without_a_word_of_the_kernel_the_epoll_is_nested(
    hops: Hops, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    folder = "/proc/self/no-such" if missing == "/proc" else "/proc/self/net"
    monkeypatch.setattr(trio_epoll, "FDINFO", folder)
    await hops.start()
    client, upstream = await hops.pair()
    assert (await hops.again(client, upstream, GET)).status == 200
    upstream.close()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]


def test_as_a_guest_of_another_loop_the_watch_does_not_hold_it_up() -> None:
    host: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    ended: list[Outcome[None]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watch().run)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    trio.lowlevel.start_guest_run(
        serve, run_sync_soon_threadsafe=host.put, done_callback=ended.append
    )
    longest = 0.0
    while not ended:
        began = time.monotonic()
        with suppress(queue.Empty):
            host.get(timeout=0.01)()
        longest = max(longest, time.monotonic() - began)
    ended[0].unwrap()
    assert longest < 0.25, "the loop was held up for as long as trio had nothing to do"


FORKED = """
import os, select, trio
from hopproxy.link.watch import Watch

inherited = select.epoll()
pipes = [os.pipe() for _ in range(40)]
for read_end, _ in pipes:
    inherited.register(read_end, select.EPOLLIN)
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for ends in pipes:
    for end in ends:
        os.close(end)  # the numbers are free for others, and the inherited epoll knows them still

async def main():
    async with trio.open_nursery() as nursery:
        watch = Watch()
        nursery.start_soon(watch.run)
        await trio.sleep(0.05)
        loop = watch._readiness._trio.fd
        assert loop not in (-1, inherited.fileno()), loop
        nursery.cancel_scope.cancel()

trio.run(main)
os._exit(0)
"""


def test_an_epoll_inherited_over_a_fork_is_not_taken_for_trios() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")

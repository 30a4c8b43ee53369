"""Flows that are forgotten on the way: nothing comes back, not even an ACK.

A socket filter that takes no packet, on the origin's end, makes one: from then on its kernel is
deaf to that connection.  These tests wait for the kernel's own timers, so their time is real.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from hopproxy.link.tcp import repeats, round_trip, tune, unacknowledged
from hopproxy.reasons import CloseReason, Hop, Source
from tests.raw_peers import GET, Peer
from tests.wire_pair import Hops

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's own")

SO_ATTACH_FILTER = 26


def forget(sock: socket.socket) -> None:
    """Let no packet of this connection in any more (a BPF program that returns 0)."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    fprog = struct.pack("HL", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def test_what_the_kernel_knows(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    near.sendall(b"x")
    assert far.recv(1) == b"x"
    assert unacknowledged(near.fileno()) == 0
    assert 0 < round_trip(near) < 1
    forget(far)
    assert repeats(near.fileno()) == 0
    near.sendall(b"y")
    assert unacknowledged(near.fileno()) == 1
    until = time.monotonic() + 10
    while repeats(near.fileno()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert repeats(near.fileno()) >= 2


def test_a_connection_is_given_up_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    tune(near, nodelay=True, keepalive=0, user_timeout=0.3)
    forget(far)
    near.settimeout(20)
    near.sendall(b"y")
    began = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        near.recv(1)
    assert time.monotonic() - began < 10


def test_other_sockets_know_nothing() -> None:
    near, far = socket.socketpair()
    with near, far:
        tune(near, nodelay=True, keepalive=0, user_timeout=5.0)
        assert (unacknowledged(near.fileno()), round_trip(near)) == (0, 0.0)
        assert repeats(near.fileno()) == 0
    assert (unacknowledged(-1), repeats(-1)) == (0, 0)


def in_real_time(
    directory: Path, upstream: dict[str, float], act: Callable[[Hops], Awaitable[None]]
) -> None:
    """Run `act` on both hops over TCP."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            hops = Hops(nursery, directory)
            hops.tcp = True
            await hops.start(upstream=upstream)
            await act(hops)
            await hops.end()

    trio.run(run)


async def _forgotten(hops: Hops) -> tuple[Peer, Peer]:
    """A client whose idle upstream link has been forgotten on the way."""
    client, stale = await hops.pair()
    await trio.sleep(1.1)
    with socket.socket(fileno=stale.sock.fileno()) as raw:
        forget(raw)
        raw.detach()
    await client.send(GET)
    return client, stale


def test_a_forgotten_flow_is_broken_repeated_and_learned(directory: Path) -> None:
    async def act(hops: Hops) -> None:
        client, _ = await _forgotten(hops)
        await hops.origins[0].accept_and_answer()
        assert (await client.message()).status == 200
        assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET]
        (origin,) = hops.runtime.upstreams["app"].balancer.members
        assert origin.limit.source is Source.LEARNED
        assert origin.learned.silent.age == pytest.approx(1.1, abs=0.5)

    in_real_time(directory, {"tcp_user_timeout": 0.3}, act)


def test_a_response_that_never_comes_from_a_forgotten_flow_is_learned_from(directory: Path) -> None:
    async def act(hops: Hops) -> None:
        client, _ = await _forgotten(hops)
        assert (await client.message()).status == 504
        (origin,) = hops.runtime.upstreams["app"].balancer.members
        assert origin.limit.source is Source.LEARNED

    in_real_time(directory, {"tcp_user_timeout": 0.0, "response_timeout": 0.5}, act)


def test_a_response_that_never_comes_from_a_slow_origin_is_not(directory: Path) -> None:
    async def act(hops: Hops) -> None:
        client, stale = await hops.pair()
        await trio.sleep(1.1)
        await client.send(GET)
        await stale.message()
        assert (await client.message()).status == 504
        (origin,) = hops.runtime.upstreams["app"].balancer.members
        assert origin.limit.source is Source.SETTING

    in_real_time(directory, {"response_timeout": 0.5}, act)

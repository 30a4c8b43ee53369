"""Honest clients beside thousands that dribble their heads: what it costs them, and who remains."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

import trio

from tests.raw_peers import Peer
from tests.soak.origin import Origin
from tests.soak.proxy import Held, Proxy, running

HONEST, ATTACKERS = 50, 2000
#: Requests of each honest client, and its pause between two of them.
REQUESTS, PAUSE = 40, 0.1
HEAD_TIMEOUT = 6.0
#: Seconds over which the attackers come.
SPREAD = 2.0


async def measure(folder: Path) -> bool:
    """Print the honest clients' p99 with and without; whether it at most doubled and all are gone.

    The attackers' head_timeout ends while the honest clients are still measured: both the crowd
    and its end are part of what they feel.
    """
    origin = Origin()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(origin.serve, 0)
        with running(folder, [port], f"{HEAD_TIMEOUT:.0f}s") as proxy:
            await _honest(proxy)  # everything warm
            without = await _honest(proxy)
            command = [sys.executable, "-m", "tests.soak.slowloris", str(proxy.port)]
            async with trio.open_nursery() as attackers:
                attackers.start_soon(trio.run_process, command)
                most = await _until_all_are_here(proxy)
                beside = await _honest(proxy)
            held = await _when_ended(proxy)
        nursery.cancel_scope.cancel()
    print(f"{HONEST} honest clients, p50 and p99 alone: {_shown(without)}")
    print(f"the same beside {ATTACKERS} that dribble: {_shown(beside)}")
    print(f"attackers at once: {most}; after head_timeout: {held}")
    return _p99(beside) <= 2 * _p99(without) and held.clients == 0


async def _until_all_are_here(proxy: Proxy) -> int:
    """How many dribble when the honest ones begin: those who came first must not have gone yet."""
    while True:
        held = await trio.to_thread.run_sync(proxy.held)
        if held.clients >= ATTACKERS * 0.95:
            return held.clients
        await trio.sleep(0.05)


async def _when_ended(proxy: Proxy) -> Held:
    """What is held once the last head_timeout and the linger after it have passed."""
    await trio.sleep(2.0)
    return await trio.to_thread.run_sync(proxy.held)


async def _honest(proxy: Proxy) -> list[float]:
    """Seconds of each request."""
    taken: list[float] = []
    async with trio.open_nursery() as nursery:
        for turn in range(HONEST):
            nursery.start_soon(_one, proxy, taken, turn * PAUSE / HONEST)
    return taken


async def _one(proxy: Proxy, taken: list[float], delay: float) -> None:
    await trio.sleep(delay)
    peer = await _connect(proxy.port)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        await peer.send(b"GET /none/0/13 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.message()).status == 200
        taken.append(time.perf_counter() - began)
        await trio.sleep(PAUSE)
    peer.close()


async def attack(port: int) -> None:
    """2,000 connections, each with a byte a second, none with an end; evenly spread in time."""
    async with trio.open_nursery() as nursery:
        for group in range(20):
            nursery.start_soon(_dribble, port, ATTACKERS // 20, group * SPREAD / 20)


async def _dribble(port: int, count: int, delay: float) -> None:
    await trio.sleep(delay)
    peers: list[Peer] = []
    for _ in range(count):
        peers.append(await _connect(port))
        await peers[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        await trio.sleep(SPREAD / ATTACKERS)
    for _ in range(int(HEAD_TIMEOUT) + 2):
        for peer in peers:
            await trio.sleep(1.0 / count)
            with suppress(OSError):  # it has been ended
                await peer.send(b"x")
    for peer in peers:
        peer.close()


async def _connect(port: int) -> Peer:
    sock = trio.socket.socket()
    await sock.connect(("127.0.0.1", port))
    return Peer(sock)


def _p99(taken: list[float]) -> float:
    return sorted(taken)[len(taken) * 99 // 100]


def _shown(taken: list[float]) -> str:
    p50 = sorted(taken)[len(taken) // 2]
    return f"{p50 * 1000:.1f} ms, {_p99(taken) * 1000:.1f} ms"


if __name__ == "__main__":
    trio.run(attack, int(sys.argv[1]))

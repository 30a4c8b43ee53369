"""Honest clients beside thousands that dribble their heads: what it costs them, and who remains."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from tests.raw_peers import Peer
from tests.soak.origin import Origin
from tests.soak.proxy import Proxy, running

HONEST, ATTACKERS = 50, 2000
#: Requests of each honest client, and its pause between two of them.
REQUESTS, PAUSE = 40, 0.1
HEAD_TIMEOUT = 6.0


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
            async with trio.open_nursery() as crowd:
                await _attack(proxy, crowd)
                began = trio.current_time()
                beside = await _honest(proxy)
                await trio.sleep(max(0.0, began + HEAD_TIMEOUT + 2.0 - trio.current_time()))
                held = await trio.to_thread.run_sync(proxy.held)
                gone = ATTACKERS - held.clients
                crowd.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    print(f"{HONEST} honest clients, p50 and p99 alone: {_shown(without)}")
    print(f"the same beside {ATTACKERS} that dribble: {_shown(beside)}")
    print(f"after head_timeout: {gone} of {ATTACKERS} attackers gone; {held}")
    return _p99(beside) <= 2 * _p99(without) and gone == ATTACKERS


async def _honest(proxy: Proxy) -> list[float]:
    """Seconds of each request."""
    taken: list[float] = []
    async with trio.open_nursery() as nursery:
        for turn in range(HONEST):
            nursery.start_soon(_one, proxy, taken, turn * PAUSE / HONEST)
    return taken


async def _one(proxy: Proxy, taken: list[float], delay: float) -> None:
    await trio.sleep(delay)
    peer = await _connect(proxy)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        await peer.send(b"GET /none/0/13 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.message()).status == 200
        taken.append(time.perf_counter() - began)
        await trio.sleep(PAUSE)
    peer.close()


async def _attack(proxy: Proxy, nursery: trio.Nursery) -> None:
    peers = []
    for _ in range(ATTACKERS):
        peers.append(await _connect(proxy))
        await peers[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    for start in range(0, ATTACKERS, 100):
        nursery.start_soon(_dribble, peers[start : start + 100])


async def _dribble(peers: list[Peer]) -> None:
    """A byte for each, every second."""
    while True:
        for peer in peers:
            try:
                await peer.send(b"x")
            except OSError:
                continue  # it has been ended
        await trio.sleep(1.0)


async def _connect(proxy: Proxy) -> Peer:
    sock = trio.socket.socket()
    await sock.connect(("127.0.0.1", proxy.port))
    return Peer(sock)


def _p99(taken: list[float]) -> float:
    return sorted(taken)[len(taken) * 99 // 100]


def _shown(taken: list[float]) -> str:
    p50 = sorted(taken)[len(taken) // 2]
    return f"{p50 * 1000:.1f} ms, {_p99(taken) * 1000:.1f} ms"

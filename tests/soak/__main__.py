"""python -m tests.soak --minutes N --seed S: mixed traffic with faults, and nothing wrong or left.

`--slowloris` measures honest clients beside clients that dribble their heads.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import trio

from tests.soak import slowloris
from tests.soak.clients import Crowd
from tests.soak.origin import Origin
from tests.soak.proxy import Held, Proxy, running

WORKERS = 24
#: Seconds between two restarts of an origin, and how long it is away.
RESTART_EVERY, AWAY = 20.0, 0.3
#: Seconds until every timeout of the settings has passed, and so every link should have ended.
QUIET = 9.0
#: Descriptors of the pipe for long bodies: made for the first one, and kept.
PIPE = 2
#: Growth of the memory in the second half that is still called flat, as much a minute as 12 MiB in
#: all: for the first five minutes of mixed traffic the allocator takes more and more, then no more.
GROWTH = 6 << 20


async def restart_now_and_then(origin: Origin, port: int, speaks: str) -> None:
    """Serve on `port`, with an interruption now and then."""
    while True:
        async with trio.open_nursery() as nursery:
            await nursery.start(origin.serve, port, speaks)
            await trio.sleep(RESTART_EVERY)
            began = trio.current_time()
            origin.restarts.append((began, float("inf")))
            nursery.cancel_scope.cancel()
        await trio.sleep(AWAY)
        origin.restarts[-1] = (began, trio.current_time() + AWAY)


async def soak(folder: Path, seconds: float, seed: int) -> bool:
    """Run, print, and say whether all was well."""
    origin = Origin()
    async with trio.open_nursery() as nursery:
        ports: list[tuple[int, int]] = []
        for speaks in ("http", "https", "h2c"):
            steady = await nursery.start(origin.serve, 0, speaks)
            shaky = await nursery.start(_once, origin)
            nursery.start_soon(restart_now_and_then, origin, shaky, speaks)
            ports.append((steady, shaky))
        with running(folder, ports[0], secure=ports[1], streams=ports[2]) as proxy:
            crowd = Crowd(proxy.port, origin, tls_port=proxy.tls_port, seed=seed)
            before = await trio.to_thread.run_sync(proxy.held)
            early = await _traffic(crowd, proxy, seconds, seed)
            await trio.sleep(QUIET)
            after = await trio.to_thread.run_sync(proxy.held)
            totals = (await trio.to_thread.run_sync(proxy.links))["totals"]
            crowd.wrong += await trio.to_thread.run_sync(proxy.faults)
        nursery.cancel_scope.cancel()
    return report(crowd, (before, early, after), totals)


async def _once(origin: Origin, task_status: trio.TaskStatus[int]) -> None:
    """Find a free port and leave it."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(origin.serve, 0)
        nursery.cancel_scope.cancel()
    task_status.started(port)


async def _traffic(crowd: Crowd, proxy: Proxy, seconds: float, seed: int) -> Held:
    """All workers until the time is over; what the proxy held after half of it."""
    until = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            nursery.start_soon(crowd.work, random.Random(f"{seed}/{worker}"), until)
        await trio.sleep(seconds / 2)
        return await trio.to_thread.run_sync(proxy.held)


def report(crowd: Crowd, held: tuple[Held, Held, Held], totals: dict[str, int]) -> bool:
    """Print what happened; whether nothing went wrong."""
    before, early, after = held
    twice = [number for number, seen in crowd.origin.posts.items() if seen > 1]
    wrong = crowd.wrong + crowd.origin.wrong_uploads
    posts = len(crowd.origin.posts)
    if crowd.stale_posts > max(5, posts // 200):
        wrong.append(f"{crowd.stale_posts} POSTs met a link that died: too many to be races")
    hung = crowd.asked["hang"] + crowd.asked["h2 hang"]
    if crowd.moved > max(3, hung // 200):
        wrong.append(
            f"{crowd.moved} of {hung} requests that hung were answered: too many for trials"
        )
    if crowd.crossings > crowd.origin.crossed:
        wrong.append(f"{crowd.crossings} answers 408, {crowd.origin.crossed} crossed a request")
    print(f"requests: {sum(crowd.asked.values())} ({totals['requests']} by its own count)")
    print(f"clients: {dict(crowd.clients)}")
    print(f"answers: {dict(sorted(crowd.answers.items()))}")
    print(f"asked for: {dict(sorted(crowd.asked.items()))}")
    print(f"faults done by the origins: {dict(sorted(crowd.origin.done.items()))}")
    print(f"restarts of an origin: {len(crowd.origin.restarts)}")
    print(
        f"repetitions: {totals['repeated']}; POSTs that met a dead link (502): {crowd.stale_posts}"
    )
    print(f"before: {before}\nhalf:   {early}\nafter:  {after}")
    left = after.clients + after.upstreams + after.lent + after.waiting
    leaked = after.descriptors - before.descriptors - PIPE
    grown = after.memory - early.memory
    print(f"left: {left} links, {leaked} descriptors, memory {grown >> 10:+d} KiB")
    for line in wrong[:40]:
        print(f"wrong: {line}")
    print(f"wrong answers: {len(wrong)}; POSTs seen twice: {len(twice)} of {posts}")
    return not (wrong or twice or left or leaked > 0 or grown > GROWTH)


def main() -> int:
    """0 if all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slowloris", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        if options.slowloris:
            return int(not trio.run(slowloris.measure, Path(folder)))
        return int(not trio.run(soak, Path(folder), options.minutes * 60, options.seed))


if __name__ == "__main__":
    sys.exit(main())

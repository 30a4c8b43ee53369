"""The race for idle sockets, with real origins: `python -m tests.learn.race`.

Several clients ask at the same moment, again and again, spaced at the origin's own idle limit give
or take 50 ms: each finds a pooled socket that the origin is about to close, or has just closed.
Half of the requests are POST, each with an id that the origin writes down.  The same load goes
through nginx, HAProxy, and a hopproxy that does not learn, at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from tests.learn.servers import (
    H2_ORIGINS,
    H2_PROXIES,
    ORIGINS,
    PROXIES,
    Running,
    origin,
    proxy,
)

WITHIN = 0.05
#: Bursts that are not counted: the pool learns from them.
LEARNING = 2


class Race:
    """One proxy before one origin.  `clients` times `bursts` requests count."""

    def __init__(self, name: str, port: int, limit: float, *, seed: int = 1) -> None:
        self.name = name
        self.seed = seed
        self.limit = limit
        self.asked = 0
        self.failed: Counter[str] = Counter()
        self._port = port
        self._random = random.Random(seed)
        self._streams: dict[int, trio.SocketStream] = {}

    async def run(self, clients: int, bursts: int) -> None:
        """The whole race."""
        for burst in range(LEARNING + bursts):
            counts = burst >= LEARNING
            async with trio.open_nursery() as nursery:
                for client in range(clients):
                    method = "POST" if (burst + client) % 2 else "GET"
                    nursery.start_soon(self._ask, client, method, counts, f"{burst}-{client}")
            # The learning gap is longer: an origin that looks once a second has closed by then.
            within = self._random.uniform(-WITHIN, WITHIN)
            await trio.sleep(self.limit + (within if burst + 1 >= LEARNING else 1.5))
        for stream in self._streams.values():
            await trio.aclose_forcefully(stream)

    async def _ask(self, client: int, method: str, counts: bool, number: str) -> None:
        await trio.sleep(self._random.uniform(0, 0.004))
        body = "Content-Length: 2\r\n\r\nhi" if method == "POST" else "\r\n"
        target = f"/index?id={self.seed}-{number}"
        request = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{body}".encode()
        status, closes = 0, True
        with trio.move_on_after(10), contextlib.suppress(OSError, trio.BrokenResourceError):
            stream = self._streams.get(client)
            if stream is None:
                stream = await trio.open_tcp_stream("127.0.0.1", self._port)
                self._streams[client] = stream
            await stream.send_all(request)
            status, closes = await _status(stream)
        if closes:
            gone = self._streams.pop(client, None)
            if gone is not None:
                await trio.aclose_forcefully(gone)
        if counts:
            self.asked += 1
            if status != 200:
                self.failed[f"{method} {status}"] += 1


async def _status(stream: trio.SocketStream) -> tuple[int, bool]:
    """(status of the next response, its short body read, whether the connection is to be closed).

    The status is 0 when the connection ended before.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return 0, True
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    length, closes = 0, False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        if line.startswith(b"connection:") and b"close" in line:
            closes = True
    while len(rest) < length:
        more = await stream.receive_some()
        if not more:
            return 0, True
        rest += more
    return int(head.split(b" ")[1]), closes


async def race(races: list[Race], clients: int, bursts: int) -> None:
    """All of them side by side."""
    async with trio.open_nursery() as nursery:
        for one in races:
            nursery.start_soon(one.run, clients, bursts)


def doubles(posts: list[str], seed: int) -> int:
    """How many POSTs of this race the origin has seen more than once."""
    own = Counter(post for post in posts if post.startswith(f"id={seed}-"))
    return sum(count - 1 for count in own.values())


def main() -> int:
    """Race every origin; 0 when hopproxy lost and doubled nothing."""
    parser = argparse.ArgumentParser(prog="tests.learn.race", description=__doc__)
    names = [*ORIGINS, *H2_ORIGINS]
    parser.add_argument("--origins", nargs="*", default=names, choices=names)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--bursts", type=int, default=10)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race")))
        directory.chmod(0o755)
        rows: list[tuple[str, Running, Race]] = []
        for name in options.origins:
            command, limit = {**ORIGINS, **H2_ORIGINS}[name]
            server = stack.enter_context(origin(command, directory / name))
            for other in H2_PROXIES if name in H2_ORIGINS else PROXIES:
                folder = directory / f"{name}-{other}"
                port = stack.enter_context(proxy(other, folder, server.port))
                rows.append((name, server, Race(other, port, limit, seed=len(rows))))
        trio.run(partial(race, [row[2] for row in rows], options.clients, options.bursts))
        return _report(rows)


def _report(rows: list[tuple[str, Running, Race]]) -> int:
    lost = 0
    print(f"{'origin':10}{'limit':>6}  {'proxy':12}{'asked':>6}{'failed':>8}{'doubled':>9}  which")
    for name, server, one in rows:
        failed, twice = sum(one.failed.values()), doubles(server.seen(), one.seed)
        which = ", ".join(f"{count} x {kind}" for kind, count in sorted(one.failed.items()))
        line = f"{name:10}{one.limit:5g}s  {one.name:12}{one.asked:6}{failed:8}{twice:9}  {which}"
        print(line.rstrip())
        if one.name in ("hopproxy", "hopproxy-h2"):
            lost += failed + twice
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

"""One whole exchange inside hopproxy: CPU microseconds, with every system call.

The client is one end of a socket pair, the origin a Unix socket; both are in a process of their
own, which sends a request, answers it as the origin, reads the response, and starts again.  So the
proxy has one exchange at a time and waits twice in each: the dearest case.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason
from hopproxy.record import ExchangeRecord
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.server.runtime import Runtime
from hopproxy.settings.client import Listener
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import parse_origin
from hopproxy.settings.upstream import UpstreamSettings

BODY = b"Hello, world\n"


def answer(head: bytes) -> bytes:
    """The origin's response: this head, and 13 bytes."""
    return head + b"\r\n\r\n" + BODY


def both_ends(client: socket.socket, listener: socket.socket, heads: tuple[bytes, bytes]) -> None:
    """Client and origin in turn, until the client's socket is closed by the proxy's side."""
    request, response = heads[0] + b"\r\n\r\n", answer(heads[1])
    client.sendall(request)
    origin, _ = listener.accept()
    while origin.recv(65536):
        origin.sendall(response)
        if not client.recv(65536):
            return
        client.sendall(request)


class Meter:
    """Told of each exchange: lets a tenth pass as warm-up, then reads this thread's CPU."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._left = count + count // 10
        self._before = 0.0
        self.each = 0.0
        self.done = trio.Event()

    def __call__(self, record: ExchangeRecord) -> None:
        if record.status != 200:
            self._left = 0  # `each` stays 0: `run` tells
            self.done.set()
        self._left -= 1
        if self._left == self._count:
            self._before = time.thread_time()
        elif self._left == 0:
            self.each = (time.thread_time() - self._before) / self._count
            self.done.set()


async def run(client: socket.socket, origin: str, count: int) -> float:
    """CPU seconds of one of so many exchanges.  Raises ValueError when one fails."""
    settings = Settings(upstreams={"app": UpstreamSettings(origins=(parse_origin(origin),))})
    meter = Meter(count)
    async with trio.open_nursery() as base:
        watch = Watch()
        base.start_soon(watch.run)
        runtime = Runtime(settings, watch, meter)
        async with trio.open_nursery() as connections:
            gateway = Gateway(runtime, connections)
            gateway.admit(client, Entrance(settings, Listener()), "127.0.0.1")
            await meter.done.wait()
            gateway.stop()
            connections.cancel_scope.cancel()
        runtime.pool.close_idle(CloseReason.STOPPED)
        base.cancel_scope.cancel()
    if not meter.each:
        raise ValueError("an exchange was not answered 200")
    return meter.each


def microseconds(heads: tuple[bytes, bytes], count: int = 3000, batches: int = 5) -> float:
    """CPU microseconds of one exchange in the best of some batches; heads: request and response."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "origin")
        listener.bind(path)
        listener.listen()
        return min(_batch(listener, path, heads, count) for _ in range(batches)) * 1e6


def _batch(listener: socket.socket, path: str, heads: tuple[bytes, bytes], count: int) -> float:
    ours, theirs = socket.socketpair()
    fds = (theirs.fileno(), listener.fileno())
    words = [*map(str, fds), *(head.hex() for head in heads)]
    argv = [sys.executable, "-m", "benchmarks.one_exchange", *words]
    with subprocess.Popen(argv, pass_fds=fds) as process:
        theirs.close()
        try:
            return trio.run(run, ours, f"unix:{path}", count)
        finally:
            process.kill()


if __name__ == "__main__":
    both_ends(
        socket.socket(fileno=int(sys.argv[1])),
        socket.socket(fileno=int(sys.argv[2])),
        (bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4])),
    )

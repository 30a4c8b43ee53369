"""One of two origins goes bad: what clients notice with hopproxy, HAProxy and Caddy.

Run: python -m benchmarks.bad_origins [--recovery] [ROW...].  Each row takes 20 seconds, for all
proxies at the same time; with --recovery a minute: then the origin is well again, and the seconds
are told until it has nine tenths of its share.  HAProxy and Caddy have health checks every two
seconds; hopproxy has its defaults, and 500 in `statuses`.  Half of the requests are POST.  Counted
are requests begun more than five seconds after the origin went bad: those that failed, those that
took longer than a second, and POSTs that the origins saw twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

#: Seconds before and after the origin goes bad, and how many of these do not count.
BEFORE, AFTER, GRACE = 3.0, 15.0, 5.0
#: Seconds in which an origin that is well again should have its share.
RECOVERY = 40.0
#: Clients of each proxy, and the pause between two requests of one.
CLIENTS, PAUSE = 12, 0.1
#: Linux: attach a packet filter to a socket (`ret 0` drops everything), and take it off.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27

ROWS = ("hang", "vanish", "syn", "close", "status", "slow", "refuse")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"

HAPROXY = """
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option redispatch
  retry-on conn-failure empty-response
  default-server check inter 2s fall 3 rise 2
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  balance leastconn
  option httpchk GET /healthz
  server one 127.0.0.1:{one}
  server two 127.0.0.1:{two}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  reverse_proxy 127.0.0.1:{one} 127.0.0.1:{two} {{
    lb_policy least_conn
    lb_try_duration 2s
    health_uri /healthz
    health_interval 2s
    health_timeout 1s
    fail_duration 5s
    max_fails 3
    unhealthy_status 500
  }}
}}
"""
HOPPROXY = """
listeners: [{{bind: "127.0.0.1:{port}"}}]
access_log: off
upstreams:
  app:
    origins: ["127.0.0.1:{one}", "127.0.0.1:{two}"]
    health: {{statuses: [500]}}
"""
#: The settings of each proxy, the name of its file, and how it is started.
PROXIES: dict[str, tuple[str, str, list[str]]] = {
    "hopproxy": (HOPPROXY, "hop.yaml", [sys.executable, "-m", "hopproxy", "run", "--config"]),
    "haproxy": (HAPROXY, "haproxy.cfg", ["haproxy", "-f"]),
    "caddy": (CADDY, "Caddyfile", ["caddy", "run", "--adapter", "caddyfile", "--config"]),
}


class Origin:
    """Answers every request well until it goes bad; notes the POSTs it has seen."""

    def __init__(self) -> None:
        self.mode = "well"
        self.posts: Counter[bytes] = Counter()
        self.times: list[float] = []
        self._well = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._fillers: list[socket.socket] = []

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /healthz " not in head:
                    self.times.append(time.monotonic())
                if head.startswith(b"POST"):
                    self.posts[head.split(b" ")[1]] += 1
                    await reader.readexactly(2)
                if self.mode == "hang":
                    await self._well.wait()
                if self.mode == "close":
                    break
                elif self.mode == "slow":
                    await asyncio.sleep(0.5)
                writer.write(BAD if self.mode == "status" else OK)
        self._writers.discard(writer)
        writer.close()

    def go_bad(self, mode: str) -> None:
        self.mode = mode
        raw = self._server.sockets[0]
        if mode == "vanish":
            drop_all(raw.fileno())
            for writer in self._writers:
                drop_all(writer.get_extra_info("socket").fileno())
        elif mode in ("refuse", "syn"):
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
        if mode == "syn":
            full = socket.socket()
            full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            full.bind(("127.0.0.1", self.port))
            full.listen(0)
            self._fillers = [full]
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", self.port))
                self._fillers.append(filler)

    async def get_well(self) -> None:
        mode, self.mode = self.mode, "well"
        self._well.set()
        if mode == "vanish":
            with contextlib.suppress(OSError):
                self._server.sockets[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        elif mode in ("refuse", "syn"):
            for one in self._fillers:
                one.close()
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)


def share_after(bad: Origin, good: Origin, back: float) -> str:
    """Seconds until the first of two seconds in which an origin had 0.9 of its share."""
    for second in range(int(RECOVERY)):
        span = back + second, back + second + 2
        counts = [sum(span[0] <= at < span[1] for at in one.times) for one in (bad, good)]
        if sum(counts) and counts[0] >= 0.45 * sum(counts):
            return f"{second} s"
    return "never"


def drop_all(fd: int) -> None:
    """The kernel drops whatever arrives for this socket, unacknowledged."""
    program = (ctypes.c_ubyte * 8).from_buffer_copy(struct.pack("HBBI", 0x06, 0, 0, 0))
    option = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    with socket.socket(fileno=socket.dup(fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)


class Load:
    """Clients of one proxy: when each request began, whether it was answered, how long it took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0
        self.seen: list[tuple[float, bool, bool, float]] = []

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._client(until) for _ in range(CLIENTS)))

    async def _client(self, until: float) -> None:
        reader = writer = None
        while time.monotonic() < until:
            self._number += 1
            safe = random.random() < 0.5
            line = b"GET /" if safe else b"POST /%d" % self._number
            body = b"\r\n" if safe else b"Content-Length: 2\r\n\r\nhi"
            began, good = time.monotonic(), False
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(line + b" HTTP/1.1\r\nHost: a\r\n" + body)
                async with asyncio.timeout(max(2.0, until - began + 2.0)):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                good = b" 200 " in head.split(b"\r\n")[0] + b" "
                if b"connection: close" in head:
                    writer.close()
                    reader = writer = None
            except (OSError, TimeoutError, IndexError, asyncio.IncompleteReadError):
                if writer is not None:
                    writer.close()
                reader = writer = None
            self.seen.append((began, safe, good, time.monotonic() - began))
            await asyncio.sleep(PAUSE)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(name: str, folder: Path, ports: dict[str, int]) -> Iterator[None]:
    """One proxy in front of two origins."""
    text, file, argv = PROXIES[name]
    path = folder / file
    path.write_text(text.format(**ports))
    process = subprocess.Popen(
        [*argv, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", ports["port"]), 1).close()
                break
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


async def measure(row: str, name: str, folder: Path, recovery: float) -> str:
    """What one proxy made of one row, as a line of the table."""
    bad, good = Origin(), Origin()
    ports = {"port": free_port(), "one": await bad.start(), "two": await good.start()}
    with running(name, folder, ports):
        load = Load(ports["port"])
        task = asyncio.create_task(load.run(BEFORE + AFTER + recovery))
        await asyncio.sleep(BEFORE)
        bad.go_bad(row)
        late = time.monotonic() + GRACE
        if recovery:
            await asyncio.sleep(AFTER)
            await bad.get_well()
        back = time.monotonic()
        await task
    twice = sum(count > 1 for count in (bad.posts + good.posts).values())
    return (
        f"| {row} | {name} | "
        + " | ".join(_poor(load, late))
        + f" | {twice} |"
        + (f" {share_after(bad, good, back)} |" if recovery else "")
    )


def _poor(load: Load, late: float) -> Iterator[str]:
    counts: list[tuple[str, Callable[[bool], bool]]] = [
        ("GET", lambda safe: safe),
        ("POST", lambda safe: not safe),
    ]
    for _, wanted in counts:
        seen = [one for one in load.seen if one[0] >= late and wanted(one[1])]
        failed = sum(not one[2] for one in seen)
        slow = sum(one[2] and one[3] > 1.0 for one in seen)
        yield f"{failed} failed, {slow} slow, of {len(seen)}"


async def main(rows: list[str]) -> None:
    recovery = RECOVERY if "--recovery" in rows else 0.0
    rows = [row for row in rows if row != "--recovery"]
    names = [name for name, (_, _, argv) in PROXIES.items() if shutil.which(argv[0])]
    more = (" its share after |", "---|") if recovery else ("", "")
    print(f"| one of two origins | proxy | GET | POST | POSTs twice |{more[0]}")
    print(f"|---|---|---|---|---|{more[1]}")
    for row in rows or ROWS:
        with tempfile.TemporaryDirectory() as folder:
            work: list[Awaitable[str]] = [
                measure(row, name, Path(folder), recovery) for name in names
            ]
            for line in await asyncio.gather(*work):
                print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

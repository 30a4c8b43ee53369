"""A whole worker in this process, with a client, an origin that does as the path says, and its log.

Real sockets on loopback; nothing sleeps for a fixed time, `eventually` waits for what must come.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.server.listener import open_listener
from hopproxy.server.runtime import Runtime
from hopproxy.server.sockets import Sockets
from hopproxy.server.worker import Worker
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.schema import Admin as AdminSettings
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Bind, Network, OriginAddress
from hopproxy.settings.upstream import Pool, UpstreamSettings

ANYWHERE = Bind("tcp", "127.0.0.1", 0)
PATIENCE = 10.0


async def eventually(true: Callable[[], object]) -> None:
    """Wait until something holds; fails when it does not come to hold in time."""
    for _ in range(int(PATIENCE / 0.005)):
        if true():
            return
        await trio.sleep(0.005)
    raise AssertionError("it never came to hold")


class Origin:
    """Answers 13 bytes; `/close` sends Connection: close, `/die` only closes, `/hold` waits."""

    def __init__(self) -> None:
        self.release = trio.Event()
        self.requests = 0
        #: The port at the other end of each connection.
        self.peers: list[int] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection of the pool."""
        self.peers.append(stream.socket.getpeername()[1])
        async with stream:
            data = b""
            while True:
                more = await stream.receive_some(65536)
                if not more:
                    return
                data += more
                if b"\r\n\r\n" not in data:
                    continue
                target = data.split(b" ", 2)[1]
                data = b""
                self.requests += 1
                if target.startswith(b"/die"):
                    return
                if target == b"/hold":
                    await self.release.wait()
                if target == b"/socket":
                    await stream.send_all(
                        b"HTTP/1.1 101 Switching Protocols\r\n"
                        b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
                    )
                    while echo := await stream.receive_some(65536):
                        await stream.send_all(echo)
                    return
                last = b"Connection: close\r\n" if target == b"/close" else b""
                await stream.send_all(
                    b"HTTP/1.1 200 OK\r\n%bContent-Length: 13\r\n\r\nHello, World!" % last
                )
                if last:
                    await stream.receive_some(1)  # its FIN must not overtake what we say of it
                    return


class Client:
    """One connection to a server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.port: int = stream.socket.getsockname()[1]
        self.host = "site.test"

    async def ask(self, target: str = "/", method: str = "GET", *fields: str) -> Response:
        """One request on this connection, and its response."""
        host = [] if any(one.startswith("Host:") for one in fields) else [f"Host: {self.host}"]
        lines = [f"{method} {target} HTTP/1.1", *host, *fields, "", ""]
        await self.stream.send_all("\r\n".join(lines).encode())
        return await self.answer(head_only=method == "HEAD")

    async def answer(self, *, head_only: bool = False) -> Response:
        """The next response."""
        with trio.fail_after(PATIENCE):
            data = b""
            while b"\r\n\r\n" not in data:
                more = await self.stream.receive_some(65536)
                assert more, f"closed after {data!r}"
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            response = Response(head)
            size = 0 if head_only else int(response.fields.get("content-length", "0"))
            while len(body) < size:
                body += await self.stream.receive_some(65536)
            response.body = body
            return response


class Response:
    """Status, fields by lower-case name, body."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        self.body = b""

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Stage:
    """The worker and what stands around it."""

    def __init__(self, nursery: trio.Nursery, log: Path) -> None:
        self.nursery = nursery
        self.origin = Origin()
        self.runtime: Runtime
        self.worker: Worker
        self.access_log: AccessLog
        self.origin_port = self.site_port = self.admin_port = 0
        self.ended = trio.Event()
        self._log = log
        self._fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._streams: list[trio.SocketStream] = []

    async def start(
        self, style: str, client: ClientSettings, pool: Pool, trusted: tuple[Network, ...]
    ) -> None:
        """Origin, listeners, worker."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.origin_port = listeners[0].socket.getsockname()[1]
        self.nursery.start_soon(trio.serve_listeners, self.origin.serve, listeners)
        settings = Settings(
            client=client,
            upstreams={
                "app": UpstreamSettings(
                    origins=(OriginAddress("tcp", "127.0.0.1", self.origin_port),), pool=pool
                )
            },
            admin=AdminSettings(bind=ANYWHERE),
            drain_timeout=PATIENCE,
            trusted_proxies=trusted,
        )
        sockets = Sockets([open_listener(ANYWHERE, 64)], open_listener(ANYWHERE, 64))
        assert sockets.admin is not None
        self.site_port = sockets.clients[0].getsockname()[1]
        self.admin_port = sockets.admin.getsockname()[1]
        self.access_log = AccessLog(style, self._fd)
        self.worker = Worker(settings, sockets, self.access_log)
        self.runtime = await self.nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[Runtime]) -> None:
        await self.worker.run(task_status)
        self.ended.set()

    def clear(self) -> None:
        """Close what was opened."""
        os.close(self._fd)
        for stream in self._streams:
            stream.socket.close()

    async def _connect(self, port: int) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        self._streams.append(stream)
        return Client(stream)

    async def client(self) -> Client:
        """A connection to the site."""
        return await self._connect(self.site_port)

    async def admin(self) -> Client:
        """A connection to the admin listener."""
        looker = await self._connect(self.admin_port)
        looker.host = f"127.0.0.1:{self.admin_port}"
        return looker

    async def look(self, path: str) -> Any:
        """What the admin listener says, as JSON."""
        looker = await self.admin()
        async with looker.stream:
            return (await looker.ask(path)).json()

    async def lines(self, count: int) -> list[str]:
        """The access log, once it has so many lines."""
        await eventually(lambda: self._log.read_bytes().count(b"\n") >= count)
        return self._log.read_text().splitlines()

    async def records(self, count: int) -> list[dict[str, Any]]:
        """The access log read as JSON."""
        return [json.loads(line) for line in await self.lines(count)]


@asynccontextmanager
async def stage(
    log: Path,
    style: str = "json",
    client: ClientSettings | None = None,
    pool: Pool | None = None,
    trusted_proxies: tuple[Network, ...] = (),
) -> AsyncIterator[Stage]:
    """A stage that is cleared at the end."""
    async with trio.open_nursery() as nursery:
        made = Stage(nursery, log)
        try:
            await made.start(style, client or ClientSettings(), pool or Pool(), trusted_proxies)
            yield made
            made.worker.stop()
            made.worker.stop()
            await made.ended.wait()
        finally:
            nursery.cancel_scope.cancel()
            made.clear()

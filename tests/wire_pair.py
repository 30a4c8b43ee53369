"""Both hops in one trio run: a worker between raw clients and scripted origins.

Peers sit on Unix sockets unless a test is about TCP: there the kernel delivers within the system
call, so that once every task is blocked nothing is on its way, and trio's autojump clock may jump
without a race.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hopproxy.observe.access_log import AccessLog
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.server.board import Board
from hopproxy.server.listener import open_listener
from hopproxy.server.runtime import Runtime
from hopproxy.server.sockets import Sockets
from hopproxy.server.worker import Worker
from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.settings.upstream import Pool, UpstreamSettings
from tests.raw_peers import GET, OK, Message, Origin, Peer


def virtual_time(
    test: Callable[[], Awaitable[None]],
    *,
    clock: None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None:
    """Run a test whose time jumps whenever nothing moves; one that hangs ends after a day."""

    async def within_a_day() -> None:
        with trio.fail_after(86400):
            await test()

    trio.run(within_a_day, clock=MockClock(autojump_threshold=0), instruments=instruments)


def in_virtual_time(items: list[pytest.Item], folder: Path) -> None:
    """Run the async tests of this folder in virtual time, in front of what trio_mode has set."""
    within = f"{folder}{os.sep}"
    for item in items:
        if str(item.path).startswith(within) and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=virtual_time), append=False)


class Records(AccessLog):
    """Keeps the record of each exchange."""

    def __init__(self) -> None:
        self.kept: list[ExchangeRecord] = []

    def __call__(self, record: ExchangeRecord) -> None:
        self.kept.append(record)

    async def run(self) -> None:
        await trio.sleep_forever()

    def write_as(self, style: str) -> None:
        """It keeps records, not lines."""


class Another:
    """What a worker sees of another one, which has so many `connections`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.connections = 0

    def is_ahead(self) -> bool:
        return len(self._runtime.clients.links) >= self.connections + 2


class Hops:
    """A worker, the clients that connect to it and the origins it connects to."""

    runtime: Runtime
    worker: Worker

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        self._directory = directory
        self.tcp = False
        self.dual_stack = False
        self.origins: list[Origin] = []
        self.clients: list[Peer] = []
        self.records = Records()
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self.target: str | tuple[str, int] = ""

    async def start(
        self,
        *,
        client: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        pool: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Origin:
        """Start the worker with these settings; its first origin."""
        if not self.origins:
            self.add_origin()
        app = UpstreamSettings(
            origins=tuple(origin.address for origin in self.origins),
            pool=Pool(**(pool or {})),
            **(upstream or {}),
        )
        settings.setdefault("upstreams", {"app": app})
        settings.setdefault("listeners", (Listener(),))
        bind = Bind("tcp", "::", 0) if self.dual_stack else self._bind("gateway")
        sock = open_listener(bind, 128)
        self.target = sock.getsockname()
        if self.dual_stack:  # by IPv4 all the same
            self.target = ("127.0.0.1", sock.getsockname()[1])
        self.worker = Worker(
            Settings(
                client=ClientSettings(**(client or {})),
                **settings,
            ),
            Sockets([sock], None),
            self.records,
        )
        self.runtime = cast("Runtime", await self.nursery.start(self._run))
        return self.origins[0]

    async def _run(self, task_status: trio.TaskStatus[Runtime]) -> None:
        with self.scope:
            await self.worker.run(task_status)
        self.ended.set()

    def beside_another(self) -> Another:
        """From now on, another worker listens as well, but accepts none."""
        another = Another(self.runtime)
        for intake in self.worker._intakes.values():
            intake._board = cast("Board", another)
        return another

    def cancel(self) -> None:
        """Cancel the worker from outside, as no signal does."""
        self.scope.cancel()

    def _bind(self, name: str) -> Bind:
        if self.tcp:
            return Bind("tcp", host="127.0.0.1", port=0)
        return Bind("unix", path=str(self._directory / name))

    def add_origin(self, backlog: int = 128) -> Origin:
        """One more origin, before `start`."""
        sock = open_listener(self._bind(f"origin{len(self.origins)}"), backlog)
        if self.tcp:
            address = OriginAddress("tcp", host="127.0.0.1", port=sock.getsockname()[1])
        else:
            address = OriginAddress("unix", path=sock.getsockname())
        self.origins.append(Origin(sock, address))
        return self.origins[-1]

    async def client(self, *, receive_buffer: int = 0) -> Peer:
        """A new client connection."""
        family = socket.AF_INET if self.tcp else socket.AF_UNIX
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer = Peer(sock)
        self.clients.append(peer)
        await sock.connect(self.target)
        return peer

    async def asked(
        self, request: bytes = GET, origin: int = 0, *, reused: bool = False
    ) -> tuple[Peer, Peer]:
        """A client whose request has reached this origin on a new link.

        With `reused` both links have one good exchange behind them, and the origin is the first.
        """
        if reused:
            client, upstream = await self.pair()
            await client.send(request)
        else:
            client = await self.client()
            await client.send(request)
            upstream = await self.origins[origin].accept()
        await upstream.message()
        return client, upstream

    async def pair(self) -> tuple[Peer, Peer]:
        """A client and an upstream link with one good exchange behind them, both idle."""
        client, upstream = await self.asked()
        await upstream.send(OK)
        await client.message()
        await self.quiet()
        return client, upstream

    async def again(self, client: Peer, upstream: Peer, request: bytes = GET) -> Message:
        """One more exchange on the same two links."""
        await client.send(request)
        await upstream.message()
        await upstream.send(OK)
        return await client.message()

    async def anew(self, client: Peer, origin: int = 0) -> Message:
        """One more exchange, by a new link of this origin."""
        await client.send(GET)
        await self.origins[origin].accept_and_answer()
        return await client.message()

    async def quiet(self) -> None:
        """Wait until nothing moves any more (and no time passes)."""
        await wait_all_tasks_blocked(0.02 if self.tcp else 0.0)

    def closes(self, hop: Hop) -> list[CloseReason]:
        """Why the links of a hop ended, in order."""
        return [close.reason for close in self.runtime.closes.last if close.hop is hop]

    def check_ledger(self) -> None:
        """The books agree with the links that are open."""
        ledger, links = self.runtime.pool.ledger, self.runtime.pool.links
        shares = {*ledger.shares, *links.values()}  # those too that leave
        assert ledger.total == sum(share.size for share in shares)
        assert all(min(share.in_use, share.dialling) >= 0 for share in ledger.shares)
        idle = [link for share in ledger.shares for link in share.idle]
        assert set(idle) <= set(links)
        assert not any(link.transport.closed for link in links)

    def check_at_rest(self) -> None:
        """No client, no link, nothing in use, dialled, or waited for."""
        pool, clients = self.runtime.pool, self.runtime.clients
        self.check_ledger()
        assert not clients.links
        assert not clients.idle
        assert not pool.links
        assert pool.ledger.total == 0, pool.ledger.shares
        assert not any(share.waiters for share in pool.ledger.shares)
        assert pool.ledger.starved() is None

    async def leave(self) -> None:
        """Every peer goes: each side closes."""
        for peer in self.clients:
            peer.close()
        for origin in self.origins:
            origin.end()
        await self.quiet()

    async def end(self) -> None:
        """Peers go, the worker drains; nothing is left."""
        await self.leave()
        self.worker.stop()
        await self.ended.wait()
        self.check_at_rest()


async def two_upstreams(hops: Hops, limit: int, pool: Pool) -> None:
    """Two applications, one origin each, under one total limit: /a and /b."""
    upstreams = {
        name: UpstreamSettings(origins=(hops.add_origin().address,), pool=pool)
        for name in ("a", "b")
    }
    await hops.start(
        upstreams=upstreams,
        routes=tuple(Route(upstream=name, path=f"/{name}") for name in ("a", "b")),
        max_upstream_connections=limit,
    )


def open_files() -> set[str]:
    """What every descriptor of this process is open on."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:  # the directory itself, read a moment ago
            continue
    return found


def tasks() -> set[str]:
    """The tasks of this trio run by name and identity."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, left = set(), [root]
    while left:
        task = left.pop()
        found.add(f"{task.name} {id(task):x}")
        left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """The same descriptors and tasks after as before."""
    before = open_files(), tasks()
    yield
    assert open_files() - before[0] == set()
    assert tasks() - before[1] == set()

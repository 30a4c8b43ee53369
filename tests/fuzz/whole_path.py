"""The whole path in lockstep: client bytes, an in-process gateway on socket pairs, origin bytes.

No wait is real: the far ends act once every task is blocked, and time is a clock that is pushed.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hopproxy.link.dial import Dial, Target
from hopproxy.link.faults import contain
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.proxy import attempt
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.server.runtime import Runtime
from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.fuzz import verdict
from tests.fuzz.corpus import FIN, Case
from tests.fuzz.ends import Attempt, End
from tests.fuzz.h11_reader import Disagreement

SETTINGS = Settings(
    client=ClientSettings(idle_timeout=20, head_timeout=5, body_timeout=5, linger_timeout=2),
    upstreams={
        "app": UpstreamSettings(
            origins=(OriginAddress("unix", path="/fuzz"),), tunnel_timeout=20, body_timeout=5
        )
    },
)
#: Longer than any timeout above and any default, so that one push ends whatever waits.
PUSH = 100.0
MOST_PUSHES = 12
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"


class OwnFault(AssertionError):
    """hopproxy met a fault of its own, whatever both wires say."""


class Logged(logging.Handler):
    """Keeps what hopproxy logs as a warning or worse: nothing that a peer sends is one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(message)s"))  # with the traceback
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Hear the log, alone."""
        log = logging.getLogger("hopproxy")
        propagated, log.propagate = log.propagate, False
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.propagate = propagated


class Stage:
    """The gateway, and the ends that it was given in one run."""

    def __init__(
        self, nursery: trio.Nursery, runtime: Runtime, clock: MockClock, logged: Logged
    ) -> None:
        self.runtime = runtime
        self.clock = clock
        self.logged = logged
        self.attempts: list[Attempt] = []
        self.records: list[ExchangeRecord] = []
        self.clients: list[End] = []
        self.origins: list[End] = []
        self._by_fd: dict[int, End] = {}
        self._gateway = Gateway(runtime, nursery)
        self._entrance = Entrance(runtime.settings, Listener(protocols=("http/1.1",)))
        runtime.terms.log = self.records.append
        self._replies: list[tuple[bytes, ...]] = []

    def answer(self, dial: Dial) -> None:
        """In the place of a dial's beginning."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self.origins.append(End(far))
        self._by_fd[near.fileno()] = self.origins[-1]

        def settle() -> None:
            if dial.closed:
                near.close()
                return
            try:
                dial.settle(near)
            except Exception as error:  # as the watch does with an event
                contain(dial, error)

        trio.lowlevel.current_trio_token().run_sync_soon(settle)

    def note(self, one: attempt.Attempt) -> None:
        """A request goes out on a link."""
        assert isinstance(one.link, UpstreamLink)
        end = self._by_fd[one.link.transport.fd]
        self.attempts.append(Attempt(end, one.record, len(end.said)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Dial and note in the place of, and beside, what hopproxy does."""
        begin_on = attempt.Attempt.begin

        def noted(one: attempt.Attempt, pool: Pool, origin: Origin, upstream: UpstreamLink) -> None:
            begin_on(one, pool, origin, upstream)
            self.note(one)

        def begin(dial: Dial, _: list[Target]) -> None:
            self.answer(dial)

        places: list[tuple[Any, str, Any, Any]] = [
            (Dial, "begin", Dial.begin, begin),
            (attempt.Attempt, "begin", begin_on, noted),
        ]
        for owner, name, _, ours in places:
            setattr(owner, name, ours)
        try:
            yield
        finally:
            for owner, name, theirs, _ in places:
                setattr(owner, name, theirs)

    def admit(self) -> End:
        """A new client's socket."""
        near, far = socket.socketpair()
        end = End(far)
        self.clients.append(end)
        self._gateway.admit(near, self._entrance, "192.0.2.7")
        return end

    def connect(self) -> End:
        """A new client."""
        end = self.admit()
        links = [*self.runtime.clients.links]
        if not links:  # a fault has ended it at once
            self._judge_faults()
        end.link_number = links[-1].number
        return end

    def stop(self) -> None:
        """End every link that a run has left, as a worker does that is cancelled."""
        self._gateway.stop()
        self.runtime.pool.close_idle(CloseReason.STOPPED)
        self.runtime.pool.stop()

    # -- one run -----------------------------------------------------------------------------

    async def run(self, case: Case) -> None:
        """Play a case, judge it, and leave nothing.  Raises Disagreement, OwnFault, Hang or Leak.

        What follows from a fault is not looked at: the fault is what is told.
        """
        self._replies = list(case.replies)
        await self.judged(partial(self._play, case))

    async def judged(self, play: Callable[[], Awaitable[None]]) -> None:
        """Play, and look for faults of hopproxy's own."""
        self._clear()
        try:
            await play()
        except AssertionError:
            self._judge_faults()
            raise
        else:
            self._judge_faults()
        finally:
            for end in (*self.clients, *self.origins):
                end.sock.close()

    def _judge_faults(self) -> None:
        """No traceback and no warning was logged, no link was closed as internal_error, no 500."""
        if self.logged.texts:
            raise OwnFault(self.logged.texts[0])
        for hop in Hop:
            if self.runtime.closes.counts.get((hop, CloseReason.INTERNAL_ERROR)):
                raise OwnFault(f"a {hop.value} link was closed as internal_error")
        for record in self.records:
            if record.cause == "proxy_internal_error":
                raise OwnFault(f"answered {record.status}: {record.detail}")

    async def _play(self, case: Case) -> None:
        client = self.connect()
        for piece in case.client:
            client.say(piece)
            await self.settle(client)
        if FIN not in case.client[-1:]:
            await self.pass_time(client)
        client.say(FIN)
        await self.settle(client)
        prober = await self.probe()
        await self.end()
        self.judge_run(client)
        self.judge_probe(prober)

    def judge_run(self, client: End) -> None:
        """Raise Disagreement unless both wires say what was understood, and no more."""
        verdict.judge(client, self.attempts, self.records)

    async def probe(self) -> End:
        """One more client, with a plain request."""
        prober = self.connect()
        prober.say(PROBE)
        await self.settle(prober)
        prober.say(FIN)
        return prober

    def judge_probe(self, prober: End) -> None:
        """It was answered, and not with what was meant for another."""
        if b"\r\n\r\nprobed!" not in prober.came or not prober.came.startswith(b"HTTP/1.1 200 "):
            raise Disagreement(f"the next client was answered {prober.came!r}")

    def _clear(self) -> None:
        self.logged.texts.clear()
        self.runtime.closes.counts.clear()
        self.attempts.clear()
        self.records.clear()
        self.clients.clear()
        self.origins.clear()

    async def settle(self, client: End) -> None:
        """Let the gateway act and the origins answer until nothing moves."""
        moved = True
        while moved:
            await wait_all_tasks_blocked()
            moved = client.take()
            for origin in self.origins:
                if origin.take():
                    moved = True
                    await self._answer(origin)

    async def pass_time(self, client: End) -> None:
        for _ in range(3):
            if client.ended:
                return
            self.clock.jump(PUSH)
            await self.settle(client)

    async def _answer(self, origin: End) -> None:
        """One reply for each request that has come whole."""
        while origin.next_request():
            pieces = self._replies.pop(0) if self._replies else (FIN,)
            for at, piece in enumerate(pieces):
                if at and piece != FIN:
                    await wait_all_tasks_blocked()
                begun = (piece, b"".join(pieces[: at + 1]))  # a head may come in several pieces
                origin.switched = origin.switched or any(b" 101 " in one[:16] for one in begun)
                origin.say(piece)

    async def end(self) -> None:
        """All peers leave and time passes; a connection that still serves then hangs."""
        for _ in range(MOST_PUSHES):
            for end in (*self.clients, *self.origins):
                end.take()
            await wait_all_tasks_blocked()
            if not self.runtime.clients.links:
                break
            self.clock.jump(PUSH)
            for end in self.origins:
                end.say(FIN)
        for end in (*self.clients, *self.origins):
            end.take()
        if self.runtime.clients.links:
            raise Hang(f"{len(self.runtime.clients.links)} clients are still served")
        pool = self.runtime.pool
        pool.close_idle(CloseReason.STOPPED)
        pool.closing = False
        await wait_all_tasks_blocked()
        if pool.links or pool.ledger.total or self.runtime.clients.links:
            raise Leak(f"left: {pool.links}, {pool.ledger.shares}")


class Hang(AssertionError):
    """A client is served although everybody has left and all time has passed."""


class Leak(AssertionError):
    """A link or a slot is left."""


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A gateway; run it under `MockClock()`."""
    async with set_up(Stage, SETTINGS) as made:
        yield made


S = TypeVar("S", bound=Stage)


@asynccontextmanager
async def set_up(kind: type[S], settings: Settings) -> AsyncIterator[S]:
    """A gateway with these settings."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(1)  # at 0 nothing has happened yet, as records see it
    logged = Logged()
    async with trio.open_nursery() as nursery:
        watch = Watch()
        nursery.start_soon(watch.run)
        made = kind(nursery, Runtime(settings, watch), clock, logged)
        with made.in_place(), logged.in_place():
            try:
                yield made
            finally:
                made.stop()
                nursery.cancel_scope.cancel()

"""Readiness and deadlines for all links of a worker.

Readiness (`link.readiness`).  Events wake the waiting coroutine directly, so a wait costs no system
call.  An idle link that the origin closes is noticed by an event, without polling and without a
task per link.

Deadlines.  A wait only sets an attribute (such as `read_by`).  A heap holds at most one live entry
per transport, due no later than its nearest deadline.  An entry that comes up early is put back.
So moving a deadline later, as nearly every request does, costs nothing.
"""

import heapq
import math
import select
from typing import Protocol

import trio

from hopproxy.link.faults import contain
from hopproxy.link.quiet import Quiet
from hopproxy.link.readiness import Epoll, Polled, Ready
from hopproxy.link.stepper import Waker


class Timed(Protocol):
    """Has a deadline."""

    timer_at: float  # when its live heap entry is due, inf without one

    def on_time(self, now: float) -> float:
        """The entry is due: expire what has timed out, return the next deadline (inf: none)."""

    def on_fault(self, error: Exception) -> None:
        """`on_time` raised an unexpected exception."""


class Watched(Ready, Timed, Protocol):
    """A socket with a deadline: a transport, or a listener."""


class Watch:
    """Calls back for the events and deadlines of every transport of one trio run.

    `now` reads trio's clock.  `later` queues a send for the end of the batch of events.
    """

    def __init__(self) -> None:
        self.now = trio.lowlevel.current_clock().current_time
        self._readiness = Epoll() if hasattr(select, "epoll") else Polled()
        self.later = self._readiness.later
        self._heap: list[tuple[float, int, Timed]] = []
        self._entries = 0
        self._dead = 0
        self._alarm = trio.CancelScope()
        self.brief = Brief(self)
        self.quiet = Quiet(self)

    def gather(self) -> None:
        """Also send at the end of a batch of one event from now on: it may be for many requests."""
        self._readiness.gathers = True

    async def run(self) -> None:
        """Run until cancelled.  No wait ends while this does not run."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._readiness.run)
            await self._keep_time()

    def add(self, transport: Watched) -> None:
        """Watch a transport's socket.  Raises OSError when the kernel's limit is reached."""
        self._readiness.add(transport)

    def add_connecting(self, attempt: Ready) -> None:
        """As `add`, for a socket that is connecting: it is also called back when writable."""
        self._readiness.add(attempt, connecting=True)

    def forget(self, attempt: Ready) -> None:
        """As `remove`, for a socket without a deadline."""
        self._readiness.remove(attempt)

    def add_writing(self, transport: Watched) -> None:
        """Also call back when the socket is writable; used once a send was incomplete."""
        self._readiness.add_writing(transport)

    def look_again(self, ready: Ready) -> None:
        """With the next events call back again, if the socket is still readable."""
        self._readiness.look_again(ready)

    def remove(self, transport: Watched) -> None:
        """Forget a transport.  Call this before its socket is closed."""
        self._readiness.remove(transport)
        self.forget_deadline(transport)
        self.quiet.forget(transport)

    def forget_deadline(self, transport: Timed) -> None:
        """Drop a deadline."""
        if transport.timer_at != math.inf:
            transport.timer_at = math.inf
            self._dead += 1
            if self._dead > 64 and self._dead * 2 > len(self._heap):
                self._sweep()

    def wake_at(self, transport: Timed, deadline: float) -> None:
        """Have `on_time` called at `deadline` or earlier."""
        if deadline >= transport.timer_at or deadline == math.inf:
            return
        if transport.timer_at != math.inf:
            self._dead += 1
        transport.timer_at = deadline
        self._entries += 1
        heapq.heappush(self._heap, (deadline, self._entries, transport))
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline
            self._readiness.stirred = True

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].timer_at == entry[0]]
        heapq.heapify(self._heap)
        self._dead = 0

    async def _keep_time(self) -> None:
        while True:
            self._ring(trio.current_time())
            deadline = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()

    def _ring(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            at, _, transport = heapq.heappop(self._heap)
            if transport.timer_at != at:  # dropped, or replaced by an earlier entry
                self._dead = max(0, self._dead - 1)
                continue
            transport.timer_at = math.inf
            try:
                self.wake_at(transport, transport.on_time(now))
            except Exception as error:
                contain(transport, error)


class Brief:
    """Deadlines of waits that nearly always end before they are due, such as those of dials.

    They share one entry in the heap of the watch, so such a wait costs no work on the heap.  When
    the entry is due, all of them are looked at.
    """

    __slots__ = ("_all", "_watch", "timer_at")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._all: dict[Timed, None] = {}
        self.timer_at = math.inf

    def wake_at(self, timed: Timed, deadline: float) -> None:
        """Have `on_time` called at `deadline` or earlier."""
        if deadline >= timed.timer_at:
            return
        timed.timer_at = deadline
        self._all[timed] = None
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def forget_deadline(self, timed: Timed) -> None:
        """Drop a deadline."""
        if timed.timer_at != math.inf:
            timed.timer_at = math.inf
            del self._all[timed]

    def on_time(self, now: float) -> float:
        """Call those that are due; return when the next one is."""
        for timed in [timed for timed in self._all if timed.timer_at <= now]:
            if timed.timer_at > now:  # an earlier callback has dropped it
                continue
            self.forget_deadline(timed)
            try:
                self.wake_at(timed, timed.on_time(now))
            except Exception as error:
                contain(timed, error)
        return min((timed.timer_at for timed in self._all), default=math.inf)

    def on_fault(self, error: Exception) -> None:
        raise error  # not expected: each callback is contained


class Turn:
    """A wait for the next turn: everything else that is ready comes first."""

    __slots__ = ("timer_at", "waker")

    def __init__(self, watch: Watch) -> None:
        self.waker: Waker | None = None
        self.timer_at = math.inf
        watch.wake_at(self, watch.now())

    def on_time(self, now: float) -> float:
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        raise error  # not expected: a stepper catches the exceptions of its coroutine

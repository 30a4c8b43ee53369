"""Which sockets are ready, and whose time is up: one watch for all the links of a worker.

Readiness (`link.readiness`).  Whoever waits for a link is woken straight from the batch of events,
so that a wait costs no system call and no doomed `recv`; and an idle link's death is seen when it
happens, by an event, not by a poll or by a task that waits beside it.

Deadlines.  A wait sets a plain attribute (`read_by`, say).  One heap holds at most one live
entry for each transport, at or before its nearest deadline; when an entry comes up, whoever is not
yet due is put back.  Moving a deadline later, as nearly every request does, costs nothing.
"""

import heapq
import math
import select
from typing import Protocol

import trio

from hopproxy.link.faults import contain
from hopproxy.link.readiness import Epoll, Polled, Ready
from hopproxy.link.stepper import Waker


class Timed(Protocol):
    """What has a deadline."""

    timer_at: float  # when its live heap entry comes up, inf without one

    def on_time(self, now: float) -> float:
        """Its entry came up: expire what is due, return the next deadline (inf for none)."""

    def on_fault(self, error: Exception) -> None:
        """That met a fault of ours."""


class Watched(Ready, Timed, Protocol):
    """What the watch needs of a transport."""


class Watch:
    """Sees readiness and deadlines for every transport of one trio run.

    `now` reads its clock; `later` lets a sender send at the end of the batch of events.
    """

    def __init__(self) -> None:
        self.now = trio.lowlevel.current_clock().current_time
        self._readiness = Epoll() if hasattr(select, "epoll") else Polled()
        self.later = self._readiness.later
        self._heap: list[tuple[float, int, Timed]] = []
        self._entries = 0
        self._dead = 0
        self._alarm = trio.CancelScope()

    async def run(self) -> None:
        """Serve until cancelled; every wait of every transport rests on this running."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._readiness.run)
            await self._keep_time()

    def add(self, transport: Watched) -> None:
        """Begin to watch a transport's socket.  Raises OSError when the kernel takes no more."""
        self._readiness.add(transport)

    def add_connecting(self, attempt: Ready) -> None:
        """As `add`, for a socket that connects: it is told once it can be written to."""
        self._readiness.add(attempt, connecting=True)

    def forget(self, attempt: Ready) -> None:
        """As `remove`, for what has no deadline."""
        self._readiness.remove(attempt)

    def add_writing(self, transport: Watched) -> None:
        """Watch for room to write as well: asked for once, when a send first fell short."""
        self._readiness.add_writing(transport)

    def remove(self, transport: Watched) -> None:
        """Forget a transport; called before its socket is closed."""
        self._readiness.remove(transport)
        self.forget_deadline(transport)

    def forget_deadline(self, transport: Timed) -> None:
        """Its deadline is of no interest any more."""
        if transport.timer_at != math.inf:
            transport.timer_at = math.inf
            self._dead += 1
            if self._dead > 64 and self._dead * 2 > len(self._heap):
                self._sweep()

    def wake_at(self, transport: Timed, deadline: float) -> None:
        """Make sure that `on_time` is called at `deadline` or before."""
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
            if transport.timer_at != at:  # moved earlier since, or gone
                self._dead = max(0, self._dead - 1)
                continue
            transport.timer_at = math.inf
            try:
                self.wake_at(transport, transport.on_time(now))
            except Exception as error:
                contain(transport, error)


class Turn:
    """The wait for one's next turn: everybody else who is ready comes first."""

    __slots__ = ("timer_at", "waker")

    def __init__(self, watch: Watch) -> None:
        self.waker: Waker | None = None
        self.timer_at = math.inf
        watch.wake_at(self, watch.now())

    def on_time(self, now: float) -> float:
        """It has come."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        """A stepper deals with the faults of its coroutine itself."""
        raise error

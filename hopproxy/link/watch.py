"""Which sockets are ready, and whose time is up: one watch for all the links of a worker.

Readiness.  Each socket is registered once, edge-triggered, and stays so for its life.  A link parks
its task here and is woken straight from the batch of events, so that a wait costs no system call
and no doomed `recv`; and an idle link's death is seen when it happens, by an event, not by a poll
or by a task that waits beside it.

Deadlines.  A wait sets a plain attribute (`read_by`, `write_by`).  One heap holds at most one live
entry for each transport, at or before its nearest deadline; when an entry comes up, whoever is not
yet due is put back.  Moving a deadline later, as nearly every request does, costs nothing.
"""

import errno
import heapq
import math
import select
from typing import Protocol

import trio


class Watched(Protocol):
    """What the watch needs of a transport."""

    fd: int
    closed: bool
    readable: bool
    urgent: bool
    timer_at: float  # when its live heap entry comes up, inf without one

    def on_event(self, hung_up: bool) -> None:
        """Its socket became readable, writable or hung up."""

    def on_time(self, now: float) -> float:
        """Its entry came up: expire what is due, return the next deadline (inf for none)."""


class Watch:
    """Sees readiness and deadlines for every transport of one trio run.  `now` reads its clock."""

    def __init__(self) -> None:
        self.now = trio.lowlevel.current_clock().current_time
        self._readiness = _Epoll() if hasattr(select, "epoll") else _Polled()
        self._heap: list[tuple[float, int, Watched]] = []
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

    def add_writing(self, transport: Watched) -> None:
        """Watch for room to write as well: asked for once, when a send first fell short."""
        self._readiness.add_writing(transport)

    def remove(self, transport: Watched) -> None:
        """Forget a transport; called before its socket is closed."""
        self._readiness.remove(transport)
        if transport.timer_at != math.inf:
            transport.timer_at = math.inf
            self._dead += 1
            if self._dead > 64 and self._dead * 2 > len(self._heap):
                self._sweep()

    def wake_at(self, transport: Watched, deadline: float) -> None:
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
            self.wake_at(transport, transport.on_time(now))


class _Epoll:
    """Linux: one edge-triggered epoll, itself waited for by one task."""

    _URGENT = getattr(select, "EPOLLPRI", 0)
    _READ = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLRDHUP", 0) | _URGENT
    _EDGE = getattr(select, "EPOLLET", 0)
    _OUT = getattr(select, "EPOLLOUT", 0)
    _USUAL = getattr(select, "EPOLLIN", 0) | _OUT | _URGENT
    BATCH = 128

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._transports: dict[int, Watched] = {}

    def add(self, transport: Watched) -> None:
        if self._epoll.closed:
            raise OSError(errno.EBADF, "the watch has ended")
        self._epoll.register(transport.fd, self._READ | self._EDGE)
        self._transports[transport.fd] = transport

    def add_writing(self, transport: Watched) -> None:
        self._epoll.modify(transport.fd, self._READ | self._OUT | self._EDGE)

    def remove(self, transport: Watched) -> None:
        # Closing the descriptor, which follows, takes it out of the epoll: no call for that.
        self._transports.pop(transport.fd, None)

    async def run(self) -> None:
        find = self._transports.get
        poll, usual, batch = self._epoll.poll, self._USUAL, self.BATCH
        urgent = self._URGENT
        wait_readable, fd = trio.lowlevel.wait_readable, self._epoll.fileno()
        try:
            while True:
                await wait_readable(fd)
                events = [(find(ready), mask) for ready, mask in poll(0, batch)]
                # First all that is readable is known, then it is acted on: a request that came
                # together with stray bytes of an idle upstream link must not go out on that link.
                for transport, _ in events:
                    if transport is not None:
                        transport.readable = True
                for transport, mask in events:
                    if transport is not None and not transport.closed:
                        if mask & urgent:
                            transport.urgent = True
                        transport.on_event(bool(mask & ~usual))
        finally:
            self._transports.clear()  # cancelled, and links may still close after this
            self._epoll.close()


class _Polled:
    """Elsewhere (macOS): the same edges out of `poll`, looked for while the loop is otherwise idle.

    Only for local development: its cost grows with the number of links.
    """

    INTERVAL = 0.002

    def __init__(self) -> None:
        self._poll = select.poll()
        self._transports: dict[int, Watched] = {}

    def add(self, transport: Watched) -> None:
        self._transports[transport.fd] = transport
        self._poll.register(transport.fd, select.POLLIN)

    def add_writing(self, transport: Watched) -> None:
        self._poll.modify(transport.fd, select.POLLIN | select.POLLOUT)

    def remove(self, transport: Watched) -> None:
        if self._transports.pop(transport.fd, None) is not None:
            self._poll.unregister(transport.fd)

    async def run(self) -> None:
        usual = select.POLLIN | select.POLLOUT
        while True:
            await trio.sleep(self.INTERVAL)
            for ready, events in self._poll.poll(0):
                transport = self._transports.get(ready)
                if transport is not None:
                    transport.on_event(bool(events & ~usual))

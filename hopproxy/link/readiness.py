"""Which sockets are ready: edge-triggered events from the kernel, and the callbacks they run.

With trio's own functions each wait costs a task switch and a system call.  Here each socket is
registered once, edge-triggered, in one epoll, and events call the links directly; often no task
runs at all.  Then the largest cost is one turn of trio's loop for each batch of events.  So our
epoll waits instead of trio, in the instrument hook that trio calls before it waits for I/O
(`before_io_wait`), with the time for which no task has anything to do.  Trio's own epoll is
registered in ours.  When a task can run or a deadline has passed, trio must not wait.  Then we
write to an eventfd (the *bell*) which a task waits for, and trio's wait returns at once.

The hook is used only where it is safe:

- Trio's epoll must be identified with certainty: a pipe made for this purpose is looked up in
  `/proc/self/fdinfo` by number and inode, so an epoll inherited over a fork is not mistaken for it.
- Trio must own its thread.  In guest mode the hook would block the host loop.

Everywhere else our epoll is nested: a task waits until it is readable.  Systems without epoll
(macOS) call `poll` every two milliseconds.
"""

import errno
import os
import select
from typing import Protocol

import trio
from trio.lowlevel import current_statistics, wait_readable

from hopproxy.link.faults import contain
from hopproxy.link.trio_epoll import find_epoll, is_guest

#: Whether an epoll already waits in the hook of this trio run.  A second one must be nested.
_hooked: "trio.lowlevel.RunVar[bool]" = trio.lowlevel.RunVar("epoll in the hook", False)
#: Most events handled before tasks get their turn.
BATCH = 128
#: Seconds by which an epoll wait may return before its deadline.
EARLY = 0.002
#: Trio waits less than this when it only checks whether all tasks are blocked.
CUSHION = 0.25


class Ready(Protocol):
    """A socket's owner, called for its events."""

    fd: int
    closed: bool
    readable: bool
    urgent: bool

    def on_ready(self, hung_up: bool) -> None:
        """The socket became readable or writable, or the peer closed it (`hung_up`)."""

    def on_fault(self, error: Exception) -> None:
        """`on_ready` raised an unexpected exception: end this connection, and only this one."""


class Outgoing(Protocol):
    """Has queued something to send at the end of a batch of events."""

    def send_queued(self) -> None:
        """The batch is over: send."""

    def on_fault(self, error: Exception) -> None:
        """`send_queued` raised an unexpected exception."""


class Batches:
    """Calls back for events, one batch at a time; what the callbacks queue is sent at its end.

    Sends in a row cost a third less than sends with other work between them, because the receiver
    is still awake.  No send waits for more than `TOGETHER` callbacks.
    """

    TOGETHER = 32
    _URGENT = 0
    _PLAIN = 0  # events that do not mean the peer has closed

    def __init__(self) -> None:
        #: True once a callback made a task runnable or moved a deadline earlier.
        self.stirred = False
        self._sockets: dict[int, Ready] = {}
        self._outgoing: list[Outgoing] = []
        self._telling = False
        #: Whether one event may be for many requests, as those of HTTP/2 are.
        self.gathers = False

    def later(self, sender: Outgoing) -> bool:
        """Call `send_queued` at the end of this batch and return True.

        Outside a batch it is called at once, and the result is False.
        """
        if self._telling:
            self._outgoing.append(sender)
            return True
        sender.send_queued()
        return False

    def tell(self, events: list[tuple[int, int]]) -> None:
        """Call back for one batch of events."""
        find = self._sockets.get
        found = [(find(fd), mask) for fd, mask in events]  # None: no longer watched
        if len(found) > 1:
            # Mark everything readable before any callback runs: a request that arrives together
            # with stray bytes on an idle upstream link must not be sent on that link.
            for ready, _ in found:
                if ready is not None:
                    ready.readable = True
        if len(found) <= self.TOGETHER:
            self._tell_together(found)
            return
        for first in range(0, len(found), self.TOGETHER):
            self._tell_together(found[first : first + self.TOGETHER])

    def _tell_together(self, found: list[tuple[Ready | None, int]]) -> None:
        plain = self._PLAIN
        self._telling = len(found) > 1 or self.gathers
        try:
            for ready, mask in found:
                if ready is None or ready.closed:
                    continue
                try:
                    if mask & plain == mask:
                        ready.on_ready(False)
                    else:
                        if mask & self._URGENT:
                            ready.urgent = True
                        ready.on_ready(bool(mask & ~(plain | self._URGENT)))
                except Exception as error:
                    contain(ready, error)
        finally:
            self._telling = False
        if self._outgoing:
            for sender in self._outgoing:
                try:
                    sender.send_queued()
                except Exception as error:
                    contain(sender, error)
            self._outgoing.clear()


class TrioEvents:
    """trio's own epoll inside ours: `seen` once trio has events of its own to look at."""

    __slots__ = ("closed", "fd", "readable", "seen", "urgent")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = self.readable = self.seen = self.urgent = False

    def on_ready(self, hung_up: bool) -> None:
        self.seen = True

    def on_fault(self, error: Exception) -> None:
        raise error  # not expected


class Epoll(Batches, trio.abc.Instrument):
    """Linux: one edge-triggered epoll for all sockets.  `run` must be running."""

    _URGENT = getattr(select, "EPOLLPRI", 0)
    _READ = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLRDHUP", 0) | _URGENT
    _EDGE = getattr(select, "EPOLLET", 0)
    _OUT = getattr(select, "EPOLLOUT", 0)
    _PLAIN = getattr(select, "EPOLLIN", 0) | _OUT

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._now = trio.lowlevel.current_clock().current_time
        self._trio = TrioEvents(-1)
        self._bell = -1
        self._fault: BaseException | None = None

    def add(self, ready: Ready, *, connecting: bool = False) -> None:
        """Watch a socket, or give one that is watched already a new owner.

        Raises OSError when the kernel's limit is reached.
        """
        if self._epoll.closed:
            raise OSError(errno.EBADF, "the watch has ended")
        mask = self._READ | self._EDGE | (self._OUT if connecting else 0)
        try:
            self._epoll.register(ready.fd, mask)
        except FileExistsError:
            self._epoll.modify(ready.fd, mask)
        self._sockets[ready.fd] = ready

    def add_writing(self, ready: Ready) -> None:
        """Watch for room to write as well."""
        self._epoll.modify(ready.fd, self._READ | self._OUT | self._EDGE)

    def look_again(self, ready: Ready) -> None:
        """Report the socket once more if it is still readable."""
        self._epoll.modify(ready.fd, self._READ | self._EDGE)

    def remove(self, ready: Ready) -> None:
        """Forget a socket that is about to be closed or to get another owner."""
        # Closing the descriptor removes it from the epoll without a system call.
        self._sockets.pop(ready.fd, None)

    async def run(self) -> None:
        """Handle events until cancelled."""
        self._bell = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            await wait_readable(self._bell)
            loop = None if _hooked.get() or is_guest() else await find_epoll()
            if loop is None:
                await self._run_nested()
            else:
                self._trio = TrioEvents(loop)
                await self._run_hooked()
        finally:
            self._sockets.clear()  # links may be closed after this
            self._epoll.close()
            os.close(self._bell)

    async def _run_hooked(self) -> None:
        self._epoll.register(self._trio.fd, select.EPOLLIN)
        self._sockets[self._trio.fd] = self._trio
        _hooked.set(True)
        trio.lowlevel.add_instrument(self)
        try:
            while self._fault is None:
                os.eventfd_read(self._bell)
                await wait_readable(self._bell)
            raise self._fault
        finally:
            _hooked.set(False)
            trio.lowlevel.remove_instrument(self)

    async def _run_nested(self) -> None:
        ours = self._epoll.fileno()
        while True:
            await wait_readable(ours)
            self.tell(self._epoll.poll(0, BATCH))

    def before_io_wait(self, timeout: float) -> None:
        """Wait for events in trio's place for as long as no task has anything to do."""
        try:
            self._wait(timeout)
        except BaseException as fault:  # trio would only log it: let the task raise it
            self._fault = fault
            os.eventfd_write(self._bell, 1)

    def task_scheduled(self, _: trio.lowlevel.Task) -> None:
        self.stirred = True

    def _wait(self, timeout: float) -> None:
        poll, own, now = self._epoll.poll, self._trio, self._now
        busy = timeout <= 0  # trio has tasks to run, or a test clock that jumps
        told = self.stirred = False
        end = now() + timeout
        while True:
            events = poll(timeout, BATCH)
            if events:
                self.tell(events)
                if own.seen:
                    own.seen = False
                    return
                if not (busy or self.stirred) and (timeout := end - now()) > 0:
                    told = True  # only links were called: no need to look at trio's state
                    continue
            elif busy and not told:
                return
            state = current_statistics()
            left = state.seconds_to_next_deadline
            far = left > EARLY or end - now() > EARLY  # or a test's clock has stood still
            if not events and not told and far and timeout < CUSHION:
                return  # not a deadline: trio checks whether all tasks are blocked (tests)
            timeout = min(timeout, left)
            told = True
            if busy and state.tasks_runnable:
                return
            if busy or not events or timeout <= 0 or state.tasks_runnable:
                break
        os.eventfd_write(self._bell, 1)


class Polled(Batches):
    """Systems without epoll (macOS): the same events from `poll`, every two milliseconds.

    For development only: the cost grows with the number of links.
    """

    INTERVAL = 0.002
    _READ = select.POLLIN | getattr(select, "POLLRDHUP", 0)  # POLLHUP: both sides have closed
    _PLAIN = select.POLLIN | select.POLLOUT

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()

    def add(self, ready: Ready, *, connecting: bool = False) -> None:
        self._sockets[ready.fd] = ready
        self._poll.register(ready.fd, self._READ | (select.POLLOUT if connecting else 0))

    def add_writing(self, ready: Ready) -> None:
        self._poll.modify(ready.fd, self._READ | select.POLLOUT)

    def look_again(self, ready: Ready) -> None:
        """Nothing to do: `poll` reports a socket as long as it is readable."""

    def remove(self, ready: Ready) -> None:
        if self._sockets.pop(ready.fd, None) is not None:
            self._poll.unregister(ready.fd)

    async def run(self) -> None:
        while True:
            await trio.sleep(self.INTERVAL)
            self.tell(self._poll.poll(0))

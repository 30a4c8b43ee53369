"""Which sockets are ready: edges from the kernel, and who is told of them.

Trio's own way costs a task and a system call for each wait.  Here every socket of a link is
registered once, edge-triggered, in one epoll, and links act on their events directly; in the best
case no task runs at all.  Then a turn of trio's loop for each batch of events would be most of what
is left.  So the epoll is waited on where trio would wait for I/O itself: in the hook before that
(`trio.abc.Instrument.before_io_wait`), which says for how long no task has anything to do.  Trio's
own epoll is one of the descriptors watched there.  Once a task can run, or a deadline has passed,
trio's wait must end at once: then a bell, an eventfd that a task waits for, is rung.

The hook is used only where that is safe.  Trio's epoll must be found for certain: by a pipe made
for the purpose, whose inode the kernel shows beside its number, so that an epoll inherited over a
fork is never taken for it.  And trio must own its thread: as a guest of another loop (guest mode)
the hook would hold that loop up.  Anywhere else our epoll is nested: a task waits for it.  Where
there is no epoll (macOS), `poll` is asked every two milliseconds.
"""

import contextlib
import errno
import os
import re
import select
from pathlib import Path
from typing import Protocol

import trio
from trio.lowlevel import current_statistics, wait_readable

from hopproxy.link.faults import contain

#: Whether an epoll waits in the hook of this run of trio: another one is nested.
_hooked: "trio.lowlevel.RunVar[bool]" = trio.lowlevel.RunVar("epoll in the hook", False)
#: What Linux tells of each descriptor of a process, an epoll's own ones among it.
FDINFO = "/proc/self/fdinfo"
#: Events taken in one go before tasks get their turn.
BATCH = 128
#: By how many seconds a wait may seem to have ended before its deadline.
EARLY = 0.002
#: Trio waits no longer than so for all tasks to be blocked.
CUSHION = 0.25


class Ready(Protocol):
    """What is told of a socket."""

    fd: int
    closed: bool
    readable: bool
    urgent: bool

    def on_ready(self, hung_up: bool) -> None:
        """Its socket became readable, writable or hung up."""

    def on_fault(self, error: Exception) -> None:
        """Telling it of an event met a fault of ours: it must end, and nothing else."""


class Outgoing(Protocol):
    """Who has something to send at the end of a batch of events."""

    def send_queued(self) -> None:
        """The batch is over: send."""

    def on_fault(self, error: Exception) -> None:
        """Sending met a fault of ours."""


class Batches:
    """Tells of events, a batch at a time; what they make others send goes out at its end.

    Sends that follow each other at once cost a third less than sends with work between: whoever
    receives is awake still.  Nothing waits for more than `TOGETHER` of them.
    """

    TOGETHER = 32
    _URGENT = 0
    _PLAIN = 0  # what tells of no end

    def __init__(self) -> None:
        #: True once a callback made a task runnable or moved a deadline earlier.
        self.stirred = False
        self._sockets: dict[int, Ready] = {}
        self._outgoing: list[Outgoing] = []
        self._telling = False

    def later(self, sender: Outgoing) -> bool:
        """Let it send at the end of this batch of events; False, and at once, outside of one."""
        if self._telling:
            self._outgoing.append(sender)
            return True
        sender.send_queued()
        return False

    def tell(self, events: list[tuple[int, int]]) -> None:
        """Tell of what one look found."""
        find = self._sockets.get
        found = [(find(fd), mask) for fd, mask in events]  # None where the socket has gone
        # First all that is readable is known, then it is acted on: a request that came together
        # with stray bytes of an idle upstream link must not go out on that link.
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
        self._telling = len(found) > 1
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


class Epoll(Batches, trio.abc.Instrument):
    """Linux: one edge-triggered epoll for all sockets; `run` serves it."""

    _URGENT = getattr(select, "EPOLLPRI", 0)
    _READ = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLRDHUP", 0) | _URGENT
    _EDGE = getattr(select, "EPOLLET", 0)
    _OUT = getattr(select, "EPOLLOUT", 0)
    _PLAIN = getattr(select, "EPOLLIN", 0) | _OUT

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._now = trio.lowlevel.current_clock().current_time
        self._loop = -1  # trio's epoll
        self._bell = -1
        self._fault: BaseException | None = None

    def add(self, ready: Ready, *, connecting: bool = False) -> None:
        """Begin to watch a socket, which may have been watched for another before.

        Raises OSError when the kernel takes no more.
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

    def remove(self, ready: Ready) -> None:
        """Forget a socket that is about to be closed, or watched for another."""
        # Closing the descriptor, which follows, takes it out of the epoll: no call for that.
        self._sockets.pop(ready.fd, None)

    async def run(self) -> None:
        """Tell of events until cancelled."""
        self._bell = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            await wait_readable(self._bell)
            loop = None if _hooked.get() or _is_guest() else await _find_epoll()
            if loop is None:
                await self._run_nested()
            else:
                self._loop = loop
                await self._run_hooked()
        finally:
            self._sockets.clear()  # cancelled, and links may still close after this
            self._epoll.close()
            os.close(self._bell)

    async def _run_hooked(self) -> None:
        self._epoll.register(self._loop, select.EPOLLIN)
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
        """Wait in trio's place, as long as it has nothing to do; tell of events."""
        try:
            self._wait(timeout)
        except BaseException as fault:  # out of a hook it would only be logged: the task raises it
            self._fault = fault
            os.eventfd_write(self._bell, 1)

    def task_scheduled(self, _: trio.lowlevel.Task) -> None:
        """A task can run."""
        self.stirred = True

    def _wait(self, timeout: float) -> None:
        poll, loop, now = self._epoll.poll, self._loop, self._now
        busy = timeout <= 0  # trio will not wait: it has tasks to run, or a clock that jumps
        told = self.stirred = False
        end = now() + timeout
        while True:
            events = poll(timeout, BATCH)
            if events:
                self.tell(events)
                if (loop, select.EPOLLIN) in events:
                    return
                if not (busy or self.stirred) and (timeout := end - now()) > 0:
                    told = True  # nothing but links has moved: to ask trio of it would cost more
                    continue
            elif busy and not told:
                return
            state = current_statistics()
            left = state.seconds_to_next_deadline
            if not events and not told and left > EARLY and timeout < CUSHION:
                return  # nobody's deadline: trio finds out whether all tasks are blocked (tests)
            timeout = min(timeout, left)
            told = True
            if busy and state.tasks_runnable:
                return
            if busy or not events or timeout <= 0 or state.tasks_runnable:
                break
        os.eventfd_write(self._bell, 1)


def _is_guest() -> bool:
    """Whether trio runs inside another loop, or may."""
    context = getattr(trio._core._run, "GLOBAL_RUN_CONTEXT", None)
    guest = getattr(getattr(context, "runner", None), "is_guest", None)
    return guest is not False


async def _find_epoll() -> int | None:
    """The epoll of this trio run; None where the kernel does not tell."""
    try:
        mark, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # denied, or no descriptor is left
        return None
    try:
        os.write(end, b"x")
        await wait_readable(mark)
        return _epoll_of(mark)
    finally:
        trio.lowlevel.notify_closing(mark)
        os.close(mark)
        os.close(end)


def _epoll_of(fd: int) -> int | None:
    """The one epoll of this process that watches `fd`, by its number and its inode."""
    inode = os.fstat(fd).st_ino
    watches = re.compile(rf"^tfd:\s*{fd}\s.*\bino:0*{inode:x}\b", re.MULTILINE)
    found = []
    try:
        for entry in Path(FDINFO).iterdir():
            with contextlib.suppress(OSError):  # the descriptor with which the folder is read
                if watches.search(entry.read_text()):
                    found.append(int(entry.name))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


class Polled(Batches):
    """Elsewhere (macOS): the same edges out of `poll`, asked every two milliseconds.

    Only for local development: its cost grows with the number of links.
    """

    INTERVAL = 0.002
    _READ = select.POLLIN | getattr(select, "POLLRDHUP", 0)  # POLLHUP alone tells of both sides
    _PLAIN = select.POLLIN | select.POLLOUT

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()

    def add(self, ready: Ready, *, connecting: bool = False) -> None:
        self._sockets[ready.fd] = ready
        self._poll.register(ready.fd, self._READ | (select.POLLOUT if connecting else 0))

    def add_writing(self, ready: Ready) -> None:
        self._poll.modify(ready.fd, self._READ | select.POLLOUT)

    def remove(self, ready: Ready) -> None:
        if self._sockets.pop(ready.fd, None) is not None:
            self._poll.unregister(ready.fd)

    async def run(self) -> None:
        while True:
            await trio.sleep(self.INTERVAL)
            self.tell(self._poll.poll(0))

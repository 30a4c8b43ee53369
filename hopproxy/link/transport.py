"""Waiting for a socket: a task that parks with a deadline, or a callback where there is none.

The seam of both hops: above it there are bytes, below it system calls.  A receive or send that is
ready runs without a checkpoint; one that is not parks its task in the `Watch`.
"""

import math
import socket
from collections.abc import Callable
from typing import Protocol

import trio
from trio.lowlevel import current_task, reschedule, wait_task_rescheduled

from hopproxy.errors import LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE, Endpoint
from hopproxy.link.watch import Watch
from hopproxy.record import CloseReason, Hop

#: Receives in a row that need no wait before the others get a turn.
TURN = 16


class Owner(Protocol):
    """Who is told of what happens on a socket while no task waits there."""

    def on_unawaited(self, hung_up: bool) -> None:
        """Bytes came, or (`hung_up`) the peer closed its side or reset the connection."""

    def on_lapsed(self) -> None:
        """The deadline of a transport at rest has passed."""


class Transport(Endpoint):
    """A connected stream socket, owned by one link, and who waits for it."""

    __slots__ = (
        "_error",
        "_reader",
        "_rouse",
        "_streak",
        "_watch",
        "_writer",
        "_writing",
        "express",
        "late",
        "now",
        "owner",
        "read_by",
        "resting",
        "timer_at",
        "write_by",
    )

    def __init__(self, sock: socket.socket, watch: Watch, hop: Hop) -> None:
        super().__init__(sock, hop)
        self._watch = watch
        self.late = CloseReason.IDLE_TIMEOUT
        self.now = watch.now
        self.owner: Owner | None = None
        #: Called at the next event where no task waits for it itself: set by `park`.
        self.express: Callable[[], None] | None = None
        self.resting = False
        self.read_by = math.inf
        self.write_by = math.inf
        self.timer_at = math.inf
        self._reader: trio.lowlevel.Task | None = None
        self._rouse: Callable[[], None] | None = None
        self._writer: trio.lowlevel.Task | None = None
        self._error: Exception | None = None
        self._writing = False
        self._streak = 0
        watch.add(self)

    # -- waiting -----------------------------------------------------------------------------

    async def receive(self, deadline: float, late: CloseReason, size: int = RECEIVE_SIZE) -> bytes:
        """The next bytes, b"" at FIN.  A checkpoint if nothing is at hand, and after each `TURN`.

        Raises LinkError: `late` past `deadline`, PEER_RESET, or what `interrupt` was given.
        """
        while True:
            await self.until_readable(deadline, late)
            data = self.receive_now(size)
            if data is not None:
                return data

    async def until_readable(self, deadline: float, late: CloseReason) -> None:
        """Wait until there may be something to read.  A checkpoint, and raises, as `receive`."""
        if self.readable:
            self._streak += 1
            if self._streak >= TURN:
                self._streak = 0
                await trio.lowlevel.checkpoint()
            return
        self._streak = 0
        self.late = late
        self.wait_until(deadline)
        self._reader = current_task()
        await wait_task_rescheduled(self._abort_reading)
        self._raise_error()

    def park(
        self,
        express: Callable[[], None],
        rouse: Callable[[], None],
        deadline: float,
        late: CloseReason,
    ) -> None:
        """Nobody waits here, and `express` is called at each event.

        At `interrupt`, and past `deadline` (`late`), `rouse` is; `take_error` then says why.
        """
        self.express = express
        self._rouse = rouse
        self.read_by = deadline
        self.late = late
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def unpark(self) -> None:
        """Undo `park`."""
        self.express = self._rouse = None

    def take_error(self) -> Exception | None:
        """Why a wait has ended, None if nothing went wrong."""
        error, self._error = self._error, None
        return error

    def _raise_error(self) -> None:
        try:
            if self._error is not None:
                raise self._error
        finally:
            self._error = None  # no variable: it would hold the frame that holds it

    async def send_rest(self, rest: memoryview, patience: float) -> None:
        """Send what `send_now` left over.  A checkpoint.

        Raises LinkError: WRITE_TIMEOUT when no byte was accepted for `patience` s, PEER_RESET.
        """
        self.tell_of_room()
        deadline = self.now() + patience
        while rest:
            self.write_by = deadline
            if deadline < self.timer_at:
                self._watch.wake_at(self, deadline)
            self._writer = current_task()
            await wait_task_rescheduled(self._abort_writing)
            self._raise_error()
            count = self.send_now(rest)
            if count:  # an event alone is no progress: the peer may just have said something
                rest = rest[count:]
                deadline = self.now() + patience

    @property
    def waits_for_room(self) -> bool:
        """Whether a task has more to send than the peer takes."""
        return self._writer is not None

    def tell_of_room(self) -> None:
        """From now on there is an event as well when the peer takes more."""
        if not self._writing:
            self._writing = True
            self._watch.add_writing(self)

    def _expired(self, reason: CloseReason) -> LinkError:
        return LinkError(self.hop, reason, f"{reason.label.replace('_', ' ')} passed")

    def _abort_reading(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_writing(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    # -- being told --------------------------------------------------------------------------

    def on_event(self, hung_up: bool) -> None:
        """The watch saw an edge on the socket."""
        self.readable = True
        if hung_up:
            self.hung_up = True
        if self.express is not None:
            self.express()
            return
        writer = self._writer
        if writer is not None:
            self._writer = None
            reschedule(writer)
        reader = self._reader
        if reader is not None:
            self._reader = None
            reschedule(reader)
        elif self.owner is not None:
            self.owner.on_unawaited(self.hung_up)

    def on_time(self, now: float) -> float:
        """The watch's entry came up: expire what is due; the next deadline."""
        awaited = self._reader is not None or self.express is not None
        if self.read_by <= now and awaited:
            self.interrupt(self._expired(self.late))
        elif self.read_by <= now and self.resting and self.owner is not None:
            self.resting = False
            self.owner.on_lapsed()
        if self.write_by <= now:
            self._end_writing(self._expired(CloseReason.WRITE_TIMEOUT))
        if self.closed:
            return math.inf
        waiting = self._reader is not None or self.express is not None or self.resting
        return min(
            self.read_by if waiting else math.inf,
            self.write_by if self._writer is not None else math.inf,
        )

    def interrupt(self, error: Exception) -> bool:
        """Raise `error` in the task that waits to receive; False when nobody does."""
        reader, self._reader = self._reader, None
        express, self.express = self.express, None
        if reader is None and express is None:
            return False
        self._error = error
        if reader is not None:
            reschedule(reader)
        elif self._rouse is not None:
            rouse, self._rouse = self._rouse, None
            rouse()
        return True

    def _end_writing(self, error: Exception) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._error = error
            reschedule(writer)

    def wait_until(self, deadline: float) -> None:
        """Move the deadline of the wait to receive, whether it has begun or will not be parked."""
        self.read_by = deadline
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def rest_until(self, deadline: float) -> None:
        """No task waits here now; `owner.on_lapsed` is called at `deadline`."""
        self.resting = True
        self.wait_until(deadline)

    # -- ending ------------------------------------------------------------------------------

    def close(self, *, reset: bool = False) -> None:
        """Close the socket, once.  `reset` sends RST, so that no body looks whole."""
        if self.closed:
            return
        self.closed = True
        self.resting = False
        self._watch.remove(self)
        self._shut(reset=reset)
        if self._reader is not None or self._writer is not None or self.express is not None:
            closed = self.broken(OSError("closed on this side"))
            self.interrupt(closed)
            self._end_writing(closed)
        self.owner = self._rouse = None  # a ring: uncut, Python would have to stop to search for it

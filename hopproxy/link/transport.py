"""Waiting for a socket: deadlines, events, and whoever waits for them.

The seam of both hops: above it there are bytes and waits, below it an endpoint.  A receive or send
that is ready does not wait; one that is not yields to the stepper of its coroutine
(`link.stepper`), and the watch's next event goes on with it.
"""

from __future__ import annotations

import math
from typing import Protocol

from hopproxy.errors import LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE, Endpoint
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.watch import Turn, Watch
from hopproxy.record import CloseReason, Hop

#: Receives in a row that need no wait before the others get a turn.
TURN = 16


class Owner(Protocol):
    """The link, as its transport tells it of what nobody waits for."""

    def on_unawaited(self, hung_up: bool) -> None:
        """Bytes came, or (`hung_up`) the peer closed its side or reset the connection."""

    def on_lapsed(self) -> None:
        """The deadline of a transport at rest has passed."""

    def on_fault(self, error: Exception) -> None:
        """A fault of ours, and nobody waits who could be told: the link must end."""


class Room:
    """The wait for room to send.  `by` is its deadline, `error` why it ended without any."""

    __slots__ = ("by", "error", "waker")

    def __init__(self) -> None:
        self.waker: Waker | None = None
        self.by = math.inf
        self.error: Exception | None = None


class Transport:
    """A connected endpoint, owned by one link, and who waits for it.

    As a `Wait` it is the wait for something to read.  `readable` while there may be something:
    only an event, or a receive that finds nothing, changes it.  `hung_up` is true once the peer has
    closed its side or reset; bytes may still be unread then.  `sent` and `received` count bytes.
    `error` is why a wait has ended, if not by an event.
    """

    __slots__ = (
        "_room", "_streak", "_watch", "closed", "endpoint", "error", "fd", "hop",
        "hung_up", "late", "now", "owner", "read_by", "readable", "received", "resting",
        "send_later", "sent", "timer_at", "urgent", "waker",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, watch: Watch, hop: Hop) -> None:
        self.endpoint = endpoint
        self.fd = endpoint.fd
        self.hop = hop
        self._watch = watch
        self.now = watch.now
        #: Let a sender send at the end of this batch of events; False, and at once, outside of one.
        self.send_later = watch.later
        self.owner: Owner | None = None
        self.waker: Waker | None = None
        self.closed = False
        self.readable = False
        self.hung_up = False
        self.urgent = False  # urgent data has come: a receive may stop short at its mark
        self.resting = False
        self.sent = 0
        self.received = 0
        self.late = CloseReason.IDLE_TIMEOUT
        self.read_by = math.inf
        self.timer_at = math.inf
        self._room: Room | None = None  # from the first send that fell short
        self.error: Exception | None = None
        self._streak = 0
        watch.add(self)

    # -- what is ready -----------------------------------------------------------------------

    def receive_now(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """What is at hand, b"" at the end of the stream, None if nothing is.  Raises LinkError."""
        try:
            data = self.endpoint.receive(size)
        except BlockingIOError:
            self.readable = self.hung_up = False
            return None
        except OSError as error:
            raise self.broken(error) from error
        if len(data) < size and not (self.hung_up or self.urgent):
            self.readable = not data  # at the end of the stream there is always more of it
        self.received += len(data)
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what is taken at once; how many bytes that were.  Raises LinkError."""
        try:
            count = self.endpoint.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.broken(error) from error
        self.sent += count
        return count

    def broken(self, error: Exception) -> LinkError:
        """The connection was reset under us, or lost on the way."""
        return LinkError(self.hop, CloseReason.PEER_RESET, f"the connection broke: {error}")

    # -- waiting -----------------------------------------------------------------------------

    async def receive(self, deadline: float, late: CloseReason, size: int = RECEIVE_SIZE) -> bytes:
        """The next bytes, b"" at the end of the stream.  Waits if nothing is at hand.

        Raises LinkError: `late` past `deadline`, PEER_RESET, or what `interrupt` was given.
        """
        while True:
            await self.until_readable(deadline, late)
            data = self.receive_now(size)
            if data is not None:
                return data

    async def until_readable(self, deadline: float, late: CloseReason) -> None:
        """Wait until there may be something to read.  Raises as `receive`.

        Where there always is, it waits for the others' turn now and then.
        """
        if self.readable:
            self._streak += 1
            if self._streak >= TURN:
                self._streak = 0
                await wait(Turn(self._watch))
            return
        self._streak = 0
        self.wait_until(deadline, late)
        await wait(self)
        if self.error is not None:
            self.raise_error()

    def wait_until(self, deadline: float, late: CloseReason) -> None:
        """Set the deadline of the wait to read, whether anyone waits yet or not."""
        self.late = late
        self.read_by = deadline
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def raise_error(self) -> None:
        """Raise why the wait has ended, if not by an event."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # no variable: it would hold the frame that holds it

    async def send_rest(self, rest: memoryview, patience: float) -> None:
        """Send what `send_now` left over.  Waits.

        Raises LinkError: WRITE_TIMEOUT when no byte was accepted for `patience` s, PEER_RESET.
        """
        room = self.tell_of_room()
        room.by = self.now() + patience
        try:
            while rest:
                if room.by < self.timer_at:
                    self._watch.wake_at(self, room.by)
                await wait(room)
                if room.error is not None:
                    raise room.error
                count = self.send_now(rest)
                if count:  # an event alone is no progress: the peer may have sent something
                    rest = rest[count:]
                    room.by = self.now() + patience
        finally:
            room.by = math.inf
            room.error = None

    @property
    def waits_for_room(self) -> bool:
        """Whether somebody has more to send than the peer takes."""
        return self._room is not None and self._room.waker is not None

    def tell_of_room(self) -> Room:
        """From now on there is an event as well when the peer takes more."""
        if self._room is None:
            self._room = Room()
            self._watch.add_writing(self)
        return self._room

    # -- being told --------------------------------------------------------------------------

    def on_ready(self, hung_up: bool) -> None:
        """The watch saw an edge on the socket."""
        self.readable = True
        if hung_up:
            self.hung_up = True
        room = self._room
        if room is not None and room.waker is not None:
            _wake(room)
        waker = self.waker
        if waker is not None:
            self.waker = None
            waker.wake()
        elif self.owner is not None:
            self.owner.on_unawaited(self.hung_up)

    def on_time(self, now: float) -> float:
        """The watch's entry came up: expire what is due; the next deadline."""
        room = self._room
        if self.read_by <= now:
            if self.waker is not None:
                self.interrupt(self._expired(self.late))
            elif self.resting and self.owner is not None:
                self.resting = False
                self.owner.on_lapsed()
        if room is not None and room.by <= now and room.waker is not None:
            room.error = self._expired(CloseReason.WRITE_TIMEOUT)
            _wake(room)
        if self.closed:
            return math.inf
        return min(
            self.read_by if self.waker is not None or self.resting else math.inf,
            room.by if room is not None and room.waker is not None else math.inf,
        )

    def on_fault(self, error: Exception) -> None:
        """An event or a timer of this transport met a fault of ours."""
        if not self.interrupt(error) and self.owner is not None:
            self.owner.on_fault(error)

    def interrupt(self, error: Exception | None) -> bool:
        """Raise `error` in whoever waits to read, None: let it look; False when nobody does."""
        if self.waker is None:
            return False
        self.error = error
        _wake(self)
        return True

    def _expired(self, reason: CloseReason) -> LinkError:
        return LinkError(self.hop, reason, f"{reason.label.replace('_', ' ')} passed")

    def rest_until(self, deadline: float) -> None:
        """Nobody waits here now; `owner.on_lapsed` is called at `deadline`."""
        self.resting = True
        self.read_by = deadline
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    # -- ending ------------------------------------------------------------------------------

    def close(self, *, reset: bool = False) -> None:
        """Close the endpoint, once."""
        if self.closed:
            return
        self.closed = True
        self.resting = False
        self._watch.remove(self)
        self.endpoint.close(reset=reset)
        self.fd = -1
        closed = self.broken(OSError("closed on this side"))
        self.interrupt(closed)
        if self._room is not None and self._room.waker is not None:
            self._room.error = closed
            _wake(self._room)
        self.owner = None  # a ring: uncut, Python would have to stop to search for it


def _wake(waiting: Transport | Room) -> None:
    """Wake who waits, once."""
    waker, waiting.waker = waiting.waker, None
    assert waker is not None
    waker.wake()

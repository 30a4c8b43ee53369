"""Reading from and writing to a socket: events, deadlines, and the coroutine that waits for them.

The layer between a link and its endpoint, the same on both hops.  A receive or send that can be
done now does not wait.  Otherwise the coroutine yields to its stepper (`link.stepper`), and the
next event resumes it.
"""

from __future__ import annotations

import math
from typing import Protocol

from hopproxy.errors import LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE, Endpoint
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.watch import Turn, Watch
from hopproxy.reasons import CloseReason, Hop

#: Receives in a row without a wait before other connections get a turn.
TURN = 16
#: Frames of HTTP/2 are read for so many seconds in a turn.  If one read takes longer, the next one
#: reads less, and never less than LEAST bytes.  A new connection of a client begins with FIRST.
COSTLY, FIRST, LEAST = 0.002, 4096, 2048

# A global is faster than an attribute of the class (see `message.Body`).
_IDLE = CloseReason.IDLE_TIMEOUT

#: The message for each timeout.
LATE = {
    CloseReason.HEAD_TIMEOUT: "the rest of the request's head did not come in time",
    CloseReason.BODY_TIMEOUT: "the rest of the body did not come in time",
    CloseReason.BODY_RATE: "the body came more slowly than body_rate",
    CloseReason.WRITE_TIMEOUT: "nothing more was read from the connection in time",
    CloseReason.RESPONSE_TIMEOUT: "no response came in time",
    CloseReason.TUNNEL_TIMEOUT: "no byte was moved in either direction in time",
}


class Owner(Protocol):
    """The link that owns a transport: called for events that no coroutine waits for."""

    def on_unawaited(self, hung_up: bool) -> None:
        """Bytes arrived, or (`hung_up`) the peer closed its side or reset the connection."""

    def on_lapsed(self) -> None:
        """The deadline of a resting (idle) transport has passed."""

    def on_quiet(self) -> None:
        """Nothing has moved for a while: free buffers; they are allocated again when needed."""

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception, and no coroutine waits to receive it: end the link."""


class Room:
    """The wait until the peer accepts more.  `by` is its deadline, `error` why it ended early."""

    __slots__ = ("by", "error", "waker")

    def __init__(self) -> None:
        self.waker: Waker | None = None
        self.by = math.inf
        self.error: Exception | None = None


def portion(before: int, seconds: float) -> int:
    """How many bytes of frames to read at a time, after `before` bytes took `seconds`."""
    return max(LEAST, before // 4) if seconds > COSTLY else min(RECEIVE_SIZE, before * 2)


class Transport:
    """A connected endpoint, owned by one link, and the coroutine that waits for it.

    As a `Wait` it is the wait for something to read.  `readable` means that there may be something:
    an event sets it, a receive that finds nothing clears it.  `hung_up` once the peer has closed
    its side or reset the connection; unread bytes may remain.  `resting` while the link is idle.
    `read_by` is the deadline of the read or of the rest, `late` the reason if it passes.  `error`
    is why a wait ended, if not by an event.  `sent` and `received` count bytes.
    """

    __slots__ = (
        "_channel", "_room", "_streak", "_watch", "closed", "endpoint", "error", "fd", "hop",
        "hung_up", "late", "now", "owner", "read_by", "readable", "received", "resting",
        "send_later", "sent", "timer_at", "urgent", "waker",
    )  # fmt: skip

    #: Whether bytes that `send_now` has accepted still wait here.  Never: the kernel has them.
    pending = False

    def __init__(self, endpoint: Endpoint, watch: Watch, hop: Hop) -> None:
        self.endpoint = endpoint
        self._channel = endpoint.channel
        self.fd = endpoint.fd
        self.hop = hop
        self._watch = watch
        self.now = watch.now
        self.send_later = watch.later  # as `Batches.later`
        self.owner: Owner | None = None
        self.waker: Waker | None = None
        self.closed = False
        self.readable = False
        self.hung_up = False
        self.urgent = False  # urgent data has arrived: a receive may stop at its mark
        self.resting = False
        self.sent = 0
        self.received = 0
        self.late = _IDLE
        self.read_by = math.inf
        self.timer_at = math.inf
        self._room: Room | None = None  # set by the first incomplete send
        self.error: Exception | None = None
        self._streak = 0
        watch.add(self)

    # -- what is ready -----------------------------------------------------------------------

    def receive_now(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """What has arrived, b"" at the end of the stream, None if nothing.  Raises LinkError."""
        try:
            data = self._channel.recv(size)
        except BlockingIOError:
            self.readable = self.hung_up = False
            return None
        except OSError as error:
            raise self.broken(error) from error
        count = len(data)
        if count < size and not self.hung_up and not self.urgent:
            self.readable = not count  # the end of the stream can be read again and again
        self.received += count
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel accepts at once; return how many bytes.  Raises LinkError."""
        try:
            count = self._channel.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.broken(error) from error
        self.sent += count
        return count

    def broken(self, error: Exception) -> LinkError:
        """The error for a connection that was reset or lost."""
        return LinkError(self.hop, CloseReason.PEER_RESET, f"the connection broke: {error}")

    # -- waiting -----------------------------------------------------------------------------

    async def receive(self, deadline: float, late: CloseReason, size: int = RECEIVE_SIZE) -> bytes:
        """The next bytes, b"" at the end of the stream.  Waits if nothing has arrived.

        Raises LinkError: `late` after `deadline`, PEER_RESET, or the error given to `interrupt`.
        """
        while True:
            await self.until_readable(deadline, late)
            data = self.receive_now(size)
            if data is not None:
                self.weigh(data)
                return data

    def weigh(self, data: bytes) -> None:
        """Count what was received: after long pieces others get a turn sooner."""
        self._streak += len(data) // RECEIVE_SIZE

    async def until_readable(self, deadline: float, late: CloseReason) -> None:
        """Wait until there may be something to read.  Raises as `receive`.

        If there is always something, give other connections a turn now and then.
        """
        if self.readable:
            await self.take_turns()
            return
        self._streak = 0
        self.wait_until(deadline, late)
        await wait(self)
        if self.error is not None:
            self.raise_error()

    async def take_turns(self) -> None:
        """Continue at once, but give other connections a turn now and then."""
        self._streak += 1
        if self._streak >= TURN:
            self._streak = 0
            await wait(Turn(self._watch))

    def wait_until(self, deadline: float, late: CloseReason) -> None:
        """Set the read deadline, whether or not anyone waits yet."""
        self.late = late
        self.read_by = deadline
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def raise_error(self) -> None:
        """Raise the error that ended the wait, if there is one."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # a local variable would make a reference cycle with its frame

    async def send_rest(self, rest: memoryview, patience: float) -> None:
        """Send what `send_now` did not.  Waits.

        Raises LinkError: WRITE_TIMEOUT if no byte was accepted for `patience` s, PEER_RESET.
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
                if count:  # an event alone is not progress: it may be for reading
                    rest = rest[count:]
                    room.by = self.now() + patience
        finally:
            room.by = math.inf
            room.error = None

    @property
    def waits_for_room(self) -> bool:
        """Whether a coroutine waits until the peer accepts more."""
        return self._room is not None and self._room.waker is not None

    def tell_of_room(self) -> Room:
        """From now on, also get an event when the peer accepts more."""
        if self._room is None:
            self._room = Room()
            self._watch.add_writing(self)
        return self._room

    # -- called by the watch -----------------------------------------------------------------

    def on_ready(self, hung_up: bool) -> None:
        """An event on the socket: wake the coroutine that waits."""
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
        """A deadline may have passed: end what has timed out, return the next deadline."""
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
        """A callback raised an unexpected exception: pass it to the coroutine that waits, or to the
        owner."""
        if self.owner is None:  # its link has ended: only log it
            raise error
        if not self.interrupt(error):
            self.owner.on_fault(error)

    def interrupt(self, error: Exception | None) -> bool:
        """End the wait to read with `error` (None: just wake it).  False if nobody waits."""
        if self.waker is None:
            return False
        self.error = error
        _wake(self)
        return True

    def _expired(self, reason: CloseReason) -> LinkError:
        return LinkError(self.hop, reason, LATE.get(reason, f"{reason.label} passed"))

    def rest_until(self, deadline: float) -> None:
        """The link is idle: call `owner.on_lapsed` at `deadline`."""
        self.resting = True
        self.read_by = deadline
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def shed(self) -> None:
        """Nothing has moved for a while: free buffers; they are allocated again when needed."""
        self.endpoint.shed()
        if self.owner is not None:
            self.owner.on_quiet()

    # -- ending ------------------------------------------------------------------------------

    def close(self, *, reset: bool = False) -> None:
        """Close the endpoint, once."""
        if self.closed:
            return
        self.closed = True
        self.resting = False
        try:
            self._watch.remove(self)
        finally:
            self.endpoint.close(reset=reset)
            self.fd = -1
        if self.waker is not None:
            self.interrupt(self.broken(OSError("closed on this side")))
        if self._room is not None and self._room.waker is not None:
            self._room.error = self.broken(OSError("closed on this side"))
            _wake(self._room)
        self.owner = None  # breaks a reference cycle, which only the garbage collector would free


def _wake(waiting: Transport | Room) -> None:
    waker, waiting.waker = waiting.waker, None
    assert waker is not None
    waker.wake()

"""What an HTTP/2 connection sends: a bounded queue of frames, and turns for its streams."""

from __future__ import annotations

from types import MappingProxyType
from typing import Protocol, cast

from hopproxy.errors import LinkError
from hopproxy.link.transport import Room, Transport
from hopproxy.link.watch import Watch
from hopproxy.wire.h2_output import Output

#: Most bytes of DATA that wait to be sent on one connection.  Heads may add as many bytes again.
QUEUED = 131072
#: Bytes that a stream sends in one turn if others wait too.
QUANTUM = 16384


class Sending(Protocol):
    """A stream that has something to send."""

    @property
    def pending(self) -> bool:
        """Whether it still has."""

    def push(self, most: int) -> bool:
        """Make up to `most` bytes into frames, as far as the windows allow; True if that is all."""

    def wake_writer(self) -> None:
        """All of it was made into frames."""


#: Shared by connections on which no stream waits; nothing can be added.
NOBODY = cast("dict[Sending, None]", MappingProxyType({}))


class OutputOwner(Protocol):
    """The connection."""

    def on_broken(self, error: LinkError) -> None:
        """Nothing more can be sent."""

    def on_sent(self) -> None:
        """All that was queued is sent."""

    def on_room(self) -> None:
        """The socket has accepted more."""

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception."""


class H2Output:
    """The sending half of one connection.  Call `stir` after anything was queued in `wire`.

    `patience` is the longest time in seconds in which the peer accepts nothing.  `unsent` is what
    the socket did not accept.  `ready` are streams that wait for their turn, `starved` those that
    wait for the connection's window.  As a `Waker` it is woken when the socket has room.
    """

    __slots__ = (
        "_patience", "_queued", "_stirred", "_transport", "_watch", "owner", "ready", "starved",
        "unsent", "wire",
    )  # fmt: skip

    def __init__(self, wire: Output, transport: Transport, watch: Watch, patience: float) -> None:
        self.wire = wire
        self.owner: OutputOwner | None = None
        self._transport = transport
        self._watch = watch
        self._patience = patience
        self.unsent: bytes | memoryview = b""
        self._queued = 0
        self._stirred = False
        self.ready = self.starved = NOBODY

    @property
    def rests(self) -> bool:
        """Whether nothing waits to be sent."""
        return not (self.unsent or self._stirred or self.ready or self.starved)

    @property
    def crowded(self) -> bool:
        """Whether so much waits until the client reads that no request should begin."""
        return bool(self.unsent) and self.wire.waiting > QUEUED

    # -- turns -------------------------------------------------------------------------------

    def offer(self, stream: Sending) -> bool:
        """The stream has something to send.  True if all of it is in frames now."""
        if self.ready or self._queued >= QUEUED:
            self._enqueue(stream)
            done = not stream.pending
        else:
            done = self._push(stream, QUEUED)
        if self.unsent or not self._stirred:
            self.stir()
        return done

    def give_room(self, stream: Sending | None) -> None:
        """A window that was used up has grown: that of the stream, or of the connection (None)."""
        if stream is None:
            starved, self.starved = self.starved, NOBODY
            for one in starved:
                self._enqueue(one)
        elif stream.pending:
            self._enqueue(stream)

    def _enqueue(self, stream: Sending) -> None:
        if self.ready is NOBODY:
            self.ready = {}
        self.ready[stream] = None

    def drop(self, stream: Sending) -> None:
        """The stream sends nothing more."""
        if self.ready:
            self.ready.pop(stream, None)
        if self.starved:
            self.starved.pop(stream, None)

    def rest(self) -> None:
        """The connection is idle: free what streams need."""
        self.ready = self.starved = NOBODY

    def _push(self, stream: Sending, most: int) -> bool:
        """Make up to `most` bytes of a stream into frames; True if nothing is left of it."""
        before = self.wire.send_window
        done = stream.push(most)
        count = before - self.wire.send_window
        self._queued += count
        if done:
            return True
        if count >= most:
            self._enqueue(stream)  # behind all others
        elif self.wire.send_window <= 0:
            if self.starved is NOBODY:
                self.starved = {}
            self.starved[stream] = None
        return False

    def _give_turns(self) -> None:
        ready = self.ready
        while ready and self._queued < QUEUED:
            stream = next(iter(ready))
            del ready[stream]
            if self._push(stream, QUANTUM):
                stream.wake_writer()

    # -- sending -----------------------------------------------------------------------------

    def hold(self) -> None:
        """Send nothing before `release`, since more will be queued."""
        self._stirred = True

    def release(self) -> None:
        """Send what is queued at the end of this batch of events."""
        self._stirred = False
        self.stir()

    def stir(self) -> None:
        """As `release`, unless it is held."""
        if self.unsent:
            self.wire.pack()
        elif not self._stirred:
            self._stirred = True
            self._transport.send_later(self)

    def send_queued(self) -> None:
        """The batch of events is over: send."""
        self._stirred = True  # also while streams get their turns
        try:
            if not self.unsent and not self._transport.closed:
                self._send()
        except LinkError as error:
            self._break(error)
        finally:
            self._stirred = False

    def _send(self) -> None:
        wire, transport = self.wire, self._transport
        while True:
            if wire.has_output:
                data = wire.take()
                count = transport.send_now(data)
                if count < len(data):
                    self.unsent = memoryview(data)[count:]
                    self._queued = len(self.unsent)
                    self._wait(transport.tell_of_room())
                    return
            self._queued = 0
            if self.ready:
                self._give_turns()
            if not wire.has_output:
                break
        if self.owner is not None:
            self.owner.on_sent()

    def _wait(self, room: Room) -> None:
        room.waker = self
        room.by = self._transport.now() + self._patience
        self._watch.wake_at(self._transport, room.by)

    def wake(self) -> None:
        """The socket may have room, or has had none for too long."""
        transport = self._transport
        room = transport.tell_of_room()
        error, room.error = room.error, None
        if error is not None:
            self._break(error)
            return
        try:
            count = transport.send_now(self.unsent)
        except LinkError as broken:
            self._break(broken)
            return
        if count < len(self.unsent):
            self.unsent = memoryview(self.unsent)[count:]
            by = room.by
            self._wait(room)
            if not count:
                room.by = by
            return
        self.unsent = b""
        self.send_queued()
        if self.owner is not None:
            self.owner.on_room()

    def _break(self, error: Exception) -> None:
        if self.owner is None:
            return
        if isinstance(error, LinkError):
            self.owner.on_broken(error)
        else:
            self.owner.on_fault(error)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception during a send."""
        self._break(error)

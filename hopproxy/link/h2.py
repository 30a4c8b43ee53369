"""A client's HTTP/2 connection: frames in, passed to the streams of its requests.

Requests begin when all frames at hand have been read, so a small body arrives with its head, and a
request that was reset at once costs nothing.  At most `max_streams` exchanges are under way;
further requests wait.  An exchange counts until it ends, even if its client has reset the stream.
"""

from __future__ import annotations

import math

from hopproxy.errors import LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.faults import report
from hopproxy.link.h2_ending import LEAVING_PING, H2Ending, H2Owner, violation
from hopproxy.link.h2_half_head import HalfHead
from hopproxy.link.h2_inbound import NEVER
from hopproxy.link.h2_stream import H2Stream
from hopproxy.link.transport import COSTLY, FIRST, TURN, portion
from hopproxy.link.watch import Turn, Watch
from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.h2 import (
    BROKEN,
    CONTENT,
    HEAD,
    PONG,
    RESET,
    ROOM,
    Code,
    H2Error,
    Stream,
)
from hopproxy.wire.h2_request import Section

#: Seconds for which the rest of a body is discarded after the answer.
UNREAD = 1.0
#: Seconds for which a place stays taken after a client has caused the loss of an upstream link.
HELD = 1.0
#: Stands for a stream whose exchange has ended.
_DONE = object()


class _Unread:
    """Stands for a stream that was answered before its request had ended.

    For a moment, up to `left` more bytes are discarded, as in a lingering close, since some clients
    send the whole body before they read the answer.  Then the stream is reset.
    """

    __slots__ = ("_link", "left", "timer_at", "wire")

    def __init__(self, link: H2Link, wire: Stream) -> None:
        self._link = link
        self.wire = wire
        self.left = link.limits.linger_size
        self.timer_at = math.inf

    def on_time(self, now: float) -> float:
        self._link.end_unread(self)
        return math.inf

    def on_fault(self, error: Exception) -> None:
        self._link.on_fault(error)


class _Held:
    """The place of an exchange that its client has ended so that an upstream link was lost.

    It stays taken for a moment, so that a flood of such requests causes no flood of dials.
    """

    __slots__ = ("_link", "timer_at")

    def __init__(self, link: H2Link) -> None:
        self._link = link
        self.timer_at = math.inf
        link.watch.wake_at(self, link.now() + HELD)

    def on_time(self, now: float) -> float:
        self._link.free_place()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        self._link.on_fault(error)


class H2Link(H2Ending):
    """One connection of one client, which carries many requests at a time.  See `H2Ending`."""

    __slots__ = ("_beginning", "_held", "_paused", "_portion")

    def __init__(self, opened: ClientLink, watch: Watch) -> None:
        super().__init__(opened, watch)
        self._beginning = False
        self._held = 0  # places
        self._paused = False  # nothing is read until the client has read
        self._portion = FIRST

    # -- in ----------------------------------------------------------------------------------

    def start(self, owner: H2Owner, data: bytes = b"") -> None:
        """Serve the connection.  `data` is what has been read of it already."""
        self._owner = owner
        self._rest()
        self.transport.waker = self
        self.output.hold()
        if data:
            self._receive(data)
        if self.transport.readable:
            self.wake()
        else:
            self._proceed()

    def _read(self) -> None:
        transport = self.transport
        self.output.hold()
        self._paused = False
        began = last = self.now()
        for _ in range(TURN):
            if self.output.crowded and not transport.hung_up:
                self._paused = True
                break
            try:
                data = transport.receive_now(self._portion)
            except LinkError as error:
                self.end(error)
                return
            if data is None:
                break
            if not data:
                self.end(LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, "the client closed"))
                return
            self._receive(data)
            if not transport.readable or self.wire.failed is not None:
                break
            now = self.now()
            self._portion = portion(self._portion, now - last)
            last = now
            if now - began > COSTLY:
                Turn(self.watch).waker = self
                break
        else:
            Turn(self.watch).waker = self  # there may be more: read it in the next turn
        self._proceed()

    def _receive(self, data: bytes) -> None:
        """Read frames, and pass them to their streams."""
        now = self.now()
        fed: dict[H2Stream, None] = {}
        for what, wire, payload, ended in self.wire.receive(data, now):
            if wire is None:
                self._on_own(what, payload)
                continue
            stream = wire.owner
            if stream is None:
                self._open(wire, payload, now, ended)
            elif stream is _DONE:
                continue
            elif isinstance(stream, _Unread):
                self._drop(stream)
            elif what == CONTENT:
                stream.feed(payload, ended=ended)
                fed[stream] = None
            elif what == HEAD:
                stream.feed_trailers(payload)
            elif what == ROOM:
                self.output.give_room(stream)
            elif what == RESET:
                self.clients.streams.add_reset("peer", payload)
                self._on_reset(stream, stream.gone_error())
            elif what == BROKEN:
                self.clients.streams.add_reset("us", payload.code)
                self._on_reset(stream, violation(payload))
        for stream in fed:  # once for all its frames: each may be a single byte
            stream.wake_reader()

    def _on_reset(self, stream: H2Stream, error: LinkError) -> None:
        begun = stream in self.streams
        stream.on_reset(error)
        if not begun:  # and it never will
            self.parked.remove(stream)
            self.clients.streams.open -= 1
            stream.wire.owner = _DONE

    def _drop(self, unread: _Unread) -> None:
        wire = unread.wire
        size = wire.unclaimed
        unread.left -= size
        self.wire.credit(wire, size)
        if unread.left <= 0 or wire.closed:
            self.end_unread(unread)

    def end_unread(self, unread: _Unread) -> None:
        """Receive no more of it: the answer is sent, and the rest is not needed (section 8.1)."""
        self.watch.forget_deadline(unread)
        wire = unread.wire
        if wire.owner is unread:
            wire.owner = _DONE
            if not wire.closed:
                self._reset(wire, Code.NO_ERROR)
                self.output.stir()

    def _reset(self, wire: Stream, code: int) -> None:
        self.clients.streams.add_reset("us", code)
        self.wire.reset(wire, code)

    def _open(self, wire: Stream, section: Section, now: float, ended: bool) -> None:
        streams = self.clients.streams
        if streams.open >= streams.most:
            wire.owner = _DONE
            streams.note_refused(now)
            self._reset(wire, Code.REFUSED_STREAM)
            return
        self.served += 1
        streams.opened += 1
        streams.open += 1
        wire.owner = stream = H2Stream(self, wire, section, now, ended)
        if self.parked:
            self.parked.append(stream)
        else:
            self.parked = [stream]

    def _on_own(self, what: int, payload: object) -> None:
        """An event of the connection itself."""
        if what == ROOM:
            self.output.give_room(None)
        elif what == PONG:
            if payload == LEAVING_PING:
                self._leave()
        elif isinstance(payload, H2Error):  # FAILED
            self._violated(payload)

    def _proceed(self) -> None:
        """All that has arrived was read: begin the requests, and send what is queued."""
        if self.wire.in_head or self._half is not None:
            if self._half is None:
                self._half = HalfHead(self)
            self._half.follow()
        if self.parked:
            if self.closing is None:
                self._leave_at_limits()
            self._begin_parked()
        self.output.release()

    def _begin_parked(self) -> None:
        if self._beginning:
            return  # an exchange has ended as it began: the loop below goes on
        self._beginning = True
        output, most = self.output, self.limits.max_streams - self._held
        try:
            while self.parked and len(self.streams) < most and self._owner is not None:
                if output.unsent and output.crowded:
                    break  # until the client has read
                stream = self.parked.pop(0)
                if not self.streams:
                    self._work()
                self.streams[stream] = None
                self._owner.begin(stream)
        finally:
            self._beginning = False

    # -- out ---------------------------------------------------------------------------------

    def credit(self, wire: Stream, size: int) -> None:
        """Bytes of a request's body were passed on."""
        if self.wire.credit(wire, size):
            self.output.stir()

    def free_place(self) -> None:
        """The place is free: another exchange may begin."""
        self._held -= 1
        if self.parked and self._owner is not None:
            self.output.hold()
            self._proceed()

    def on_sent(self) -> None:
        """Everything is sent: requests that waited until the client reads can begin."""
        if self.parked and len(self.streams) < self.limits.max_streams - self._held:
            Turn(self.watch).waker = self
        super().on_sent()

    def on_room(self) -> None:
        """The client has read some: read from it again, and begin requests that waited for this."""
        if (self._paused or self.parked) and not self.output.crowded:
            Turn(self.watch).waker = self

    def on_stream_end(self, stream: H2Stream) -> None:
        """An exchange has ended: end its stream, and begin the next one."""
        del self.streams[stream]
        self.clients.streams.open -= 1
        if stream.costly and self._owner is not None:
            self._held += 1
            _Held(self)
        if stream.timer_at != NEVER:
            self.watch.forget_deadline(stream)
        output = self.output
        if output.ready or output.starved:
            output.drop(stream)
        wire = stream.wire
        wire.owner = _DONE
        if not (wire.ended and wire.finished) or wire.unclaimed or self._left:  # seldom
            self._say_end(stream, wire)
        if self._owner is None:
            return
        if self.parked:
            self._begin_parked()
        if not self.streams:
            self._rest()

    def _say_end(self, stream: H2Stream, wire: Stream) -> None:
        """End a stream for which nothing more is sent, unless it is closed."""
        if wire.closed:
            self.wire.credit(wire, wire.unclaimed)
        elif (code := stream.last_code) == Code.NO_ERROR:
            wire.owner = unread = _Unread(self, wire)
            self.watch.wake_at(unread, self.now() + min(UNREAD, self.limits.linger_timeout))
            self._drop(unread)
        else:
            self._reset(wire, code)
            if code == Code.PROTOCOL_ERROR and (flood := self.wire.malformed(self.now())):
                self._violated(flood)
        self.output.stir()

    def on_stream_fault(self, stream: H2Stream, error: Exception) -> None:
        """An unexpected exception in a stream: end it, and nothing else."""
        report(error, f"a request from {self.peer}")
        if not stream.throw(error) and stream in self.streams:
            self.on_stream_end(stream)

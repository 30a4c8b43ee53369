"""One HTTP/2 connection to an origin, which carries many requests at a time.

No coroutine waits for its socket.  Each event is read here, in the callback, and frames are passed
to their streams.  The exchanges go on when all frames at hand have been read, so most of them find
their whole response.
"""

from __future__ import annotations

import math
from typing import Protocol

from hopproxy.errors import BadResponse, HopError, LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE
from hopproxy.link.h2_origin_wire import new_wire
from hopproxy.link.h2_output import H2Output
from hopproxy.link.h2_pings import Pings
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.link.origin_tls import OriginTransport
from hopproxy.link.pooled import Keeper, PooledLink
from hopproxy.link.transport import COSTLY, TURN, Transport, portion
from hopproxy.link.watch import Turn, Watch
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import CloseRecord
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import (
    BROKEN,
    CONTENT,
    FAILED,
    HEAD,
    LEAVING,
    PEER_SETTINGS,
    RESET,
    ROOM,
    Event,
)

#: Most streams of one connection, whatever the origin allows.
MOST_STREAMS = 256
#: Most requests of one connection: stream numbers are limited (RFC 9113 section 5.1.1).
MAX_REQUESTS = 1 << 30
#: Most streams that wait for END_STREAM in a frame of its own; more are reset.
MOST_ENDING = 8


class StreamKeeper(Keeper, Protocol):
    """The pool, as an HTTP/2 link sees it."""

    def on_room(self, link: H2UpstreamLink) -> None:
        """It may carry more or fewer streams than before."""

    def on_end(self, link: H2UpstreamLink, reason: CloseReason) -> None:
        """It has ended, or must end: close it.  Its streams get the error afterwards."""

    def on_reset(self, code: int) -> None:
        """The origin has reset a stream."""


class H2UpstreamLink(PooledLink):
    """One connection to one origin, with many streams.

    `served` counts requests, `max_streams` is how many may be under way, and `assumed` how many
    until the origin's SETTINGS arrive.  `retiring` is why it takes no more, None if it does;
    `leaving` if the origin has said so (GOAWAY).  `heard_at` is when anything last arrived,
    `answered_at` when a part of a response did, `begun_at` when it was idle last.
    `streams` are those that exchanges use.  `record` tells of its end, if that came during them.
    """

    __slots__ = (
        "_portion", "_watch", "_woken", "answered_at", "assumed", "begun_at", "heard_at",
        "max_streams", "output", "pings", "record", "retiring", "scheme", "speaks_http1",
        "streams", "timer_at", "wire",
    )  # fmt: skip

    multiplexed = True
    keeper: StreamKeeper

    def __init__(
        self,
        transport: Transport,
        origin: str,
        keeper: StreamKeeper,
        limits: UpstreamSettings,
        watch: Watch,
    ) -> None:
        super().__init__(transport, origin, keeper, limits)
        self.wire = new_wire(limits)
        self.output = H2Output(self.wire, transport, watch, limits.write_timeout)
        self.output.owner = self
        self.scheme = b"https" if isinstance(transport, OriginTransport) else b"http"
        self.speaks_http1 = False
        self.retiring: CloseReason | None = None
        self.record: CloseRecord | None = None
        self.assumed = MOST_STREAMS
        self.heard_at = self.begun_at = self.answered_at = self.opened
        self._watch = watch
        self._portion = RECEIVE_SIZE
        self.streams: dict[H2UpstreamStream, None] = {}
        self._woken: dict[H2UpstreamStream, None] = {}
        self.pings = Pings(self)
        self.timer_at = math.inf
        self.measure()
        watch.gather()

    def __repr__(self) -> str:
        return f"<H2UpstreamLink {self.number} to {self.origin}, {len(self.wire.streams)} streams>"

    # -- lending -----------------------------------------------------------------------------

    def measure(self) -> None:
        """Update how many streams may be open now; none once it retires."""
        if self.retiring is not None or self.transport.closed:
            self.max_streams = 0
            return
        most = MOST_STREAMS if self.wire.greeted else self.assumed
        self.max_streams = min(most, self.wire.max_streams)

    @property
    def holder(self) -> H2UpstreamLink:
        return self

    @property
    def leaving(self) -> bool:
        return self.wire.leaving is not None

    def start(self) -> None:
        """Send our preface and SETTINGS, with the first requests if there are any."""
        self.output.stir()

    def begin(self) -> None:
        """It was idle, and is checked out for its first stream."""
        super().begin()
        self.begun_at = now = self.now()
        self.idled = now - self.since

    def open(self) -> H2UpstreamStream:
        """A stream for one request, within what the ledger has lent."""
        self.served += 1
        if self.served >= MAX_REQUESTS:  # stream numbers run out
            self.max_streams = 0
        stream = H2UpstreamStream(self)
        self.streams[stream] = None
        return stream

    def reset(self, stream: H2UpstreamStream, code: int) -> None:
        """The exchange needs no more of a stream: reset it unless it is closed."""
        output = self.output
        self.streams.pop(stream, None)
        if self._woken:
            self._woken.pop(stream, None)
        if output.ready or output.starved:
            output.drop(stream)
        wire = stream.wire
        if wire is not None:
            wire.owner = None  # breaks a reference cycle
            if wire.ended and wire.finished and not wire.unclaimed:
                return  # nearly always
            if self.transport.closed:
                return
            if wire.closed:
                if self.wire.credit(wire, wire.unclaimed):  # what has arrived is not read
                    output.stir()
                return
            self.wire.reset(wire, code)
            output.stir()

    # -- in ----------------------------------------------------------------------------------

    def on_unawaited(self, hung_up: bool) -> None:
        """An event on the socket: read what has arrived, then let the exchanges go on."""
        self.output.hold()
        try:
            self._read()
        finally:
            woken, self._woken = self._woken, {}
            for stream in woken:
                stream.wake()
            if self.pings.waiting:
                self.pings.heard()
            self.output.release()

    def wake(self) -> None:
        """The next turn: there may be more to read."""
        if not self.transport.closed:
            self.on_unawaited(self.transport.hung_up)

    def _read(self) -> None:
        transport = self.transport
        began = last = self.now()
        for _ in range(TURN):
            try:
                data = transport.receive_now(self._portion)
            except LinkError as error:
                self.end(error.reason, error)
                return
            if data is None:
                return
            if not data:
                self.end(CloseReason.PEER_CLOSED, None)
                return
            self._take(data)
            if transport.closed or not transport.readable:
                return
            now = self.now()
            self._portion = portion(self._portion, now - last)
            last = now
            if now - began > COSTLY:
                break
        Turn(self._watch).waker = self  # there may be more: read it in the next turn

    def _take(self, data: bytes) -> None:
        self.heard_at = now = self.now()
        woken = self._woken
        for event in self.wire.receive(data, now):
            what, wire, payload, ended = event
            stream: H2UpstreamStream | None = wire.owner if wire is not None else None
            if stream is None:
                if wire is None:
                    self._on_own(event)
                elif what == CONTENT:  # its exchange has ended
                    self.wire.credit(wire, len(payload))
            elif what == HEAD:
                self.answered_at = now
                stream.on_head(payload, ended)
                woken[stream] = None
            elif what == CONTENT:
                self.answered_at = now
                stream.on_content(payload, ended)
                woken[stream] = None
            elif what == ROOM:
                self.output.give_room(stream)
            elif what == RESET:
                self.keeper.on_reset(payload)
                stream.on_reset(payload)
                woken[stream] = None
            elif what == BROKEN:
                stream.on_broken(payload)
                woken[stream] = None

    def _on_own(self, event: Event) -> None:
        """Something about the connection itself."""
        what, _, payload, _ = event
        if what == ROOM:
            self.output.give_room(None)
        elif what == PEER_SETTINGS:
            self.measure()
            for stream in list(self.streams):
                if stream.on_settings():
                    self._woken[stream] = None
            self.keeper.on_room(self)
        elif what == LEAVING:
            self._origin_leaves()
        elif what == FAILED:
            self.end(CloseReason.BAD_RESPONSE, BadResponse(payload.told))

    def _origin_leaves(self) -> None:
        self.measure()
        self.keeper.on_room(self)
        if not self.streams:  # else it ends after the last: its response may be in what was read
            self.end(CloseReason.PEER_CLOSED, None)

    # -- deadlines ---------------------------------------------------------------------------

    def wake_by(self, deadline: float) -> None:
        """Make sure that `on_time` is called by then."""
        if deadline < self.timer_at:
            self._watch.wake_at(self, deadline)

    def on_time(self, now: float) -> float:
        """Deadlines of streams may have passed."""
        nearest = math.inf
        for stream in list(self.streams):
            nearest = min(nearest, stream.on_time(now))
        nearest = min(nearest, self.pings.on_time(now))
        return math.inf if self.transport.closed else nearest

    # -- ending ------------------------------------------------------------------------------

    def end(self, reason: CloseReason, error: HopError | None) -> None:
        """The connection has ended: close it, then pass the error to its streams."""
        if self.transport.closed:
            return
        self.keeper.on_end(self, reason)
        for stream in list(self.streams):
            stream.fail(error or LinkError(Hop.UPSTREAM, reason, _ended(stream)))
            stream.wake()

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Send GOAWAY, if the socket accepts it, and close."""
        if not self.transport.closed:
            if self.wire.failed is None:
                self.wire.go_away()
            self.output.owner = None
            self.output.send_queued()
            self._watch.forget_deadline(self)
        super().close(reason, reset=reset)
        self.max_streams = 0
        self.pings.heard()

    def on_fault(self, error: Exception) -> None:
        """A callback raised an unexpected exception."""
        self.keeper.on_fault(self, error)

    # -- called by the output ----------------------------------------------------------------

    def on_broken(self, error: LinkError) -> None:
        """Nothing more can be sent."""
        self.end(error.reason, error)

    def on_sent(self) -> None:
        """Everything is sent: nothing to do."""

    def on_room(self) -> None:
        """The origin reads again: nothing to do."""


def _ended(stream: H2UpstreamStream) -> str:
    inside = "inside the response" if stream.answered else "before it answered"
    return f"the origin closed the connection {inside}"

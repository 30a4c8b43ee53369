"""How a client's HTTP/2 connection rests and ends.

Idle connections close after a while.  Before an orderly close, GOAWAY names the last request that
is processed; the client may send later ones elsewhere (RFC 9113 section 6.8).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import Protocol, cast

from hopproxy.errors import HopError, LinkError
from hopproxy.link.client import NAME_SIZE, ClientLink
from hopproxy.link.clients import Bound
from hopproxy.link.faults import report
from hopproxy.link.h2_half_head import HalfHead
from hopproxy.link.h2_output import H2Output
from hopproxy.link.h2_stream import H2Stream
from hopproxy.link.h2_wire import Kept, keep, kept_wire, new_wire
from hopproxy.link.link import Link
from hopproxy.link.stepper import Stepper
from hopproxy.link.watch import Turn, Watch
from hopproxy.message import RequestHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.reasons import Owner as Ender
from hopproxy.wire.h2 import Code, H2Error, H2Server

#: Seconds between the two GOAWAYs, unless the client has answered a PING before.
LEAVING = 1.0
LEAVING_PING = b"hopproxy"


#: Shared by idle connections, which have no streams; nothing can be added.
NONE = cast("dict[H2Stream, None]", MappingProxyType({}))
NONE_PARKED = cast("list[H2Stream]", ())


class H2Owner(Protocol):
    """What serves the requests of a connection (`server.h2_connection`)."""

    def begin(self, stream: H2Stream) -> None:
        """A request has arrived: begin its exchange, or refuse it."""

    def on_violation(self, error: HopError) -> None:
        """The client has broken a rule of the connection, which now ends."""

    def on_end(self, reason: CloseReason) -> None:
        """The connection must be closed."""


class H2Ending(ABC):
    """One connection of one client.

    `streams` are the exchanges under way, `parked` the streams that wait for one to end.  `served`
    counts requests, `since` is when the connection became idle or busy.  `closing` is why it takes
    no more requests, None if it does.
    """

    protocol = "h2"
    __slots__ = (
        "_broken", "_half", "_kept", "_left", "_lingers", "_owner", "clients", "close_reason",
        "closing", "gone", "limits", "named", "now", "number", "opened", "output", "parked",
        "peer", "sender", "served", "since", "streams", "timer_at", "transport", "watch", "wire",
    )  # fmt: skip

    hop = Hop.CLIENT
    # An HTTP/1.1 client link uses these; here its streams do, or they are not used.
    tunnelling = close_delimited = False
    bound: Bound | None = None
    partner: Link | None = None
    driver: Stepper | None = None

    def __init__(self, opened: ClientLink, watch: Watch) -> None:
        """Take over an open connection whose client speaks HTTP/2."""
        transport, limits = opened.transport, opened.limits
        self.number = opened.number
        self.transport = transport
        self.now = transport.now
        self.peer = opened.peer
        self.named = ""
        self.sender = opened.sender
        self.limits = limits
        self.clients = opened.clients
        self.served = 0
        self.opened = opened.opened
        self.since = transport.now()
        self.close_reason: CloseReason | None = None
        self.closing: CloseReason | None = None
        self.gone = False
        self.streams = NONE
        self.parked = NONE_PARKED
        self.watch = watch
        self._kept: Kept | None = None  # replaces `wire` and `output` while nothing moves
        self._speak(new_wire(limits))
        self.timer_at = math.inf
        self._owner: H2Owner | None = None
        self._broken: LinkError | None = None
        self._half: HalfHead | None = None
        self._left = False  # the last GOAWAY is queued
        self._lingers = -1  # how many bytes a closing connection still reads
        transport.owner = self

    def name_by(self, request: RequestHead) -> str:
        """Return and remember the client that a trusted proxy names in this request, "" if none."""
        self.named = self.sender.client(request)[:NAME_SIZE]
        return self.named

    # -- idle, and the end -------------------------------------------------------------------

    @abstractmethod
    def _read(self) -> None:
        """Read what has arrived."""

    def wake(self) -> None:
        """An event on the socket, or a deadline."""
        transport = self.transport
        if self._owner is None or transport.closed:
            return
        if self._kept is not None:
            self._unpack()
        transport.waker = self
        if self._broken is not None:
            self.end(self._broken)
        elif transport.error is not None:
            error, transport.error = transport.error, None
            self._on_error(error)
        elif self._lingers >= 0:
            self._linger()
        else:
            self._read()

    def _rest(self) -> None:
        """No exchange is under way: close after `idle_timeout`, and free what streams need."""
        self.streams = NONE
        if not self.parked:
            self.parked = NONE_PARKED
        self.wire.rest()
        self.output.rest()
        self.watch.quiet.note(self.transport)
        self.since = self.now()
        self.clients.idle[self] = None
        limit = self.limits.idle_timeout if self.served else self.limits.head_timeout
        self.transport.wait_until(self.since + limit, CloseReason.IDLE_TIMEOUT)

    def _work(self) -> None:
        self.streams = {}
        self.since = self.now()
        self.clients.idle.pop(self, None)
        self.transport.wait_until(math.inf, CloseReason.IDLE_TIMEOUT)

    def leave(self, reason: CloseReason) -> None:
        """Announce the end with a GOAWAY; a second one, a round trip later, names the last request.

        What the client sends in between is still served, so no request is lost (section 6.8).
        """
        if self.closing is None:
            self._unpack()
            self.closing = reason
            self.wire.announce_end()
            self.wire.ping(LEAVING_PING)
            self.watch.wake_at(self, self.now() + LEAVING)
            self.output.stir()

    def _leave_at_limits(self) -> None:
        """Requests have arrived; they may be the last ones."""
        limits = self.limits
        if limits.max_requests and self.served >= limits.max_requests:
            self.leave(CloseReason.REQUEST_LIMIT)
        elif limits.max_age and self.now() - self.opened >= limits.max_age:
            self.leave(CloseReason.MAX_AGE)
        elif self.clients.draining:
            self.leave(CloseReason.DRAINING)

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self.wire.go_away()
            self.output.stir()

    def on_time(self, now: float) -> float:
        """The answer to our PING is late: send the second GOAWAY."""
        self._leave()
        return math.inf

    def finish(self, reason: CloseReason) -> None:
        """Take no more requests from now on, and close once those under way have ended."""
        self._unpack()
        self.closing = self.closing or reason
        self._leave()

    def _violated(self, error: H2Error) -> None:
        """The client has broken a rule of the connection; GOAWAY is queued."""
        calm = error.code == Code.ENHANCE_YOUR_CALM
        self.closing = CloseReason.FLOODED if calm else CloseReason.PROTOCOL_ERROR
        self._left = True
        found = violation(error)
        if self._owner is not None:
            self._owner.on_violation(found)
        self._abandon(found)

    def _abandon(self, error: HopError) -> None:
        self.clients.streams.open -= len(self.parked)
        self.parked = NONE_PARKED
        for stream in list(self.streams):
            stream.leave(error)

    def _on_error(self, error: Exception) -> None:
        """A deadline has passed, or somebody wants this idle connection to close."""
        if not isinstance(error, LinkError):
            self.on_fault(error)
        elif self._lingers >= 0 or error.reason.owner in (Ender.PEER, Ender.RESET):
            self.end(error)
        elif self.transport.endpoint.has_input():
            self._read()  # a request may just have arrived
        else:
            idle = error.reason is CloseReason.IDLE_TIMEOUT
            self.finish(CloseReason.HEAD_TIMEOUT if idle and self.wire.in_head else error.reason)
            if error.reason is CloseReason.MADE_ROOM:
                self.output.send_queued()
                self.end(error)

    @abstractmethod
    def on_room(self) -> None:
        """The client has read a part of what waited."""

    def on_sent(self) -> None:
        """Everything is sent.  After the last response send FIN, and wait for the client's.

        Closing at once could destroy what the client has not read yet (RFC 9112 section 9.6).
        """
        if not self._left or self.streams or self.parked or self._lingers >= 0:
            return
        self._lingers = self.limits.linger_size
        self.transport.endpoint.shut_down()
        seconds = self.limits.linger_timeout
        if self.clients.draining:
            seconds = min(seconds, self.clients.goodbye)
        self.transport.wait_until(self.now() + seconds, CloseReason.IDLE_TIMEOUT)

    def _linger(self) -> None:
        try:
            while (data := self.transport.receive_now()) and self._lingers > 0:
                self._lingers = max(0, self._lingers - len(data))
        except LinkError as error:
            self.end(error)
            return
        if data is not None:
            self.end(LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, "the client closed"))

    def end(self, error: LinkError) -> None:
        """Close the connection, whatever is under way."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        reason = error.reason
        self.gone = bool(self.streams) and reason.owner in (Ender.PEER, Ender.RESET)
        self._abandon(error)
        owner.on_end(self.closing or reason)

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket.  The first reason given is kept."""
        if self.close_reason is None:
            self.close_reason = reason
        self._owner = None  # breaks reference cycles
        if self._kept is None:
            self.output.owner = None
        self.watch.forget_deadline(self)
        if self._half is not None:
            self.watch.forget_deadline(self._half)
            self._half = None
        self.transport.waker = None
        self.transport.close(reset=reset)

    # -- called by the transport and the output ----------------------------------------------

    def on_broken(self, error: LinkError) -> None:
        """Nothing more can be sent: close, but not while an exchange is being stepped."""
        self._broken = error
        Turn(self.watch).waker = self

    def on_quiet(self) -> None:
        """Nothing has moved for a while: an idle connection frees what can easily be made again."""
        if self._owner is None or self._kept is not None or not self.output.rests:
            return
        if self.streams or self.parked or self.closing or self._half or self._broken:
            return
        self._kept = keep(self.wire, self.now())
        if self._kept is not None:
            del self.wire, self.output

    def _unpack(self) -> None:
        """Something happens: make again what was freed."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._speak(kept_wire(self.limits, kept))
            self.watch.quiet.note(self.transport)

    def _speak(self, wire: H2Server) -> None:
        self.wire = wire
        self.output = H2Output(wire, self.transport, self.watch, self.limits.write_timeout)
        self.output.owner = self

    def on_unawaited(self, hung_up: bool) -> None:
        """An event while nobody waits.  Not used, since a connection always waits."""
        raise AssertionError

    def on_lapsed(self) -> None:
        """Not used: a connection always waits."""
        raise AssertionError

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: end this connection, and nothing else."""
        report(error, f"a connection from {self.peer}")
        self.end(LinkError(Hop.CLIENT, CloseReason.INTERNAL_ERROR, "a fault in hopproxy"))


def violation(error: H2Error) -> LinkError:
    """The error for exchanges that end because their client has broken a rule."""
    found = LinkError(Hop.CLIENT, CloseReason.PROTOCOL_ERROR, error.told)
    found.cause = "http_request_error"
    return found

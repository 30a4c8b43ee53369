"""One request of a client's HTTP/2 connection: the client stream of its exchange.

The exchange queues its response here; the link makes frames of it, as the windows and the other
streams allow (`link.h2_output`).
"""

from __future__ import annotations

import math
from typing import Protocol

from hopproxy.errors import BadResponse, HopError
from hopproxy.link.clients import Bound
from hopproxy.link.h2_heads import encoded, encoded_switch
from hopproxy.link.h2_inbound import NEVER, Inbound, Pause
from hopproxy.link.h2_inbound import Carrier as InboundCarrier
from hopproxy.link.h2_tunnel import StreamEnd, check_accept, new_key
from hopproxy.message import ResponseHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.h2 import Code, Stream
from hopproxy.wire.h2_fields import Malformed
from hopproxy.wire.h2_request import Section
from hopproxy.wire.h2_stream import NO_LINES

#: After a client has reset a stream, its exchange may go on for this many seconds and bytes of the
#: response.  If it ends in this time, its upstream link can be used again.
GRACE = 1.0
GRACE_SIZE = 65536


class Carrier(InboundCarrier, Protocol):
    """The connection of a stream, as the stream sees it (`link.h2.H2Link`)."""

    def on_stream_end(self, stream: H2Stream) -> None:
        """Its exchange has ended."""

    def on_stream_fault(self, stream: H2Stream, error: Exception) -> None:
        """Its exchange has raised an unexpected exception."""


class H2Stream(Inbound):
    """A client stream (`link.stream.ClientStream`).

    After a reset the exchange may go on for a moment, to keep its upstream link.  `tunnel` carries
    a WebSocket.
    """

    __slots__ = ("_cut", "_end", "_grace_by", "_out", "_swallowed", "_trailers", "_writing")

    _h2: Carrier
    closing: CloseReason | None
    bound: Bound | None
    _writing: Pause | None
    _cut: HopError | None  # why the response goes nowhere

    def __init__(
        self, h2: Carrier, wire: Stream, section: Section, now: float, ended: bool
    ) -> None:
        """`now` is when it began."""
        # As in `Stepper`: to call it costs as much as all of this.
        self._work = self._wait = self._task = self._woken = self._error = None
        self._h2 = h2
        self.wire = wire
        self._section = section
        self.stream_id = wire.number
        self.number = h2.number
        self.peer = h2.peer
        self.sender = h2.sender
        self.limits = h2.limits
        self.now = h2.now
        self.served = h2.served
        self.since = now
        self.ended = ended
        self.gone = self.costly = self._end = False
        self.body_by = self.timer_at = self._grace_by = NEVER
        self.closing = self.partner = self.bound = self.tunnel = self.refusal = None
        self.trailers = self._content = self._trailers = NO_LINES
        self._arrived = self._taken = self._swallowed = 0
        self._flaw = self._reading = self._writing = self._cut = None
        self._key = b""
        self._out: bytes | memoryview = b""
        try:
            if section.protocol:
                self._key = new_key()
                self.request = section.opening(h2.limits, self._key)
            else:
                self.request = section.request(h2.limits, ended)
        except HopError as error:
            self.refusal = error

    # -- the response ------------------------------------------------------------------------

    async def send_interim(self, head: ResponseHead) -> None:
        """Send an interim response, unless the client reads nothing: no window bounds them."""
        if not self._h2.output.crowded:
            self._h2.wire.send_head(self.wire, encoded(head, b""), ended=False)
            self._h2.output.stir()

    def respond(self, head: ResponseHead, added: bytes, content: bytes) -> None:
        """Queue a complete response, with the field lines `added` by the gateway.

        Ours to a malformed request does not end the stream: a reset does (RFC 9113 section 8.1.1).
        """
        ends = self.closing is None or not self._is_malformed
        self._begin(head, added, ends and not content)
        self._out = content
        self._end = ends

    def begin_response(self, head: ResponseHead, added: bytes) -> None:
        """Queue the head of a response whose body follows."""
        self._begin(head, added, False)
        self._h2.output.stir()

    def _begin(self, head: ResponseHead, added: bytes, ended: bool) -> None:
        if self._key and 200 <= head.status < 300:  # for CONNECT it would mean a tunnel
            raise BadResponse("the origin has not switched protocols")
        self._h2.wire.send_head(self.wire, encoded(head, added), ended)

    def write_content(self, data: bytes) -> None:
        """Queue bytes of the body."""
        if self._cut is not None:
            self._swallowed += len(data)
        else:
            self._out = bytes(self._out) + data if self._out else data

    def end_content(self, trailers: list[bytes]) -> None:
        """Queue the end of the body."""
        self._end = True
        self._trailers = trailers

    def send_last(self) -> bool:
        """Call when all of the response is queued.  False: await `finish`."""
        if self._cut is not None:
            raise self._cut
        return self._h2.output.offer(self)

    async def finish(self) -> None:
        """As `flush`."""
        await self.flush()

    async def flush(self) -> None:
        """Send what is queued.  Waits for the client's windows, and for its other streams.

        Raises LinkError: WRITE_TIMEOUT if no byte could be sent in time.
        """
        if self._cut is not None:
            if self._swallowed > GRACE_SIZE:
                raise self._cut
            return
        if not self.pending or self._h2.output.offer(self):
            return
        if self._writing is None:
            self._writing = Pause(CloseReason.WRITE_TIMEOUT)
        while self.pending:
            await self._pause(self._writing, self.limits.write_timeout)

    # -- a tunnel ----------------------------------------------------------------------------

    async def switch(self, head: ResponseHead, added: bytes, protocol: bytes) -> None:
        """The origin has switched protocols: from now on the stream is a tunnel."""
        check_accept(head, self._key)
        self.tunnel = StreamEnd(self, Hop.CLIENT)
        self._h2.wire.send_head(self.wire, encoded_switch(head, added), ended=False)
        self._h2.output.stir()

    def tunnel_end(self) -> StreamEnd:
        """The client's end of the tunnel."""
        assert self.tunnel is not None
        return self.tunnel

    def send_bytes(self, data: bytes) -> None:
        """Queue bytes of the tunnel, and begin to send them."""
        self._out = data
        self._h2.output.offer(self)

    def send_end(self) -> None:
        """End our side of the tunnel."""
        self._end = True
        self._h2.output.offer(self)

    # -- called by the link ------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        if self._out:
            return True
        return self._end and not self.wire.finished and self.wire.reset is None

    def push(self, most: int) -> bool:
        """Make up to `most` bytes of what is queued into frames; True if that is all."""
        out = self._out
        left = self._h2.wire.send_part(self.wire, out, most, self._trailers, self._end)
        if self._writing is not None and len(left) < len(out):
            self._writing.by = self.now() + self.limits.write_timeout
        self._out = left
        return not left

    def wake_writer(self) -> None:
        """All that was queued is in frames."""
        if self._writing is not None:
            self._writing.wake()
        elif self.tunnel is not None:
            self.tunnel.wake()

    def on_reset(self, error: HopError) -> None:
        """The stream was reset: by the client, or by us since it broke a rule (section 5.4.2).

        An exchange that only waits for its response may go on for a moment.  Otherwise its upstream
        link would be closed, and a flood of resets would become a flood of dials.
        """
        self._out = b""
        if self.running and self.ended and self.holds_link and self.tunnel is None:
            self._cut = error
            self._grace_by = self.now() + GRACE
            self.wake_at(self._grace_by)
            self.wake_writer()
        else:
            self.leave(error)

    def leave(self, error: HopError) -> None:
        """The client has left, or broken a rule: end the exchange."""
        self.gone = True
        self.costly = self.holds_link
        self._out = b""
        self.throw(error)

    def on_time(self, now: float) -> float:
        """A deadline may have passed."""
        if self._grace_by <= now:
            self._grace_by = math.inf
            self.leave(self._cut or self.gone_error())
        nearest = self._grace_by
        for pause in (self._reading, self._writing):
            if pause is not None and pause.waker is not None:
                nearest = min(nearest, pause.on_time(now))
        return nearest if self.tunnel is None else min(nearest, self.tunnel.on_time(now))

    # -- the exchange ------------------------------------------------------------------------

    def on_end(self, result: object) -> None:
        """The exchange has ended."""
        self._h2.on_stream_end(self)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: end this stream, and nothing else."""
        self._h2.on_stream_fault(self, error)

    @property
    def _is_malformed(self) -> bool:
        return isinstance(self._flaw or self.refusal, Malformed)

    @property
    def last_code(self) -> Code:
        """The code to reset the stream with after its exchange, if it is still open."""
        if self.refusal is None and self.request.binds:
            return Code.HTTP_1_1_REQUIRED  # credentials for a connection that it shares
        if self._is_malformed:
            return Code.PROTOCOL_ERROR
        if self.wire.finished:
            return Code.NO_ERROR  # answered before the request had ended (section 8.1)
        late = (CloseReason.BODY_TIMEOUT, CloseReason.WRITE_TIMEOUT)
        return Code.CANCEL if self.closing in late else Code.INTERNAL_ERROR

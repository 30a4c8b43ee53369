"""The origin's side of one attempt as a stream of an HTTP/2 connection (RFC 9113 section 8).

What the origin sends is kept until the exchange takes it.  The origin may send more when the
exchange reads again: by then the client has what was read before.
"""

from __future__ import annotations

import math
from typing import cast

from hopproxy.errors import BadResponse, HopError, LinkError
from hopproxy.link.h2_outbound import Carrier
from hopproxy.link.h2_outbound_tunnel import OutboundTunnel
from hopproxy.link.link import Link
from hopproxy.link.stepper import Wait, Waker, wait
from hopproxy.message import Head, ResponseHead
from hopproxy.reasons import CloseReason, Hop, Unused
from hopproxy.wire.h2 import Code, H2Error
from hopproxy.wire.h2_frames import code_name
from hopproxy.wire.h2_output import in_pieces
from hopproxy.wire.h2_response import ResponseSection, adds_up
from hopproxy.wire.h2_stream import NO_LINES

#: Shared and empty; nothing can be added.
NO_HEADS = cast("list[ResponseSection]", ())

_HEAD_LATE, _BODY_LATE = CloseReason.RESPONSE_TIMEOUT, CloseReason.BODY_TIMEOUT
_LATE = {
    _HEAD_LATE: "no response came in time",
    _BODY_LATE: "the rest of the body did not come in time",
}


class H2UpstreamStream(OutboundTunnel):
    """One request and its response; see `link.stream.UpstreamStream`.

    As a `Wait` it is the wait for news from the origin.
    """

    __slots__ = (
        "_content", "_ended", "_head", "_heads", "_late", "_passed", "_section", "_taken",
        "answer_by", "answered", "ending", "idled", "local_port", "movable", "number", "read_by",
        "served", "since", "trailers", "uploading", "waker",
    )  # fmt: skip

    multiplexed = True
    bound = greeting = False
    link = None

    waker: Waker | None
    ending: CloseReason | None
    trailers: list[bytes]
    _heads: list[ResponseSection]
    _head: ResponseHead | None  # the final one, once it was read
    _ended: bool  # the response has arrived completely
    _content: list[bytes]
    _passed: int  # bytes of content that were read
    _taken: int  # of these, the bytes that were not credited yet
    _section: ResponseSection | None  # the trailers of the response

    def __init__(self, carrier: Carrier) -> None:
        limits = self.limits = carrier.limits
        self.carrier = carrier
        self.number = carrier.number
        self.local_port = carrier.local_port
        self.since = carrier.since
        self.served = carrier.served
        self.now = carrier.now
        self.body_timeout = limits.body_timeout
        self.write_timeout = limits.write_timeout
        self.idled = -1.0
        self.wire = self.error = self.waker = self.ending = self.tunnel = None
        self.uploading = self.answered = self.movable = self.final = False
        self.unprocessed = self.http11_required = self._end = self._ended = False
        self.answer_by = self.read_by = math.inf
        self._out = self._key = b""
        self._room = self._asked = self._head = self._section = None
        self.trailers = self._trailers = self._content = NO_LINES
        self._heads = NO_HEADS
        self._late = _HEAD_LATE
        self._passed = self._taken = 0

    @property
    def reused(self) -> bool:
        """Whether the connection may have died before this request."""
        return self.served > 1 or self.carrier.has_rested

    @property
    def unused(self) -> Unused | None:
        """Why the connection was opened although there were others."""
        return self.carrier.unused

    @property
    def dialled_at(self) -> float:
        """When the dial of the connection began."""
        return self.carrier.dialled_at

    @property
    def stream_id(self) -> int:
        """Its number on the connection, 0 until the request is written."""
        return self.wire.number if self.wire is not None else 0

    @property
    def holder(self) -> Link:
        """Its connection, for the admin listener."""
        return self.carrier.holder

    def __repr__(self) -> str:
        return f"<H2UpstreamStream {self.wire!r} of link {self.number}>"

    # -- the response ------------------------------------------------------------------------

    def expect_head(self, deadline: float) -> Wait | None:
        """Set the deadline for the response's head; return what to wait for, if anything."""
        self.answer_by = self.read_by = deadline
        self.carrier.wake_by(deadline)
        return None if self._heads or self.error is not None else self

    def head_at_hand(self, method: bytes) -> ResponseHead | None:
        """The response's head if it has arrived.  Raises BadResponse."""
        if not self._heads:
            return None
        head = self._heads.pop(0).response(method)
        if head.status >= 200:
            self._head = head = self._switched(head) if self._key else head
        return head

    async def read_head(self, method: bytes) -> ResponseHead:
        """The next head, interim ones included.

        Raises BadResponse; LinkError: RESPONSE_TIMEOUT after `answer_by`, or why there is none.
        """
        while (head := self.head_at_hand(method)) is None:
            self._late, self.read_by = _HEAD_LATE, self.answer_by
            await self._news()
        return head

    async def _news(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)
        self.carrier.wake_by(self.read_by)
        await wait(self)

    def begin_response(self, head: ResponseHead) -> None:
        """The body can be read: nothing to do."""

    @property
    def at_hand(self) -> bool:
        """Whether unread bytes of the body have arrived."""
        return bool(self._content)

    def take_content(self, head: Head) -> bytes | None:
        """Take the body if all of the response has arrived and it has no trailers; else None.

        What can have no body ends with END_STREAM too (RFC 9113 section 8.1).  Raises BadResponse.
        """
        if not self._ended or self._section is not None:
            return None
        data = self.take_at_hand()
        if self._taken:
            self._credit()
        return data

    def take_at_hand(self) -> bytes:
        """Take the part of the body that has arrived.  Raises BadResponse."""
        content, self._content = self._content, NO_LINES
        data = content[0] if len(content) == 1 else b"".join(content)
        size = len(data)
        self._passed += size
        self._taken += size
        assert self._head is not None
        if not adds_up(self._head, self._passed, self._ended):
            raise BadResponse("DATA differs from Content-Length (RFC 9113 section 8.1.1)")
        return data

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end.

        What was read before has been passed on: the origin may send as much more.  Raises
        BadResponse; LinkError: BODY_TIMEOUT between two reads, or why the rest will not come.
        """
        self._credit()
        self._late, self.read_by = _BODY_LATE, self.now() + self.body_timeout
        while not self._content:
            if self._ended:
                if self._section is not None:
                    self.trailers = self._section.trailers()
                return self.take_at_hand()
            await self._news()
        return self.take_at_hand()

    def take_bytes(self) -> bytes:
        """Take what has arrived on a tunnel; the origin may send as much more."""
        data = b"".join(self._content)
        self._content = NO_LINES
        self._taken += len(data)
        self._credit()
        return data

    @property
    def ended(self) -> bool:
        """Whether the origin has ended its side."""
        return self._ended

    def _credit(self) -> None:
        taken, self._taken = self._taken, 0
        if taken:
            assert self.wire is not None
            if self.carrier.wire.credit(self.wire, taken):
                self.carrier.output.stir()

    def end_cycle(self, head: ResponseHead, request_sent: bool) -> None:
        """The response has been read.  The connection goes on, even if the request was not sent."""

    # -- called by the link ------------------------------------------------------------------

    def on_head(self, section: ResponseSection, ended: bool) -> None:
        """A field section has arrived: an interim head, the final one, or trailers."""
        self.answered = True
        self._ended = ended
        if self.final:
            self._section = section
            if not ended:
                self.fail(BadResponse("a second head that ends nothing (RFC 9113 section 8.1)"))
        elif not section.is_interim:
            self.final = True
            self._heads = [*self._heads, section]
        elif ended:
            self.fail(BadResponse("an interim response that ends the stream"))
        elif len(self._heads) > self.limits.max_interim:
            self.fail(BadResponse("more interim responses than max_interim", limit="max_interim"))
        else:
            self._heads = [*self._heads, section]

    def on_content(self, data: bytes, ended: bool) -> None:
        """DATA has arrived."""
        if not self.final:
            self.fail(BadResponse("DATA before the response's head (RFC 9113 section 8.1)"))
            return
        if data:
            self._content = in_pieces(self._content, data)
        self._ended = ended

    def on_reset(self, code: int) -> None:
        """The origin has reset the stream, or its GOAWAY has left it out."""
        # After its end it does not want the rest of the request (section 8.1).  A tunnel is cut,
        # unless the code says that there is no error.
        if self._ended and (code == Code.NO_ERROR or not self._key):
            return
        # A request that has an interim response was processed, whatever the origin says now.
        if code in (Code.REFUSED_STREAM, Code.HTTP_1_1_REQUIRED) and not self.answered:
            self.unprocessed = True
            self.http11_required = code == Code.HTTP_1_1_REQUIRED
            reason = CloseReason.STREAM_REFUSED
        else:
            reason = CloseReason.STREAM_RESET
        self.fail(
            LinkError(Hop.UPSTREAM, reason, f"the origin reset the stream: {code_name(code)}")
        )

    def on_broken(self, error: H2Error) -> None:
        """The origin has broken a rule, and the stream was reset."""
        if not self._ended:
            self.fail(BadResponse(error.told))

    def fail(self, error: HopError) -> None:
        """Nothing more will come."""
        if self.error is None:
            self.error = error
            self.cut_tunnel(error)

    def wake(self) -> None:
        """There is news: go on."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()
        if self.tunnel is not None or self.error is not None or (self._end and self.final):
            self.wake_writer()

    def leave(self, error: HopError) -> bool:
        """End the wait for the response with this error; False if there is no such wait."""
        if self.waker is None or self.error is not None:
            return False
        self.fail(error)
        self.wake()
        return True

    @property
    def waits(self) -> bool:
        """Whether a request was written of whose response nothing has come."""
        return self.wire is not None and not self.answered and self.error is None

    def on_time(self, now: float) -> float:
        """A deadline may have passed: end what has timed out, return the next deadline."""
        if self.waker is not None and self.read_by <= now:
            self.fail(LinkError(Hop.UPSTREAM, self._late, _LATE[self._late]))
            self.wake()
        room = self._room
        if room is not None and room.by <= now:
            self.wake_writer()
        if self.tunnel is not None:
            return self.tunnel.on_time(now)
        return min(
            self.read_by if self.waker is not None else math.inf,
            room.by if room is not None and room.waker is not None else math.inf,
        )

"""What arrives on one stream of a client's HTTP/2 connection: a request and its body.

The client may send one window ahead.  It may send more when the exchange has passed bytes on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from hopproxy.errors import HopError, LinkError
from hopproxy.link.h2_output import H2Output
from hopproxy.link.h2_tunnel import StreamEnd
from hopproxy.link.link import Link
from hopproxy.link.stepper import Stepper, Waker, wait
from hopproxy.link.transport import Transport
from hopproxy.link.watch import Watch
from hopproxy.message import CHUNKED, Head, RequestHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.forwarding import Sender
from hopproxy.settings.client import LinkSettings
from hopproxy.wire.h2 import H2Server, Stream
from hopproxy.wire.h2_fields import Malformed
from hopproxy.wire.h2_output import in_pieces
from hopproxy.wire.h2_request import Section
from hopproxy.wire.h2_stream import NO_LINES

#: A global is faster than an attribute of a module.
NEVER = math.inf

_LATE = {
    CloseReason.BODY_TIMEOUT: "the rest of the body did not come in time",
    CloseReason.BODY_RATE: "the body came more slowly than body_rate",
    CloseReason.WRITE_TIMEOUT: "the client's window stayed closed",
}


class Pause:
    """A wait for the client: for bytes, or for room.  `by` is its deadline, `late` its reason."""

    __slots__ = ("by", "error", "late", "waker")

    def __init__(self, late: CloseReason) -> None:
        self.late = late
        self.waker: Waker | None = None
        self.by = math.inf
        self.error: HopError | None = None

    def wake(self) -> None:
        """End the wait, if anyone waits."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

    def on_time(self, now: float) -> float:
        """End the wait if it is over, return its deadline otherwise."""
        if self.by > now:
            return self.by
        self.error = LinkError(Hop.CLIENT, self.late, _LATE[self.late])
        self.wake()
        return math.inf


class Carrier(Protocol):
    """The connection of a stream, as the stream sees it (`link.h2.H2Link`)."""

    number: int
    served: int
    peer: str
    sender: Sender
    limits: LinkSettings
    transport: Transport
    watch: Watch
    wire: H2Server
    output: H2Output

    def now(self) -> float: ...
    def name_by(self, request: RequestHead) -> str: ...
    def credit(self, wire: Stream, size: int) -> None:
        """The exchange has passed on what it took: the client may send as much more."""


class Inbound(Stepper, ABC):
    """The receiving half of a client stream, and the stepper of its exchange.

    `stream_id` is its number on the connection, `served` its place among the requests.  `wire` are
    its state and its windows.  `refusal` is why the request cannot be served.  `ended` once all of
    it has arrived.  `gone` once the client has left.
    `costly` if the client has ended it in a way that closes an upstream link.

    `H2Stream` sets all attributes at once: each request gets there.
    """

    __slots__ = (
        "_arrived", "_content", "_flaw", "_h2", "_key", "_reading", "_section", "_taken",
        "body_by", "bound", "closing", "costly", "ended", "gone", "limits", "now", "number",
        "partner", "peer", "refusal", "request", "sender", "served", "since", "stream_id",
        "timer_at", "trailers", "tunnel", "wire",
    )  # fmt: skip

    _h2: Carrier
    wire: Stream
    limits: LinkSettings
    now: Callable[[], float]
    request: RequestHead
    ended: bool
    gone: bool
    body_by: float
    timer_at: float
    partner: Link | None
    tunnel: StreamEnd | None
    refusal: HopError | None
    trailers: list[bytes]
    _section: Section
    _key: bytes  # of a WebSocket
    _arrived: int  # bytes of content
    _content: list[bytes]
    _taken: int  # bytes that were read, but not credited yet
    _flaw: HopError | None
    _reading: Pause | None

    @property
    def driver(self) -> Stepper:
        """The exchange is stepped by its stream."""
        return self

    @property
    def link(self) -> Link | None:
        """None: its connection carries other streams too, so nothing is spliced."""
        return None

    @property
    def fd(self) -> int:
        """As `ClientStream.fd`."""
        return self._h2.transport.fd

    def name_by(self, request: RequestHead) -> str:
        """As `ClientLink.name_by`."""
        return self._h2.name_by(request)

    def glimpse(self, _: HopError) -> tuple[bytes, bytes, bytes]:
        """(method, target, host) of a refused request."""
        return self._section.glimpse()

    def gone_error(self) -> LinkError:
        """The error for a client that has reset this stream, or left."""
        if self.wire.reset is None:
            return LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, "the client closed")
        return LinkError(Hop.CLIENT, CloseReason.STREAM_RESET, "the client reset the stream")

    # -- the request -------------------------------------------------------------------------

    def feed(self, data: bytes, *, ended: bool) -> None:
        """DATA has arrived; `wake_reader` follows."""
        if data:
            self._arrived += len(data)
            self._content = in_pieces(self._content, data)
        self._fed(ended=ended)

    def feed_trailers(self, section: Section) -> None:
        """The trailers of the request have arrived."""
        if self.refusal is None:
            try:
                self.trailers = section.trailers()
            except HopError as error:
                self._refuse_body(error)
        self._fed(ended=True)
        self.wake_reader()

    def _fed(self, *, ended: bool) -> None:
        self.ended = ended
        if self.refusal is not None:
            self._h2.credit(self.wire, self._arrived)
            return
        if not self._key and self._flaw is None and not self._adds_up():
            flaw = "DATA differs from Content-Length (RFC 9113 section 8.1.1)"
            self._refuse_body(Malformed(flaw))

    def wake_reader(self) -> None:
        """Wake the reader: what has arrived can be read."""
        if self._reading is not None:
            self._reading.wake()
        elif self.tunnel is not None:
            self.tunnel.wake()

    def _adds_up(self) -> bool:
        body, length = self.request.body, self.request.length
        if body is CHUNKED:
            return True
        return self._arrived == length if self.ended else self._arrived <= length

    def _refuse_body(self, error: HopError) -> None:
        self._flaw = error
        if not self.running:
            self.refusal = error  # nothing of it goes upstream
            return
        self.costly = self.holds_link
        if self._reading is None and not self.at_hand:
            self.throw(error)

    @property
    def holds_link(self) -> bool:
        """Whether its exchange has an upstream link of its own, of HTTP/1.1."""
        return self.partner is not None and not self.partner.multiplexed

    @property
    def at_hand(self) -> bool:
        """Whether unread bytes of the body have arrived."""
        return bool(self._content)

    def take_content(self, head: Head) -> bytes | None:
        """Take the body if all of it has arrived; else None, and nothing is taken."""
        if not self.ended or self._flaw is not None:
            return None
        return self.take_bytes()

    def take_bytes(self) -> bytes:
        """Take what has arrived; the client may send as much more."""
        data = self._joined()
        self._h2.credit(self.wire, len(data))
        return data

    def _joined(self) -> bytes:
        content, self._content = self._content, NO_LINES
        return content[0] if len(content) == 1 else b"".join(content)

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end.

        What was read before has been passed on: the client may send as much more.  Raises
        LinkError: BODY_TIMEOUT, BODY_RATE; BadRequest if the request turns out to be malformed.
        """
        taken, self._taken = self._taken, 0
        if taken:
            self._h2.credit(self.wire, taken)
        while not self._content or self._flaw is not None:
            if self._flaw is not None:
                raise self._flaw  # not the bytes beyond Content-Length
            if self.ended:
                return b""
            if self._reading is None:
                self._reading = Pause(CloseReason.BODY_TIMEOUT)
            seconds, left = self.limits.body_timeout, self.body_by - self.now()
            self._reading.late = CloseReason.BODY_TIMEOUT
            if left < seconds:
                seconds, self._reading.late = left, CloseReason.BODY_RATE
            await self._pause(self._reading, seconds)
        data = self._joined()
        self._taken = len(data)
        return data

    async def _pause(self, pause: Pause, seconds: float) -> None:
        """Wait once, for at most `seconds`."""
        if self.gone:
            raise self.gone_error()
        pause.by = self.now() + seconds
        self.wake_at(pause.by)
        await wait(pause)
        if pause.error is not None:
            try:
                raise pause.error
            finally:
                pause.error = None  # the stream may go on

    @abstractmethod
    def on_time(self, now: float) -> float:
        """A deadline may have passed: end what has timed out, return the next deadline."""

    def wake_at(self, deadline: float) -> None:
        """Call `on_time` at this time, or earlier."""
        self._h2.watch.wake_at(self, deadline)

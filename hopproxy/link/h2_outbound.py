"""A request that leaves on a stream of an HTTP/2 connection (RFC 9113 section 8.1).

The exchange writes into `_out`; the connection moves that into frames as the origin's windows and
the other streams allow (`link.h2_output`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from hopproxy.errors import HopError, LinkError
from hopproxy.link.h2_output import H2Output
from hopproxy.link.link import Link
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.stream import Added
from hopproxy.link.transport import Transport
from hopproxy.message import NO_BODY, RequestHead
from hopproxy.reasons import CloseReason, Hop, Unused
from hopproxy.rules.hop import request_for_upstream
from hopproxy.rules.upgrade import asks_websocket
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import H2Client, Stream
from hopproxy.wire.h2_asking import request_block

_LATE = CloseReason.WRITE_TIMEOUT


class Carrier(Protocol):
    """The connection, as its streams see it (`link.h2_upstream`).

    `speaks_http1` if its origin has chosen HTTP/2, and may choose HTTP/1.1.
    """

    number: int
    local_port: int
    since: float
    served: int
    unused: Unused | None
    dialled_at: float
    has_rested: bool
    limits: UpstreamSettings
    scheme: bytes
    speaks_http1: bool
    wire: H2Client
    output: H2Output
    transport: Transport
    now: Callable[[], float]

    @property
    def holder(self) -> Link: ...
    def wake_by(self, deadline: float) -> None:
        """Make sure that `on_time` of every stream is called by then."""


class Room:
    """The wait until what is queued was made into frames.  `by` is its deadline."""

    __slots__ = ("by", "waker")

    def __init__(self) -> None:
        self.waker: Waker | None = None
        self.by = math.inf


class Outbound(ABC):
    """The request of one stream.

    `wire` is its stream in the frame layer, None until the request is written.  `error` is why it
    has ended.  `final` once the head of the final response has arrived.

    `H2UpstreamStream` sets all attributes at once: each request gets there.
    """

    __slots__ = (
        "_end", "_out", "_room", "_trailers", "body_timeout", "carrier", "error", "final",
        "limits", "now", "wire", "write_timeout",
    )  # fmt: skip

    carrier: Carrier
    limits: UpstreamSettings
    body_timeout: float
    write_timeout: float
    now: Callable[[], float]
    wire: Stream | None
    error: HopError | None
    final: bool
    _out: bytes | memoryview
    _end: bool
    _trailers: list[bytes]
    _room: Room | None

    def write_request(self, head: RequestHead, added: Added, body: bytes) -> None:
        """Queue the request's head, and the part of the body that has arrived."""
        carrier = self.carrier
        if carrier.transport.closed:  # it has just ended: nothing was sent
            self.error = LinkError(Hop.UPSTREAM, CloseReason.PEER_CLOSED, "the connection ended")
            return
        if head.upgrade is not None and asks_websocket(head):
            self.ask_websocket(head, added)
            return
        written = request_for_upstream(head, *added)
        block = request_block(written, carrier.scheme)
        stream = self.wire = carrier.wire.open(block, head.body is NO_BODY)
        stream.owner = self
        if body:
            self._out, self._end = body, True

    @abstractmethod
    def ask_websocket(self, head: RequestHead, added: Added) -> None:
        """The request is a WebSocket's."""

    @property
    def written(self) -> int:
        """Whether anything of the request was sent: 1, else 0."""
        return 0 if self.wire is None else 1

    def write_content(self, data: bytes) -> None:
        """Queue bytes of the body."""
        self._out = bytes(self._out) + data if self._out else data

    def end_content(self, trailers: list[bytes]) -> None:
        """Queue the end of the body."""
        self._end = True
        self._trailers = trailers

    def send_soon(self) -> None:
        """Send what is queued at the end of this batch of events."""
        if self._out:
            self.carrier.output.offer(self)
        else:
            self.carrier.output.stir()

    async def flush(self) -> None:
        """Make what is queued into frames.  Waits until the origin's windows let it.

        Does not wait any longer if all of the body is queued and the response has come.  Raises
        LinkError: WRITE_TIMEOUT if no byte was accepted in time, or why the stream has ended.
        """
        if not self.carrier.output.offer(self):
            room = self._room = self._room or Room()
            room.by = self.now() + self.write_timeout
            while self.pending and self.error is None and not (self._end and self.final):
                if room.by <= self.now():
                    raise LinkError(Hop.UPSTREAM, _LATE, "the origin's window stayed closed")
                self.carrier.wake_by(room.by)
                await wait(room)
        if self.error is not None:
            raise self.error.with_traceback(None)

    # -- sending, called by the output -------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        wire = self.wire
        if wire is None or wire.reset is not None:
            return False
        return bool(self._out) or (self._end and not wire.finished)

    def push(self, most: int) -> bool:
        """Make up to `most` bytes of what is queued into frames; True if that is all."""
        wire, out = self.wire, self._out
        if wire is None or wire.reset is not None:
            return True
        left = self.carrier.wire.send_part(wire, out, most, self._trailers, self._end)
        if self._room is not None and len(left) < len(out):
            self._room.by = self.now() + self.write_timeout
        self._out = left
        return not left

    def wake_writer(self) -> None:
        """Everything queued is in frames, or the stream has ended: wake the writer."""
        room = self._room
        if room is not None and room.waker is not None:
            waker, room.waker = room.waker, None
            waker.wake()

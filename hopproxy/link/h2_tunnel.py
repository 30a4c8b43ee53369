"""One end of a tunnel that is an HTTP/2 stream (RFC 8441)."""

from __future__ import annotations

import hashlib
import math
import os
from base64 import b64encode
from typing import Protocol

from hopproxy.errors import BadResponse, LinkError
from hopproxy.link.stepper import Waker
from hopproxy.link.transport import LATE
from hopproxy.message import ResponseHead
from hopproxy.reasons import CloseReason, Hop

#: Most bytes that wait for the peer's window.
MOST = 65536

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key() -> bytes:
    """A Sec-WebSocket-Key: HTTP/1.1 needs one, and HTTP/2 has none (RFC 6455 section 4.1)."""
    return b64encode(os.urandom(16))


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for this key (RFC 6455 section 4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID).digest())


def check_accept(head: ResponseHead, key: bytes) -> None:
    """Check that a 101 answers this key (RFC 6455 section 4.1).  Raises BadResponse."""
    if head.values(b"sec-websocket-accept") != [accept_of(key)]:
        raise BadResponse("101 with a Sec-WebSocket-Accept that does not match the key")


class Carrying(Protocol):
    """The stream (`link.h2_stream.H2Stream`, `link.h2_upstream_stream.H2UpstreamStream`)."""

    @property
    def ended(self) -> bool: ...
    @property
    def at_hand(self) -> bool: ...
    @property
    def pending(self) -> bool: ...
    def now(self) -> float: ...
    def take_bytes(self) -> bytes:
        """Take what has arrived; the peer may send as much more."""

    def send_bytes(self, data: bytes) -> None:
        """Queue bytes, and begin to send them."""

    def send_end(self) -> None:
        """End our side."""

    def wake_at(self, deadline: float) -> None: ...


class StreamEnd:
    """One end of a tunnel; it replaces a link, its transport and its endpoint.

    `failed` is the error that ended the stream, None if there was none.
    """

    cut = False

    def __init__(self, stream: Carrying, hop: Hop) -> None:
        self._stream = stream
        self._hop = hop
        self.now = stream.now
        self.failed: LinkError | None = None
        self.buffer = b""
        self.waker: Waker | None = None
        self.error: Exception | None = None
        self.by = math.inf
        self.late = CloseReason.TUNNEL_TIMEOUT

    @property
    def transport(self) -> StreamEnd:
        """As of a link."""
        return self

    @property
    def endpoint(self) -> StreamEnd:
        """As of a transport."""
        return self

    @property
    def readable(self) -> bool:
        """Whether bytes have arrived, or the end."""
        return self._stream.at_hand or self._stream.ended or self.failed is not None

    @property
    def pending(self) -> bool:
        """Whether bytes or the end that were accepted wait for the peer's window, or were lost."""
        return self._stream.pending or self.failed is not None

    def receive_now(self) -> bytes | None:
        """What has arrived, b"" at the end of the stream, None if nothing.  Raises `failed`."""
        if self._stream.at_hand:
            return self._stream.take_bytes()
        if self.failed is not None:
            raise self.failed.with_traceback(None)
        return b"" if self._stream.ended else None

    def send_now(self, data: bytes | memoryview) -> int:
        """Take up to MOST bytes; none while earlier ones wait.  Raises `failed`."""
        if self.failed is not None:
            raise self.failed.with_traceback(None)
        if self._stream.pending:
            return 0
        part = bytes(data[:MOST])
        self._stream.send_bytes(part)
        return len(part)

    def tell_of_room(self) -> None:
        """Nothing to do: it always gets this event."""

    def shut_down(self) -> None:
        """End our side of the stream."""
        self._stream.send_end()

    def cut_short(self) -> None:
        """Nothing to do: if the other side breaks, the stream is reset."""

    def wait_until(self, deadline: float, late: CloseReason) -> None:
        """Wake with an error at this time."""
        self.by = deadline
        self.late = late
        self._stream.wake_at(deadline)

    def raise_error(self) -> None:
        """Raise the error that woke the tunnel, if there is one."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None

    def wake(self) -> None:
        """Bytes or room have come."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

    def on_time(self, now: float) -> float:
        """End the wait if it is over, return its deadline otherwise."""
        if self.waker is None:
            return math.inf
        if self.by > now:
            return self.by
        self.error = LinkError(self._hop, self.late, LATE[self.late])
        self.wake()
        return self.by if self.by > now else math.inf

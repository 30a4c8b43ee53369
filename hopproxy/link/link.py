"""What client and upstream links share: a read buffer, the body being read, and queued output.

A link belongs to one hop.  Nothing here knows that another hop exists.
"""

import math
from itertools import count

from hopproxy.errors import BadRequest, BadResponse, LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE
from hopproxy.link.stepper import Waker
from hopproxy.link.transport import Transport
from hopproxy.message import CHUNKED, NO_BODY, SIZED, UNTIL_CLOSE, Head
from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.chunked import LAST_CHUNK, ChunkedError, ChunkedReader, chunk, last_chunk

#: Most empty lines ignored before a head (RFC 9112 section 2.2).
MAX_EMPTY_LINES = 8

_numbers = count(1)  # not a class attribute: changing a class invalidates CPython's type caches


def number_links(first: int, step: int) -> None:
    """Number the links to come so that several workers never use the same number."""
    global _numbers
    _numbers = count(first, step)


class Link:
    """One connection.  `served` counts requests begun on it, `close_reason` is why it ended.

    To read a body: `begin_body`, then `read_body` until it returns b"".  To send:

    =============== ====================== ======== =======================================
    method          called by              waits    what follows
    =============== ====================== ======== =======================================
    `write`         exchange, upload       no       `flush` or one of the sends below
    `flush`, `send` exchange, upload       for room nothing: all is sent
    `send_soon`     attempt: the request   no       `send_queued`
    `send_last`     exchange: the response no       `send_queued`; if False, `finish` waits
    `send_queued`   watch: end of a batch  no       if it `fell_short`: `send_unsent`
    `send_unsent`   whoever waits or reads for room nothing: all is sent
    =============== ====================== ======== =======================================

    `send_last` and `finish` are those of a client link.  As a `Wait` a link is the wait for the end
    of a batch of events, when queued output is sent.  Times are seconds of trio's clock.
    """

    __slots__ = (
        "_chunks", "_out", "_unsent", "_waits_for_batch", "body", "body_by", "body_timeout",
        "buffer", "close_reason", "codes", "fell_short", "hop", "left", "now", "number",
        "opened", "peer", "served", "since", "transport", "waker", "write_timeout",
    )  # fmt: skip

    #: Whether it carries many requests at a time, each as a stream.
    multiplexed = False

    def __init__(self, transport: Transport, peer: str) -> None:
        self.number = next(_numbers)
        self.transport = transport
        self.now = transport.now
        self.hop = transport.hop
        self.peer = peer
        self.buffer = b""
        self.body = NO_BODY
        self.left = 0
        self.body_timeout = 60.0
        self.body_by = math.inf
        self.write_timeout = 60.0
        self.served = 0
        self.opened = self.since = transport.now()
        self.close_reason: CloseReason | None = None
        self._chunks: ChunkedReader | None = None
        self.codes = False  # the body we send is chunked
        self._out = b""
        self._unsent: LinkError | None = None
        self.fell_short = False  # `send_queued` could not send all: `send_unsent` must follow
        self._waits_for_batch = False
        self.waker: Waker | None = None  # of `finish`

    # -- in ----------------------------------------------------------------------------------

    def take_head(self, limit: int, read: int = 0) -> bytes | None:
        """Take a complete head from the buffer, without its empty line; None if incomplete.

        The first `read` bytes are known to contain no empty line.  Raises ValueError if the head
        is, or can only become, larger than `limit` bytes.
        """
        buffer = self.buffer
        end = buffer.find(b"\r\n\r\n", read - 3 if read > 3 else 0)
        if end < 0:
            if len(buffer) > limit:
                raise ValueError(limit)
            return None
        if end + 4 > limit:
            raise ValueError(limit)
        self.buffer = buffer[end + 4 :]
        return buffer[:end]

    def begin_body(self, head: Head) -> None:
        """From now on `read_body` returns the body of this head."""
        self.body = head.body
        self.left = head.length
        self._chunks = ChunkedReader() if head.body is CHUNKED else None

    @property
    def link(self) -> "Link":
        """In HTTP/1.1 a stream is a whole link."""
        return self

    @property
    def at_hand(self) -> bool:
        """Whether there are unread bytes in the buffer."""
        return bool(self.buffer)

    @property
    def trailers(self) -> list[bytes]:
        """The trailers of the chunked body that has just been read."""
        return self._chunks.trailers if self._chunks is not None else []

    def take_chunked_body(self) -> bytes | None:
        """Take a chunked body if it is in the buffer completely and has no trailers; else None."""
        if not self.buffer.endswith(LAST_CHUNK):
            return None
        trial = ChunkedReader()
        try:
            content, rest = trial.feed(self.buffer)
        except ChunkedError:
            return None  # `read_body` raises it
        if not trial.done or trial.trailers or rest:
            return None
        self.body = NO_BODY
        self.buffer = b""
        return content

    def take_content(self, head: Head) -> bytes | None:
        """Take the body of this head if it is in the buffer completely; else None."""
        body = head.body
        if body is NO_BODY:
            return b""
        if body is SIZED:
            buffer, length = self.buffer, head.length
            if len(buffer) < length:
                return None
            self.body = NO_BODY
            if len(buffer) == length:
                self.buffer = b""
                return buffer
            self.buffer = buffer[length:]
            return buffer[:length]
        return self.take_chunked_body() if body is CHUNKED else None

    def take_at_hand(self) -> bytes:
        """Take the part of the body that is in the buffer, maybe b"".  Raises as `read_body`."""
        data = self.buffer
        if not data or self.body is NO_BODY:
            return b""
        self.buffer = b""
        return self._body_of(data)

    async def read_body(self, size: int = RECEIVE_SIZE) -> bytes:
        """The next bytes of the body, b"" at its end; up to `size` if so many are to come.

        Raises LinkError: BODY_TIMEOUT between two reads, BODY_RATE after `body_by`, INCOMPLETE at a
        FIN before the end;
        BadRequest or BadResponse (by hop) if the chunked coding is malformed.
        """
        while self.body is not NO_BODY:
            data = self.buffer
            if data:
                self.buffer = b""
            else:
                most = RECEIVE_SIZE if self.left < size else size
                data = await self._receive(*self.body_deadline(), most)
                if not data:
                    self._end_of_stream()
                    return b""
            data = self._body_of(data)
            if data:
                return data
        return b""

    async def _receive(self, deadline: float, late: CloseReason, size: int = RECEIVE_SIZE) -> bytes:
        """The next bytes of a message, as `Transport.receive`."""
        return await self.transport.receive(deadline, late, size)

    def body_deadline(self) -> tuple[float, CloseReason]:
        """Until when to wait for the next bytes of a body, and why no longer."""
        deadline = self.transport.now() + self.body_timeout
        if self.body_by < deadline:
            return self.body_by, CloseReason.BODY_RATE
        return deadline, CloseReason.BODY_TIMEOUT

    def _body_of(self, data: bytes) -> bytes:
        """The part of `data` that belongs to the body; the rest goes back into the buffer."""
        if self.body is SIZED:
            if len(data) >= self.left:
                self.buffer = data[self.left :]
                data = data[: self.left]
                self.body = NO_BODY
            self.left -= len(data)
        elif self.body is CHUNKED:
            assert self._chunks is not None
            try:
                data, self.buffer = self._chunks.feed(data)
            except ChunkedError as error:
                refusal = BadRequest if self.hop is Hop.CLIENT else BadResponse
                raise refusal(str(error)) from error
            if self._chunks.done:
                self.body = NO_BODY
        return data

    def _end_of_stream(self) -> None:
        if self.body is not UNTIL_CLOSE:
            raise LinkError(self.hop, CloseReason.INCOMPLETE, "the connection ended inside a body")
        if self.transport.endpoint.cut:
            detail = "the body may be cut off: only the close ended it, without close_notify"
            raise LinkError(self.hop, CloseReason.INCOMPLETE, detail)
        self.body = NO_BODY

    # -- out ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes; nothing is sent before `flush`, `finish` or `send_soon`."""
        self._out += data

    def write_content(self, data: bytes) -> None:
        """Queue bytes of a body in the framing of this hop."""
        self.write(chunk(data) if self.codes else data)

    def end_content(self, trailers: list[bytes]) -> None:
        """Queue the end of a body."""
        if self.codes:
            self.write(last_chunk(trailers))

    async def flush(self) -> None:
        """Send what is queued.  Waits only if the peer does not accept all of it at once.

        Raises LinkError: WRITE_TIMEOUT if no byte was accepted in time, PEER_RESET.
        """
        data, self._out = self._out, b""
        if data:
            count = self.transport.send_now(data)
            if count < len(data):
                await self.transport.send_rest(memoryview(data)[count:], self.write_timeout)

    async def send(self, data: bytes) -> None:
        """Send what is queued, then `data`.  As `flush`."""
        self.write(data)
        await self.flush()

    def send_soon(self) -> None:
        """Send what is queued at the end of this batch of events.  Does not wait."""
        self._waits_for_batch = self.transport.send_later(self)

    def send_queued(self) -> None:
        """The batch of events is over: send."""
        self._waits_for_batch = False
        data = self._out
        transport = self.transport
        self._out = b""
        if data and not transport.closed:  # otherwise it was sent, or is no longer needed
            try:
                count = transport.send_now(data)
            except LinkError as error:
                self.fell_short = True
                self._unsent = error
            else:
                if count == len(data) and self.waker is None:
                    return
                self._out = data[count:]
                self.fell_short = bool(self._out)
        waker = self.waker
        if waker is not None:
            self.waker = None
            waker.wake()
        elif self.fell_short:
            transport.interrupt(None)  # whoever waits to read must send the rest

    async def send_unsent(self) -> None:
        """Send what `send_queued` could not, or raise its error."""
        self.fell_short = False
        if self._unsent is not None:
            try:
                raise self._unsent
            finally:
                self._unsent = None  # its traceback refers to this frame
        await self.flush()

    async def linger(self, seconds: float, size: int) -> None:
        """Lingering close: send FIN, then discard input until FIN, `seconds` or `size` bytes.

        Closing a socket with unread bytes sends RST, which could destroy the response before the
        peer has read it (RFC 9112 section 9.6).
        """
        if not self.transport.hung_up:  # the peer's FIN has arrived: no RST will be sent
            self.transport.endpoint.shut_down()
        self.buffer = b""
        deadline = self.transport.now() + seconds
        while size > 0:
            try:
                data = await self.transport.receive(deadline, CloseReason.IDLE_TIMEOUT)
            except LinkError:
                return
            if not data:
                return
            size -= len(data)

    def on_quiet(self) -> None:
        """Nothing has moved for a while.  It has nothing to give back."""

    def on_fault(self, error: Exception) -> None:
        """A callback of this link raised an unexpected exception."""
        raise error

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket.  The first reason given is kept."""
        if self.close_reason is None:
            self.close_reason = reason
        self._out = b""
        self.transport.close(reset=reset)

"""What the links of both hops share: one buffer, one body being read, bytes on their way out.

A link belongs to one hop.  Nothing here knows that another hop exists.
"""

from itertools import count

from hopproxy.errors import BadRequest, BadResponse, LinkError
from hopproxy.link.transport import Transport
from hopproxy.message import CHUNKED, NO_BODY, SIZED, UNTIL_CLOSE, Head
from hopproxy.record import CloseReason, Hop
from hopproxy.wire.chunked import LAST_CHUNK, ChunkedError, ChunkedReader, chunk, last_chunk

#: Empty lines before a head are ignored (RFC 9112 section 2.2), but not for ever.
MAX_EMPTY_LINES = 8

_numbers = count(1)  # no attribute of the class: each change of a class empties Python's caches


class Link:
    """One transport link.  `served` counts requests begun on it, `close_reason` why it ended.

    Reading a body: `begin_body`, then `read_body` until it gives b"".  Writing only queues;
    `flush` sends.  Times are seconds of trio's clock.
    """

    __slots__ = (
        "_chunks",
        "_out",
        "body",
        "body_timeout",
        "buffer",
        "close_reason",
        "hop",
        "left",
        "number",
        "opened",
        "peer",
        "served",
        "since",
        "transport",
        "write_timeout",
    )

    def __init__(self, transport: Transport, peer: str) -> None:
        self.number = next(_numbers)
        self.transport = transport
        self.hop = transport.hop
        self.peer = peer
        self.buffer = b""
        self.body = NO_BODY
        self.left = 0
        self.body_timeout = 60.0
        self.write_timeout = 60.0
        self.served = 0
        self.opened = self.since = transport.now()
        self.close_reason: CloseReason | None = None
        self._chunks: ChunkedReader | None = None
        self._out: list[bytes] = []

    # -- in ----------------------------------------------------------------------------------

    def take_head(self, limit: int, read: int = 0) -> bytes | None:
        """A whole head out of the buffer, without its empty line; None when it is not whole yet.

        `read` bytes are known to have no empty line among them.  Raises ValueError when the head
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
        """From here on `read_body` gives the body of this head."""
        self.body = head.body
        self.left = head.length
        self._chunks = ChunkedReader() if head.body is CHUNKED else None

    @property
    def body_done(self) -> bool:
        """Whether the body has been read to its end."""
        return self.body is NO_BODY

    @property
    def trailers(self) -> list[bytes]:
        """The trailers of the chunked body that has just been read."""
        return self._chunks.trailers if self._chunks is not None else []

    def take_sized_body(self) -> bytes:
        """The whole of a sized body, which must be at hand."""
        buffer, left = self.buffer, self.left
        self.body = NO_BODY
        if len(buffer) == left:
            self.buffer = b""
            return buffer
        self.buffer = buffer[left:]
        return buffer[:left]

    def take_chunked_body(self) -> bytes | None:
        """The whole of a chunked body without trailers if it is at hand; else nothing is taken."""
        if not self.buffer.endswith(LAST_CHUNK):
            return None
        trial = ChunkedReader()
        try:
            content, rest = trial.feed(self.buffer)
        except ChunkedError:
            return None  # `read_body` will meet it again, and say so
        if not trial.done or trial.trailers or rest:
            return None
        self.body = NO_BODY
        self.buffer = b""
        return content

    def take_at_hand(self) -> bytes:
        """What of the body is in the buffer, b"" if nothing is.  Raises as `read_body`."""
        data = self.buffer
        if not data or self.body is NO_BODY:
            return b""
        self.buffer = b""
        return self._body_of(data)

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end.

        Raises LinkError: BODY_TIMEOUT between two reads, INCOMPLETE at a FIN before the end,
        and BadRequest or BadResponse (by hop) where the chunked coding is broken.
        """
        while self.body is not NO_BODY:
            data = self.buffer
            if data:
                self.buffer = b""
            else:
                deadline = self.transport.now() + self.body_timeout
                data = await self._receive(deadline, CloseReason.BODY_TIMEOUT)
                if not data:
                    self._end_of_stream()
                    return b""
            data = self._body_of(data)
            if data:
                return data
        return b""

    async def _receive(self, deadline: float, late: CloseReason) -> bytes:
        """The next bytes of a message, as `Transport.receive`."""
        return await self.transport.receive(deadline, late)

    def _body_of(self, data: bytes) -> bytes:
        """What of `data` is of the body; what is behind it goes back into the buffer."""
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
        self.body = NO_BODY

    # -- out ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes; nothing is sent before `flush`."""
        self._out.append(data)

    def write_body(self, data: bytes, *, chunked: bool) -> None:
        """Queue body bytes in the framing of this hop."""
        self._out.append(chunk(data) if chunked else data)

    def write_last_chunk(self, trailers: list[bytes]) -> None:
        """Queue the end of a chunked body."""
        self._out.append(last_chunk(trailers))

    def push(self, data: bytes) -> bool:
        """Send at once what the peer takes; False when the rest stays queued and needs a `flush`.

        Raises LinkError.  Nothing else may be queued.
        """
        count = self.transport.send_now(data)
        if count == len(data):
            return True
        self._out.append(data[count:])
        return False

    async def flush(self) -> None:
        """Send what is queued, in one piece.  A checkpoint only where the peer holds us back.

        Raises LinkError: WRITE_TIMEOUT when no byte was accepted in time, PEER_RESET.
        """
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        await self.send(data)

    async def send(self, data: bytes) -> None:
        """Send all of `data`, past the queue (which must be empty).  As `flush`."""
        count = self.transport.send_now(data)
        if count < len(data):
            await self.transport.send_rest(memoryview(data)[count:], self.write_timeout)

    async def linger(self, seconds: float, size: int) -> None:
        """Read and throw away until FIN, `seconds` or `size` bytes: the peer can read our last.

        Closing on unread bytes would reset the connection and so destroy the answer on its way
        (RFC 9112 section 9.6).  Sends FIN first.
        """
        if not self.transport.hung_up:  # else it has sent FIN itself: closing is enough
            self.transport.shut_down()
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

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket; the first reason stays."""
        if self.close_reason is None:
            self.close_reason = reason
        self.transport.close(reset=reset)

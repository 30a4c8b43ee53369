"""What an HTTP/2 connection sends, within the windows that its peer has granted (RFC 9113)."""

from hopproxy.wire.h2_budget import (
    EARNED_DATA,
    EARNED_MESSAGE,
    MOST_UPDATES_FREE,
    UPDATES_FREE,
    Budget,
)
from hopproxy.wire.h2_frames import (
    DATA,
    DEFAULT_WINDOW,
    DEFAULTS,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    MAX_NUMBER,
    PING,
    Code,
    H2Error,
    Settings,
    frame,
    go_away,
    long_head,
    rst_stream,
    window_update,
)
from hopproxy.wire.h2_stream import NO_STREAMS, Stream
from hopproxy.wire.hpack_encoder import NO_TABLE, encode_lines

#: Most pieces of what waits to be sent: each costs more memory than its bytes.
PIECES = 256
#: Most streams that we have reset whose late frames are still recognized as late.
REMEMBERED = 256


#: A global is faster than an attribute of an imported object.
_pack = HEADER.pack


def in_pieces(content: list[bytes], data: bytes) -> list[bytes]:
    """`content` with more behind it, in few pieces.  An empty list stays so: it may be shared."""
    if not content:
        return [data]
    if len(content) < PIECES:
        content.append(data)
        return content
    return [b"".join((*content, data))]


class Output(Budget):
    """The sending half: `take` returns what is to be written to the socket.

    `streams` are those that are not closed.  `peer` are the peer's settings.  `send_window` and
    `receive_window` are those of the connection.  `blocked` if `send_data` met the end of the
    connection's window: a ROOM event follows.  `failed` is the error that ended the connection.
    `said_last` is the last stream of our GOAWAY, None if we have sent none.  `shrinks` if the next
    field block must empty the table first (RFC 7541 section 4.2).
    """

    __slots__ = (
        "_cut", "_cut_before", "_late_room", "_link_window", "_out", "_owed", "_stream_window",
        "_updates_free", "blocked", "failed", "peer", "receive_window", "said_last", "send_window",
        "shrinks", "streams",
    )  # fmt: skip

    def __init__(self, ours: Settings, link_window: int) -> None:
        super().__init__()
        self.streams: dict[int, Stream] = NO_STREAMS
        self.peer = DEFAULTS
        self.send_window = DEFAULT_WINDOW
        self.receive_window = self._link_window = max(link_window, DEFAULT_WINDOW)
        self._stream_window = max(ours.window, DEFAULT_WINDOW)
        self.blocked = self.shrinks = False
        self.failed: H2Error | None = None
        self.said_last: int | None = None
        self._owed = 0
        self._cut: dict[int, None] | None = (
            None  # streams that we have reset: late frames are no error
        )
        self._late_room = 0  # how many bytes of DATA may still come on them
        self._updates_free = MOST_UPDATES_FREE
        self._cut_before = 0  # forgotten streams below this were reset too
        self._out: list[bytes | memoryview] = [ours.write()]
        if link_window > DEFAULT_WINDOW:
            self._out.append(window_update(0, link_window - DEFAULT_WINDOW))

    @property
    def has_output(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._out)

    @property
    def waiting(self) -> int:
        """How many bytes `take` would return."""
        return sum(map(len, self._out))

    def take(self) -> bytes:
        """Take all that is to be sent now."""
        out = self._out
        data = b"".join(out)
        if self._updates_free < MOST_UPDATES_FREE:
            free = self._updates_free + UPDATES_FREE * len(out)
            self._updates_free = min(free, MOST_UPDATES_FREE)
        out.clear()
        return data

    def pack(self) -> None:
        """Join what waits to be sent if it is in many pieces."""
        if len(self._out) > PIECES:
            self._out[:] = [b"".join(self._out)]

    # -- messages ----------------------------------------------------------------------------

    def send_head(self, stream: Stream, block: bytes, ended: bool) -> None:
        """Send a field block: a head, or (`ended`) trailers.  Nothing, if the stream is closed."""
        if stream.reset is not None or stream.finished:
            return
        if self.shrinks:
            self.shrinks = False
            block = NO_TABLE + block
        size = len(block)
        if size <= self.peer.frame_size:
            flags = END_HEADERS | END_STREAM if ended else END_HEADERS
            start = _pack(size >> 8, size & 255, HEADERS, flags, stream.number)
            self._out.append(start + block)
        else:
            self._out += long_head(stream.number, block, ended, self.peer.frame_size)
        if ended:
            self._finish(stream)

    def send_data(self, stream: Stream, data: bytes | memoryview, ended: bool) -> int:
        """Send as much of `data` as both windows permit; return how many bytes.

        `ended` closes our side, if all of it could be sent.  If not all could be, the stream or the
        connection is `blocked`, and a ROOM event follows.  Sends nothing on a closed stream.
        """
        size = len(data)
        if stream.reset is not None or stream.finished:
            return 0
        if size:  # no bytes need no window, even a negative one
            if size > stream.send_window or size > self.send_window:
                size, ended = self._room_for(stream, size), False
                if not size:
                    return 0
                data = memoryview(data)[:size]
            self.send_window -= size
            stream.send_window -= size
        elif not ended:
            return 0
        if size <= self.peer.frame_size:
            flags = END_STREAM if ended else 0
            start = _pack(size >> 8, size & 255, DATA, flags, stream.number)
            self._out += (start, data)
        else:
            self._send_pieces(stream, memoryview(data), ended)
        if ended:
            self._finish(stream)
        elif self.level:
            self.earn(EARNED_DATA)
        return size

    def send_part(
        self, stream: Stream, out: bytes | memoryview, most: int, trailers: list[bytes], ended: bool
    ) -> bytes | memoryview:
        """Send up to `most` bytes of `out`, as `send_data`; return what is left of it.

        If nothing is left, `ended` closes our side, by the trailers if there are any.
        """
        size = len(out)
        whole = size <= most
        piece = out if whole else memoryview(out)[:most]
        count = self.send_data(stream, piece, whole and ended and not trailers)
        if count < size:
            return memoryview(out)[count:]
        if trailers:
            self.send_head(stream, encode_lines(trailers), ended=True)
        return b""

    def _room_for(self, stream: Stream, size: int) -> int:
        """How many of `size` bytes both windows permit, if not all."""
        if self.send_window < size:
            self.blocked = True
        if stream.send_window < size:
            stream.blocked = True
        return max(0, min(stream.send_window, self.send_window))

    def _send_pieces(self, stream: Stream, data: memoryview, ended: bool) -> None:
        most = self.peer.frame_size
        for at in range(0, len(data), most):
            piece = data[at : at + most]
            last = ended and at + most >= len(data)
            size = len(piece)
            flags = END_STREAM if last else 0
            self._out.append(_pack(size >> 8, size & 255, DATA, flags, stream.number))
            self._out.append(piece)

    def _finish(self, stream: Stream) -> None:
        stream.finished = True
        if stream.ended:
            self.streams.pop(stream.number, None)
        if self.level:
            self.earn(EARNED_MESSAGE)

    def reset(self, stream: Stream, code: int) -> None:
        """Send RST_STREAM, unless the stream is closed."""
        if not stream.closed:
            self._reset(stream.number, code, 0 if stream.ended else stream.receive_window)
            self._forget(stream, code)

    def _reset(self, number: int, code: int, window: int) -> None:
        """Reset a stream, known or not; late frames on it, up to its window, are then ignored."""
        self._late_room += max(0, window)
        self._out.append(rst_stream(number, code))
        self._remember(number)

    def _remember(self, number: int) -> None:
        cut = self._cut
        if cut is None:
            cut = self._cut = {}
        cut[number] = None
        if len(cut) > REMEMBERED:
            oldest = next(iter(cut))
            del cut[oldest]
            self._cut_before = max(self._cut_before, oldest)

    def _forget(self, stream: Stream, code: int) -> None:
        """The stream was reset: give back the window for bytes that were not read."""
        stream.reset = code
        del self.streams[stream.number]
        unclaimed, stream.unclaimed = stream.unclaimed, 0
        self._credit_link(unclaimed)

    # -- windows -----------------------------------------------------------------------------

    def credit(self, stream: Stream, size: int) -> bool:
        """`size` bytes received on a stream have been passed on: the peer may send as many more.

        The peer is told once half of a window is owed to it; True if that is to be sent now.  May
        be called for a closed stream: its bytes count against the window of the connection until
        then.
        """
        if size > stream.unclaimed:
            size = stream.unclaimed
        stream.unclaimed -= size
        told = self._credit_link(size)
        if not stream.ended:
            stream.owed += size
            if stream.owed * 2 >= self._stream_window and stream.reset is None:
                stream.receive_window += stream.owed
                self._out.append(window_update(stream.number, stream.owed))
                stream.owed = 0
                told = True
        return told

    def _credit_link(self, size: int) -> bool:
        owed = self._owed = self._owed + size
        if owed * 2 < self._link_window:
            return False
        self.receive_window += owed
        self._out.append(window_update(0, owed))
        self._owed = 0
        return True

    # -- the connection ----------------------------------------------------------------------

    def ping(self, payload: bytes) -> None:
        """Send a PING of 8 bytes; a PONG event with the same bytes answers it."""
        self._out.append(frame(PING, 0, 0, payload))

    def announce_end(self) -> None:
        """Say that a GOAWAY with the last stream will follow; streams under way may still come.

        Wait for a round trip, then call `go_away` (section 6.8).
        """
        if self.said_last is None:
            self._out.append(go_away(MAX_NUMBER, Code.NO_ERROR))
            self.said_last = MAX_NUMBER

    def _go_away(self, last: int, code: int, debug: bytes) -> None:
        if self.said_last is not None:
            last = min(last, self.said_last)
        if last != self.said_last or code:
            self.said_last = last
            self._out.append(go_away(last, code, debug))

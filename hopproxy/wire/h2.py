"""HTTP/2 on one connection, for either side: bytes in, events out (RFC 9113).

`H2Server` is our side of a client link, `H2Client` our side of an upstream link.  They know frames,
the states of streams, both kinds of window, SETTINGS and the budget for useless frames.  They know
no fields: whoever owns them passes a `decode` function, which is called once for every field block,
in the order of arrival, also for streams that no longer exist, since HPACK demands it (section
4.3).  They know no clock either: the time is an argument.

    server = H2Server(decode, settings)
    for what, stream, payload, ended in server.receive(data, now):
        ...
    socket.send(server.take())

Events are tuples `(what, stream, payload, ended)`:

============= ======= ===================================================== =====================
what          stream  payload                                               ended
============= ======= ===================================================== =====================
HEAD          its     what `decode` has returned                            peer has ended it
CONTENT       its     bytes of DATA; call `credit` once they are passed on  peer has ended it
RESET         its     error code: the peer has reset it                     True
BROKEN        its     H2Error: a rule was broken, and we have reset it      True
ROOM          its     None: a stream that was `blocked` can send again      False
ROOM          None    None: so can all, the connection was `blocked`        False
PEER_SETTINGS None    the peer's `Settings` have changed                    False
PONG          None    the 8 bytes of our PING                               False
LEAVING       None    GOAWAY: (last stream, error code, debug data)         False
FAILED        None    H2Error: a connection error; send what `take` returns True
                      (a GOAWAY), then close.  It is the last event
============= ======= ===================================================== =====================

All events of one `receive` are returned together, so a stream may have been reset already when its
HEAD is looked at: check `stream.reset`.  The last event of a stream has `ended`; RESET may follow
even that.  With LEAVING an `H2Client` drops the streams above the last one: each gets RESET with
REFUSED_STREAM first, and was not processed (section 6.8).

Bytes received with CONTENT count against both windows until `credit`, also after the end of the
stream; a reset gives them back by itself.
"""

from hopproxy.wire.h2_budget import ERROR, FRAME, RESET_COST
from hopproxy.wire.h2_control import Control
from hopproxy.wire.h2_frames import (
    DEFAULT_WINDOW,
    MAX_NUMBER,
    PREFACE,
    SETTINGS,
    WITHOUT_PUSH,
    Code,
    H2Error,
    Settings,
)
from hopproxy.wire.h2_input import (
    BROKEN,
    CONTENT,
    FAILED,
    HEAD,
    LEAVING,
    PEER_SETTINGS,
    PONG,
    RESET,
    ROOM,
    Decode,
    Event,
)
from hopproxy.wire.h2_stream import NO_STREAMS, Stream

__all__ = [
    "BROKEN", "CONTENT", "FAILED", "HEAD", "LEAVING", "PEER_SETTINGS", "PONG", "RESET", "ROOM",
    "Code", "Event", "H2Client", "H2Error", "H2Server", "Settings", "Stream",
]  # fmt: skip

#: Most bytes of a field block before it is decoded.
MAX_BLOCK = 65536
#: An H2Client assumes that it may open this many streams until the peer's SETTINGS arrive.
ASSUMED_STREAMS = 100


#: The peer's settings, the two windows of the connection and what is owed to the peer's, the
#: highest stream that has come and the highest that was accepted.
Packed = tuple[Settings, int, int, int, int, int]


class H2Server(Control):
    """Our side of a client link.  The first bytes to receive are the client's preface.

    At most `ours.max_streams` are open at a time.  More are refused with REFUSED_STREAM, without an
    event.  `link_window` is the receive window of the connection.
    """

    __slots__ = ("_accepted", "_highest")

    def __init__(
        self,
        decode: Decode,
        ours: Settings,
        *,
        link_window: int = DEFAULT_WINDOW,
        max_block: int = MAX_BLOCK,
    ) -> None:
        super().__init__(decode, ours, link_window=link_window, max_block=max_block)
        self._preface = PREFACE
        self._accepted = 0
        self._highest = 0

    @property
    def last(self) -> int:
        return self._accepted

    def go_away(self, code: int = Code.NO_ERROR, debug: bytes = b"") -> None:
        """Take no more streams: those above `last` were not processed (section 6.8)."""
        self._go_away(self._accepted, code, debug)

    def _opened(self, number: int) -> Stream | None:
        if not number & 1:
            raise H2Error(Code.PROTOCOL_ERROR, "5.1.1", "HEADERS on a stream of even number")
        if number <= self._highest:
            self._astray(number, "HEADERS")
            self._glitch(FRAME, "HEADERS on a closed stream")
            return None
        self._highest = number
        if self.said_last is not None and self._is_refused(number):
            self._late_room += self._stream_window
            self._glitch(FRAME, "HEADERS after GOAWAY")
            return None
        self._accepted = number
        limit, streams = self.ours.max_streams, self.streams
        if limit is not None and len(streams) >= limit:
            self._reset(number, Code.REFUSED_STREAM, self._stream_window)
            self._glitch(RESET_COST, "stream above SETTINGS_MAX_CONCURRENT_STREAMS")
            return None
        if streams is NO_STREAMS:
            streams = self.streams = {}
        stream = streams[number] = Stream(number, self.peer.window, self._stream_window)
        return stream

    def packed(self, now: float) -> Packed | None:
        """What a connection on which nothing moves must keep: `restore` makes it anew of that.

        None if there is more to keep than usual.
        """
        settled = self.acknowledged and self._expected < 0 and not self._missing
        busy = self.streams or self._out or self.blocked or self.shrinks or self._cut is not None
        if busy or not settled or self.failed or self.said_last is not None or self.owes(now):
            return None
        windows = self.send_window, self.receive_window, self._owed
        return self.peer, *windows, self._highest, self._accepted

    def restore(self, packed: Packed) -> None:
        """Go on from `packed`: both sides have said their preface and SETTINGS."""
        self._out.clear()
        self._preface = b""
        self._expected = -1
        self.acknowledged = True
        self._stream_window = self.ours.window
        self.peer, self.send_window, self.receive_window, self._owed, *numbers = packed
        self._highest, self._accepted = numbers

    def malformed(self, now: float) -> H2Error | None:
        """A request was malformed.  If there were too many: the error, after GOAWAY."""
        try:
            self.spend(ERROR, now, "malformed requests")
        except H2Error as error:
            if self.failed is None:
                self.fail(error)
                return error
        return None

    def rest(self) -> None:
        """No stream is open, maybe for long: keep no memory for them."""
        if not self.streams:
            self.streams = NO_STREAMS

    def _may_follow(self, stream: Stream) -> bool:
        self._break(stream, Code.PROTOCOL_ERROR, "8.1", "trailers without END_STREAM")
        return False

    def _is_idle(self, number: int) -> bool:
        return number > self._highest or not number & 1

    def _was_reset(self) -> None:
        self._glitch(RESET_COST, "stream reset")


class H2Client(Control):
    """Our side of an upstream link.  `take` begins with the preface.

    `leaving` is the last stream of the origin's GOAWAY, None if there was none.
    """

    __slots__ = ("_next", "leaving")

    def __init__(
        self,
        decode: Decode,
        ours: Settings,
        *,
        link_window: int = DEFAULT_WINDOW,
        max_block: int = MAX_BLOCK,
    ) -> None:
        ours.push = False
        super().__init__(decode, ours, link_window=link_window, max_block=max_block)
        self._out.insert(0, PREFACE)
        self.streams = {}
        self.peer = WITHOUT_PUSH  # it may only say that it does not push
        self._next = 1
        self.leaving: int | None = None

    @property
    def last(self) -> int:
        return 0

    @property
    def greeted(self) -> bool:
        """Whether the origin's SETTINGS have arrived."""
        return self._expected != SETTINGS

    @property
    def max_streams(self) -> int:
        """How many streams may be open at a time; none once the connection ends."""
        if self.leaving is not None or self.failed is not None or self._next > MAX_NUMBER:
            return 0
        limit = self.peer.max_streams
        if limit is None:
            limit = MAX_NUMBER if self.greeted else ASSUMED_STREAMS
        return limit

    def open(self, block: bytes, ended: bool) -> Stream:
        """Send a request's head on a new stream; `ended` if it has no body.

        Only while fewer than `max_streams` are open.
        """
        stream = Stream(self._next, self.peer.window, self._stream_window)
        self._next += 2
        self.streams[stream.number] = stream
        self.send_head(stream, block, ended)
        return stream

    def go_away(self, code: int = Code.NO_ERROR, debug: bytes = b"") -> None:
        """Say that we are about to close the connection."""
        self._go_away(0, code, debug)

    def _opened(self, number: int) -> Stream | None:
        self._astray(number, "HEADERS")
        self._glitch(FRAME, "HEADERS on a closed stream")
        return None

    def _may_follow(self, stream: Stream) -> bool:
        return True  # a final response after an interim one

    def _is_idle(self, number: int) -> bool:
        return number >= self._next or not number & 1

    def _check_settings(self) -> None:
        if self.peer.push:
            raise H2Error(Code.PROTOCOL_ERROR, "6.5.2", "a server that enables push")

    def _peer_leaves(self, last: int) -> None:
        if self.leaving is not None and last > self.leaving:
            raise H2Error(Code.PROTOCOL_ERROR, "6.8", "GOAWAY with a higher stream than before")
        self.leaving = last
        for stream in [stream for stream in self.streams.values() if stream.number > last]:
            self._remember(stream.number)
            self._late_room += max(0, stream.receive_window)
            self._forget(stream, Code.REFUSED_STREAM)
            self._events.append((RESET, stream, int(Code.REFUSED_STREAM), True))

"""What an HTTP/2 connection receives: frames in, events out, the rules checked (RFC 9113).

The common part of both roles; see `wire.h2`, which has the table of events.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

from hopproxy.wire.h2_budget import ERROR, FRAME, SMALL_UPDATE
from hopproxy.wire.h2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    MAX_NUMBER,
    MAX_WINDOW,
    MIN_FRAME_SIZE,
    PADDED,
    PRIORITIZED,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    H2Error,
    Settings,
    unexpected,
    unpad,
)
from hopproxy.wire.h2_output import Output
from hopproxy.wire.h2_stream import Stream

HEAD, CONTENT, RESET, BROKEN, ROOM, PEER_SETTINGS, PONG, LEAVING, FAILED = range(9)
Event = tuple[int, Stream | None, Any, bool]

#: Reads one field block; what it returns is the payload of the HEAD event.  Raises H2Error.
Decode = Callable[[bytes], Any]

#: Shared by idle connections, instead of empty lists.
NO_EVENTS = cast("list[Event]", ())
NO_PARTS = cast("list[bytes]", ())

_unpack = HEADER.unpack_from
#: The flags that show whether HEADERS are a plain, complete field block.
_ODD_HEADERS = END_HEADERS | PADDED | PRIORITIZED


class Input(Output, ABC):
    """Both halves of a connection.  `ours` are the settings that it announces.

    `max_block` is the largest field block that is put together, in bytes.  `acknowledged` once the
    peer has acknowledged ours.
    """

    __slots__ = (
        "_block", "_events", "_expected", "_missing", "_now", "_parts",
        "_preface", "acknowledged", "decode", "max_block", "ours",
    )  # fmt: skip

    def __init__(self, decode: Decode, ours: Settings, *, link_window: int, max_block: int) -> None:
        super().__init__(ours, link_window)
        self.ours = ours
        self.max_block = max_block
        self.acknowledged = False
        self.decode = decode
        self._events = NO_EVENTS
        self._now = 0.0
        self._preface = b""  # what is still to come of the peer's
        self._expected = SETTINGS  # the only type that may come next, -1: any
        self._parts = NO_PARTS  # of a frame that has not arrived completely
        self._missing = 0
        self._block: tuple[int, bool, list[bytes], int] | None = None  # until END_HEADERS

    # -- frames ------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Read what has arrived.  After a FAILED event nothing more is read."""
        events: list[Event] = []
        if self.failed is not None:
            return events
        self._events = events
        self._now = now
        if self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return events
            data = b"".join(self._parts)
            self._parts = NO_PARTS
            self._missing = 0
        try:
            self._read(self._greeted(data) if self._preface else data)
        except H2Error as error:
            self.fail(error)
            events.append((FAILED, None, error, True))
        self._events = NO_EVENTS
        return events

    def _greeted(self, data: bytes) -> bytes:
        """`data` without the part of the client's preface in it (section 3.4)."""
        preface = self._preface
        if data[: len(preface)] != preface[: len(data)]:
            raise H2Error(Code.PROTOCOL_ERROR, "3.4", "the connection preface is not HTTP/2's")
        self._preface = preface[len(data) :]
        return data[len(preface) :]

    @property
    def in_head(self) -> bool:
        """Whether HEADERS have begun to arrive, and their field block has not ended."""
        return self._block is not None or (self._missing > 0 and self._parts[0][3:4] == b"\1")

    def fail(self, error: H2Error) -> None:
        """End the connection: queue GOAWAY with the error's code, and read nothing more."""
        if self.failed is None:
            self.failed = error
            self._go_away(self.last, error.code, error.detail.encode())

    @property
    @abstractmethod
    def last(self) -> int:
        """The highest stream of the peer that we have accepted, for GOAWAY."""

    def _read(self, data: bytes) -> None:
        at, end = 0, len(data)
        last = end - HEADER_SIZE
        while at <= last:
            high, low, kind, flags, number = _unpack(data, at)
            size = high << 8 | low
            start = at + HEADER_SIZE
            after = start + size
            if self._expected >= 0 and kind != self._expected:
                raise unexpected(self._expected, data)
            if size > MIN_FRAME_SIZE:
                raise H2Error(Code.FRAME_SIZE_ERROR, "4.2", "a frame above SETTINGS_MAX_FRAME_SIZE")
            if after > end:
                self._wait_for(data[at:], after - end)
                return
            at = after
            if number > MAX_NUMBER:
                number &= MAX_NUMBER  # the reserved bit is ignored (section 4.1)
            if kind == HEADERS and flags & _ODD_HEADERS == END_HEADERS:  # nearly all
                self._field_block(number, data[start:after], (flags & END_STREAM) != 0)
            elif kind == DATA:
                self._data(number, flags, data, start, after)
            elif kind == WINDOW_UPDATE:
                self._window_update(number, data[start:after])
            else:
                self._rare(kind, number, flags, data[start:after])
        if at < end:
            self._wait_for(data[at:], HEADER_SIZE - (end - at))

    def _wait_for(self, part: bytes, missing: int) -> None:
        if self._expected == SETTINGS and (part[0] or part[3:4] not in (b"", b"\4")):
            raise unexpected(SETTINGS, part)  # also if it is shorter than a frame's header
        self._parts = [part]
        self._missing = missing

    def _glitch(self, cost: float, what: str) -> None:
        self.spend(cost, self._now, what)

    def _break(self, stream: Stream, code: int, section: str, detail: str) -> None:
        """A stream error: reset the stream (section 5.4.2)."""
        self.reset(stream, code)
        self._events.append((BROKEN, stream, H2Error(code, section, detail), True))
        self._glitch(ERROR, detail)

    # -- HEADERS -----------------------------------------------------------------------------

    def _field_block(self, number: int, block: bytes, ended: bool) -> None:
        decode = self.decode  # faster than looking the method up each time
        found = decode(block)
        stream = self.streams.get(number)
        if stream is None:
            stream = self._opened(number)
            if stream is None:
                return
        elif stream.ended:
            self._break(stream, Code.STREAM_CLOSED, "5.1", "HEADERS after END_STREAM")
            return
        elif not ended and not self._may_follow(stream):
            return
        if ended:
            stream.ended = True
            if stream.finished:
                del self.streams[number]
        self._events.append((HEAD, stream, found, ended))

    @abstractmethod
    def _opened(self, number: int) -> Stream | None:
        """The new stream of a field block on no open one; None to ignore the block."""

    @abstractmethod
    def _may_follow(self, stream: Stream) -> bool:
        """Whether this may be a second head, which does not end the stream."""

    @abstractmethod
    def _is_idle(self, number: int) -> bool:
        """Whether this stream has never been opened (section 5.1)."""

    def _astray(self, number: int, name: str) -> None:
        """A frame on a stream that is not open: an error, unless we have reset the stream."""
        if not number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.1", f"{name} on stream 0")
        if self._is_idle(number):
            raise H2Error(Code.PROTOCOL_ERROR, "5.1", f"{name} on an idle stream")
        cut = self._cut
        late = number <= self._cut_before or (cut is not None and number in cut)
        if not late and not self._is_refused(number):
            raise H2Error(Code.STREAM_CLOSED, "5.1", f"{name} on a closed stream")

    def _is_refused(self, number: int) -> bool:
        """Whether our GOAWAY has said that we do not take this stream."""
        return self.said_last is not None and number > self.said_last

    # -- DATA --------------------------------------------------------------------------------

    def _data(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        self.receive_window -= size
        if self.receive_window < 0:
            raise H2Error(Code.FLOW_CONTROL_ERROR, "6.9", "DATA beyond the connection's window")
        padding = 0
        if flags & PADDED:
            start, end = unpad(data, start, end)
            padding = size - (end - start)
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            self._credit_link(size)
            if start == end:
                self._glitch(FRAME, "DATA without bytes")
            if stream is None:
                self._astray(number, "DATA")
                self._late_room -= size
                if self._late_room < 0:
                    self._late_room = 0
                    self._glitch(FRAME, "DATA on a closed stream")
            else:
                self._break(stream, Code.STREAM_CLOSED, "5.1", "DATA after END_STREAM")
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._credit_link(size)
            self._break(stream, Code.FLOW_CONTROL_ERROR, "6.9", "DATA beyond the stream's window")
            return
        stream.unclaimed += size
        ended = (flags & END_STREAM) != 0
        if ended:
            stream.ended = True
            if stream.finished:
                del self.streams[number]
        elif start == end:
            self._glitch(FRAME, "DATA without bytes")
        if padding:
            self.credit(stream, padding)
        self._events.append((CONTENT, stream, data[start:end], ended))

    # -- flow control ------------------------------------------------------------------------

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.9", "WINDOW_UPDATE that is not 4 bytes long")
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if increment < SMALL_UPDATE:
            self._glitch(FRAME, "small WINDOW_UPDATE")
        elif self._updates_free:
            self._updates_free -= 1
        else:
            self._glitch(FRAME, "WINDOW_UPDATE")
        if not number:
            self._widen(increment)
            return
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise H2Error(Code.PROTOCOL_ERROR, "5.1", "WINDOW_UPDATE on an idle stream")
            return
        if not increment:
            self._break(stream, Code.PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE by 0")
            return
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            detail = "a window above 2^31-1"
            self._break(stream, Code.FLOW_CONTROL_ERROR, "6.9.1", detail)
        elif stream.blocked and stream.send_window > 0:
            stream.blocked = False
            self._events.append((ROOM, stream, None, False))

    def _widen(self, increment: int) -> None:
        """WINDOW_UPDATE of the connection."""
        if not increment:
            raise H2Error(Code.PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE by 0")
        self.send_window += increment
        if self.send_window > MAX_WINDOW:
            raise H2Error(Code.FLOW_CONTROL_ERROR, "6.9.1", "a window above 2^31-1")
        if self.blocked:
            self.blocked = False
            self._events.append((ROOM, None, None, False))

    @abstractmethod
    def _rare(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        """Any other frame, and HEADERS of another form."""

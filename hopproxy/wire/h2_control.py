"""The frames that concern an HTTP/2 connection or end a stream (RFC 9113 sections 6.3 to 6.8).

Also HEADERS with padding, a priority or CONTINUATION.
"""

from hopproxy.wire.h2_budget import FRAME, SETTINGS_COST
from hopproxy.wire.h2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    MAX_NUMBER,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PRIORITY_SIZE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    SETTINGS_ACK,
    Code,
    H2Error,
    check_priority,
    frame,
    unpadded,
)
from hopproxy.wire.h2_input import LEAVING, PEER_SETTINGS, PONG, RESET, ROOM, Input
from hopproxy.wire.hpack import TABLE_SIZE


class Control(Input):
    """A connection of either role."""

    __slots__ = ()

    def _rare(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._headers(number, flags, payload)
        elif kind == CONTINUATION:
            self._continuation(number, flags, payload)
        elif kind == SETTINGS:
            self._settings(number, flags, payload)
        elif kind == RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == PING:
            self._ping(number, flags, payload)
        elif kind == GOAWAY:
            self._leave(number, payload)
        elif kind == PRIORITY:
            self._priority(number, payload)
        elif kind == PUSH_PROMISE:
            raise H2Error(Code.PROTOCOL_ERROR, "8.4", "PUSH_PROMISE, although push is disabled")
        else:
            self._glitch(FRAME, f"frame of unknown type {kind:#x}")  # ignored (section 4.1)

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        if flags & (PADDED | PRIORITIZED):
            block = unpadded(number, flags, block)
        ended = (flags & END_STREAM) != 0
        if flags & END_HEADERS:
            self._field_block(number, block, ended)
            return
        if not number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.2", "HEADERS on stream 0")
        self._block = (number, ended, [block], len(block))
        self._expected = CONTINUATION

    def _continuation(self, number: int, flags: int, part: bytes) -> None:
        if self._block is None:
            raise H2Error(Code.PROTOCOL_ERROR, "6.10", "CONTINUATION without HEADERS")
        begun, ended, parts, size = self._block
        if number != begun:
            raise H2Error(Code.PROTOCOL_ERROR, "6.10", "CONTINUATION of another stream")
        self._glitch(FRAME, "CONTINUATION")
        size += len(part)
        if size > self.max_block:
            raise H2Error(Code.ENHANCE_YOUR_CALM, "10.5.1", "a field block that is too large")
        parts.append(part)
        self._block = (begun, ended, parts, size)
        if flags & END_HEADERS:
            self._block, self._expected = None, -1
            self._field_block(number, b"".join(parts), ended)

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.5", "SETTINGS on a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.5", "SETTINGS of a wrong length")
        if flags & ACK:
            self._acknowledged()
            return
        self._expected = -1
        self._glitch(SETTINGS_COST + len(payload) // 48, "SETTINGS")
        before = self.peer.window
        peer = self.peer = self.peer.followed_by(payload)
        if peer.window != before:
            self._shift_windows(peer.window - before)
        for key, value in SETTING.iter_unpack(payload):
            if key == HEADER_TABLE_SIZE and value < TABLE_SIZE:
                self.shrinks = True  # even if a later value is larger (RFC 7541 section 4.2)
        self._check_settings()
        self._out.append(SETTINGS_ACK)
        self._events.append((PEER_SETTINGS, None, peer, False))

    def _check_settings(self) -> None:
        """Rules for the peer's settings that depend on its role."""

    def _acknowledged(self) -> None:
        if self.acknowledged:
            raise H2Error(Code.PROTOCOL_ERROR, "6.5.3", "SETTINGS acknowledged twice")
        self.acknowledged = True
        # Until now the peer may have used the default for its windows (section 6.5.3).
        shift = self.ours.window - self._stream_window
        if shift:
            self._stream_window = self.ours.window
            for stream in self.streams.values():
                stream.receive_window += shift

    def _shift_windows(self, shift: int) -> None:
        """The initial window has changed, and with it every stream's (section 6.9.2)."""
        for stream in self.streams.values():
            stream.send_window += shift
            if stream.send_window > MAX_WINDOW:
                raise H2Error(Code.FLOW_CONTROL_ERROR, "6.9.2", "a window above 2^31-1")
            if stream.blocked and stream.send_window > 0:
                stream.blocked = False
                self._events.append((ROOM, stream, None, False))

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.7", "PING on a stream")
        if len(payload) != 8:
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.7", "PING that is not 8 bytes long")
        if flags & ACK:
            self._glitch(FRAME, "PING acknowledged")
            self._events.append((PONG, None, payload, False))
        else:
            self._glitch(FRAME, "PING")
            self._out.append(frame(PING, ACK, 0, payload))

    def _priority(self, number: int, payload: bytes) -> None:
        """Check the form of PRIORITY, and ignore it (section 6.3)."""
        if not number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.3", "PRIORITY on stream 0")
        self._glitch(FRAME, "PRIORITY")
        if len(payload) != PRIORITY_SIZE:
            detail = "PRIORITY that is not 5 bytes long"
            stream = self.streams.get(number)
            if stream is None:
                raise H2Error(Code.FRAME_SIZE_ERROR, "6.3", detail)
            self._break(stream, Code.FRAME_SIZE_ERROR, "6.3", detail)
            return
        check_priority(number, payload)

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.4", "RST_STREAM that is not 4 bytes long")
        if not number or self._is_idle(number):
            raise H2Error(Code.PROTOCOL_ERROR, "6.4", "RST_STREAM on an idle stream")
        stream = self.streams.get(number)
        if stream is None:
            self._glitch(FRAME, "RST_STREAM on a closed stream")
            return
        code = int.from_bytes(payload, "big")
        self._forget(stream, code)
        self._events.append((RESET, stream, code, True))
        self._was_reset()

    def _was_reset(self) -> None:
        """The peer has reset a stream that was not closed."""

    def _leave(self, number: int, payload: bytes) -> None:
        if number:
            raise H2Error(Code.PROTOCOL_ERROR, "6.8", "GOAWAY on a stream")
        if len(payload) < 8:
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.8", "GOAWAY of less than 8 bytes")
        self._glitch(FRAME, "GOAWAY")
        last = int.from_bytes(payload[:4], "big") & MAX_NUMBER
        self._peer_leaves(last)
        code = int.from_bytes(payload[4:8], "big")
        self._events.append((LEAVING, None, (last, code, payload[8:]), False))

    def _peer_leaves(self, last: int) -> None:
        """The peer takes no streams of ours above `last`."""

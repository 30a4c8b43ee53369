"""A client of the conformance cases that speaks HTTP/2: what a case says in HTTP/1.1, on a stream.

The cases are written in HTTP/1.1, as is what they send.  Here each request becomes HEADERS and
DATA, and each response that the library `h2` has read becomes a `Message`.  What HTTP/2 cannot say
raises `NoMeaning`: a case that says it must be marked, with the reason.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests import drivers
from tests.conformance import strict
from tests.conformance.h2_said import NoMeaning, Request, pairs_of
from tests.conformance.strict import Fields, Malformed, Message
from tests.conformance.wire import WAIT, Client, CutShort, Silence, Trace, Unexpected
from tests.h2_peer import GOAWAY, frames_of


class Stream:
    """One exchange: what is still to be said, and what has come."""

    def __init__(self, number: int, *, is_tunnel: bool) -> None:
        self.number = number
        self.is_tunnel = is_tunnel
        self.heads: deque[Fields] = deque()
        self.content = bytearray()
        self.trailers: Fields = ()
        self.ended = False
        self.reset = ""
        self.refused = False  # the final response is 400

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or bool(self.reset)


class H2Client(Client):
    """A client connection to the proxy under test, over which each request is a stream.

    Responses are read in the order of their requests.  `buffer` is the content of the response
    that has been begun with, or what came through a tunnel.
    """

    via = "2.0"
    alpn = ("h2",)

    def __init__(self, address: tuple[str, int], host: str, trace: Trace, source: str = "") -> None:
        secure = drivers.TLS in ("clients", "both")
        super().__init__(address, host, trace, source)
        self._scheme = b"https" if secure else b"http"
        config = h2.config.H2Configuration(
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.leaving = False  # GOAWAY has come
        self._settled = False  # the proxy's SETTINGS have come
        self._came = b""
        self._said = b""
        self._asked: Request | None = None  # whose body is not said whole
        self._speaking: Stream | None = None
        self._streams: dict[int, Stream] = {}
        self._awaited: deque[Stream] = deque()
        self._read: Stream | None = None
        self._in_single_bytes = False
        self._flush()
        self.deadline = time.monotonic() + WAIT
        while not self._settled:
            if not self.fill():
                raise CutShort(f"{self.name}: {self.ending} instead of SETTINGS")

    # -- out ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Say in HTTP/2 what these bytes say in HTTP/1.1; half a head waits for its end."""
        self.trace.note(f"{self.name} >", data)
        self._said += data
        while self._said:
            if self._asked is None:
                head, end, rest = self._said.partition(b"\r\n\r\n")
                if not end:
                    return
                self._said = rest
                self._open(Request(head, self._scheme))
            elif not self._body(self._asked):
                return

    def send_in_single_bytes(self, data: bytes) -> None:
        """Say it in frames of which each byte has a packet of its own."""
        self._in_single_bytes = True
        self.send(data)
        self._in_single_bytes = False

    def send_until_stuck(self, limit: int, patience: float = 0.3) -> int:
        """Write zeros until there is no window for that time; return how many went out."""
        assert self._speaking is not None
        stream, sent = self._speaking, 0
        while sent < limit and self._has_window(stream, patience):
            room = self.h2.local_flow_control_window(stream.number)
            sent += self._piece(stream, bytes(min(room, limit - sent)), end=False)
        self.trace.note(f"{self.name} >", f"{sent} bytes")
        return sent

    def still_takes(self, data: bytes) -> bool:
        """Write more of a body; False when the proxy has reset its stream."""
        assert self._speaking is not None
        self.hears()
        if self._has_window(self._speaking, 1.0):
            self._piece(self._speaking, data, end=False)
        return not self._speaking.reset and not self.ending

    def upload_ends(self, within: float = WAIT) -> None:
        """Wait until the proxy has reset the stream of the request that is being sent."""
        assert self._speaking is not None
        self.deadline = time.monotonic() + within
        while not self._speaking.reset and self.fill():
            pass

    def _open(self, asked: Request) -> None:
        number = self.h2.get_next_available_stream_id()
        stream = Stream(number, is_tunnel=asked.is_tunnel)
        self._streams[number] = stream
        self._awaited.append(stream)
        self.h2.send_headers(number, asked.fields, end_stream=asked.left == 0)
        self._flush()
        self._speaking = stream
        self._asked = asked if asked.left else None

    def _body(self, asked: Request) -> bool:
        """Say what there is of a body; False if more must come first."""
        assert self._speaking is not None
        if asked.chunked:
            return self._chunk(self._speaking)
        data, ends = self._said, asked.left == -2
        if asked.left > 0:
            data = self._said[: asked.left]
            asked.left -= len(data)
            ends = not asked.left
        self._said = self._said[len(data) :]
        self._data(self._speaking, data, end=ends)
        return True

    def _chunk(self, stream: Stream) -> bool:
        """Say the next chunk, or the end with its trailers."""
        line, end, rest = self._said.partition(b"\r\n")
        if not end:
            return False
        if strict.CHUNK_SIZE.fullmatch(line) is None:
            raise NoMeaning(f"chunk size {line!r}")
        if size := int(line, 16):
            if len(rest) < size + 2:
                return False
            if rest[size : size + 2] != b"\r\n":
                raise NoMeaning("a chunk without its end")
            self._said = rest[size + 2 :]
            self._data(stream, rest[:size], end=False)
            return True
        trailers, end, after = (b"\r\n" + rest).partition(b"\r\n\r\n")
        if not end:
            return False
        self._said = after
        self._asked = None
        if lines := trailers.split(b"\r\n")[1:]:
            self.h2.send_headers(stream.number, pairs_of(lines), end_stream=True)
            self._flush()
        else:
            self._data(stream, b"", end=True)
        return True

    def _data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """Send DATA within the proxy's windows; a stream that it has ended takes no more."""
        if end:
            self._asked = None
        while data or end:
            if data and not self._has_window(stream, WAIT):
                if not stream.reset and not self.ending:
                    raise Silence(f"{self.name}: no window for {len(data)} bytes")
                return
            if stream.reset:
                return
            sent = self._piece(stream, data, end=end)
            data, end = data[sent:], end and sent < len(data)

    def _piece(self, stream: Stream, data: bytes, *, end: bool) -> int:
        number = stream.number
        room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
        piece = data[:room] if data else b""
        self.h2.send_data(number, piece, end_stream=end and len(piece) == len(data))
        self._flush()
        return len(piece)

    def _has_window(self, stream: Stream, patience: float) -> bool:
        """Wait for a window that long; False without one, or if the stream has been reset."""
        self.deadline = time.monotonic() + patience
        try:
            while not stream.reset and not self.h2.local_flow_control_window(stream.number):
                if not self.fill():
                    return False
        except Silence:
            return False
        return not stream.reset and not self.ending

    def _flush(self) -> None:
        data = self.h2.data_to_send()
        step = 1 if self._in_single_bytes else len(data)
        try:
            self.sock.settimeout(WAIT)
            for at in range(0, len(data), step or 1):
                self.sock.sendall(data[at : at + step])
                if self._in_single_bytes:
                    time.sleep(0.0005)
        except (BrokenPipeError, ConnectionResetError):
            self.trace.note(self.name, "could not write: the peer has closed")

    def fin(self) -> None:
        """End our direction of a tunnel, or else of the connection."""
        self._nothing_half_said()
        if self._read is not None and self._read.is_tunnel:
            self.trace.note(f"{self.name} >", "END_STREAM")
            self._data(self._read, b"", end=True)
        else:
            super().fin()

    def close(self) -> None:
        self._nothing_half_said()
        super().close()

    def _nothing_half_said(self) -> None:
        if self._said and self._asked is None:
            raise NoMeaning(f"half a head: {self._said!r}")

    # -- in ----------------------------------------------------------------------------------

    def fill(self) -> bool:
        """Read what has come by `deadline`; False at the end of what is read, or of all."""
        if self._read is not None and self._read.over:
            return False
        buffer, self.buffer = self.buffer, bytearray()
        try:
            alive = super().fill()
            self._came += self.buffer
        finally:
            self.buffer = buffer
        for frame in frames_of(self._came):
            self._came = self._came[len(frame) :]
            self._take_frame(frame)
        self._flush()
        return alive and not (self._read is not None and self._read.over and not self.buffer)

    def _take_frame(self, frame: bytes) -> None:
        if frame[3] == GOAWAY:  # after which the library would read no more
            self.leaving = True
            if code := int.from_bytes(frame[13:17], "big"):
                raise Unexpected(f"{self.name}: GOAWAY {code} to a client that keeps the rules")
            return
        try:
            events = self.h2.receive_data(frame)
        except h2.exceptions.ProtocolError as error:
            raise Malformed(f"{self.name}: {type(error).__name__}: {error}") from error
        for event in events:
            self._note(event)

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._settled = True
        number = getattr(event, "stream_id", None)
        if not number or number not in self._streams:
            return
        stream = self._streams[number]
        if isinstance(event, h2.events.ResponseReceived | h2.events.InformationalResponseReceived):
            stream.heads.append(_text(event.headers))
            stream.refused = stream.heads[-1][0][1] == "400"
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = _text(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.content += event.data or b""
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = f"RST_STREAM {event.error_code!r}"
            # A malformed request is answered, and then reset (RFC 9113 section 8.1.1).
            malformed = event.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
            stream.ended = stream.ended or (stream.refused and malformed)

    def next_response(self, to: str = "GET", within: float = WAIT) -> Message:
        """Read the next response, interim or final; that of a tunnel without what follows it."""
        self._nothing_half_said()
        message = self._next_head(within)
        stream = self._awaited[0]
        if message.status >= 200:
            if stream.is_tunnel and not stream.ended:
                self._begin(stream)
            else:
                while not stream.ended:
                    self._more_of(stream)
                message = strict.with_body(
                    message, body=bytes(stream.content), trailers=stream.trailers
                )
            self._awaited.popleft()
        self.trace.statuses.append(message.status)
        return message

    def begun(self, within: float = WAIT) -> Message:
        """Read the head of the next final response; its content comes into `buffer`."""
        message = self._next_head(within)
        self._begin(self._awaited.popleft())
        self.trace.statuses.append(message.status)
        return message

    def _begin(self, stream: Stream) -> None:
        self._read = stream
        self.buffer = stream.content

    def _next_head(self, within: float) -> Message:
        self.deadline = time.monotonic() + within
        if not self._awaited:
            raise Silence(f"{self.name}: nothing was asked for")
        stream = self._awaited[0]
        while not stream.heads:
            self._more_of(stream)
        fields = stream.heads.popleft()
        status, rest = fields[0][1], fields[1:]
        names = {name for name, _ in rest}
        if (status[0] == "1" or status == "204") and "content-length" in names:
            raise Malformed(f"a length in a {status}")
        return Message(("HTTP/2", status, ""), rest, b"")

    def _more_of(self, stream: Stream) -> None:
        if stream.reset:
            raise CutShort(f"{self.name}: {stream.reset} after {bytes(stream.content[:200])!r}")
        if not self.fill():
            raise CutShort(f"{self.name}: {self.ending} after {bytes(stream.content[:200])!r}")

    def has_heard(self) -> bool:
        """Whether a response has begun, or the stream or the connection has ended."""
        awaited = any(stream.heads or stream.over for stream in self._awaited)
        return awaited or bool(self.ending)

    def hears(self) -> bool:
        """Whether what has come is more than frames of the connection.  Call it when readable."""
        self.deadline = time.monotonic()
        with contextlib.suppress(Silence):
            self.fill()
        return self.has_heard()

    def says_close(self, response: Message) -> bool:
        """Whether the proxy has said that this connection takes no more requests."""
        self.deadline = time.monotonic() + 0.1
        with contextlib.suppress(Silence):
            while not self.leaving and self.fill():
                pass
        return self.leaving

    def delimits(self, response: Message) -> bool:
        """Whether the end of this response can be told: it was read up to END_STREAM."""
        return True

    def is_switched(self, response: Message) -> bool:
        """Whether this is the answer that opens a tunnel (RFC 8441 section 5)."""
        return self._read is not None and self._read.is_tunnel and response.status == 200

    def end(self, within: float = WAIT) -> str:
        """Wait for the end of a tunnel, or else of the connection; nothing may come before it."""
        super().end(within)
        if self._read is not None and self._read.over:
            return "FIN" if self._read.ended else "RST"
        self._nothing_unread()
        return self.ending

    def everything(self, within: float = WAIT) -> bytes:
        """Read to the end of the response begun with, or else of the connection."""
        content = super().everything(within)
        return content or self._unread()

    def stays_open(self, within: float = 0.05) -> bool:
        """Return whether the proxy keeps the connection open, and silent, for that time."""
        self.deadline = time.monotonic() + within
        with contextlib.suppress(Silence):
            while self.fill():
                pass
        self._nothing_unread()
        if self.buffer:
            raise Unexpected(f"{self.name}: {bytes(self.buffer[:200])!r}")
        return not self.leaving and not self.ending

    def _unread(self) -> bytes:
        """What nobody has read: heads and content of responses."""
        unread = b""
        for stream in self._awaited:
            unread += b"".join(repr(head).encode() for head in stream.heads) + stream.content
        return unread

    def _nothing_unread(self) -> None:
        if unread := self._unread():
            raise Unexpected(f"{self.name}: {unread[:200]!r}")


def _text(headers: object) -> Fields:
    return tuple((str(name), str(value)) for name, value in headers)  # type: ignore[attr-defined]

"""A raw client of HTTP/2: it speaks frames, and checks none of its own.

Field blocks are read by `hpack`, so nothing that the gateway sends is read by its own code.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import hpack

from tests.raw_peers import Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 11, 13

Fields = list[tuple[bytes, bytes]]

GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"a"),
    (b":path", b"/"),
]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


def get(path: bytes, *more: tuple[bytes, bytes]) -> Fields:
    """A request for this path, with more fields."""
    return [*GET[:3], (b":path", path), *more]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def frames_of(data: bytes) -> list[bytes]:
    """Whole frames; a rest that is none is left out."""
    found = []
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
        found.append(data[:end])
        data = data[end:]
    return found


def number(value: int) -> bytes:
    """Four bytes, as in WINDOW_UPDATE and RST_STREAM."""
    return struct.pack(">I", value)


def setting(key: int, value: int) -> bytes:
    """One value in SETTINGS."""
    return struct.pack(">HI", key, value)


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8])

    @property
    def last(self) -> int:
        """The last stream of a GOAWAY."""
        return int.from_bytes(self.payload[:4])


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.heads: list[Fields] = []
        self.body = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def statuses(self) -> list[int]:
        """Of every head, interim ones too."""
        return [int(head[0][1]) for head in self.heads if head[0][0] == b":status"]

    @property
    def status(self) -> int:
        """Of the final response."""
        return self.statuses[-1]

    @property
    def trailers(self) -> Fields:
        """Fields after the body."""
        last = self.heads[-1]
        return last if last[0][0] != b":status" else []

    def values(self, name: bytes) -> list[bytes]:
        """The values of this field in the final response."""
        head = [head for head in self.heads if head[0][0] == b":status"][-1]
        return [value for found, value in head if found == name]


class H2Peer:
    """The client's end of one connection.  `answers` is what has come, by stream.

    `frames` are all frames, `goaways` those of this type.  It grants no window by itself beyond
    what `start` says.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=1 << 20)
        self.answers: dict[int, Answer] = {}
        self.frames: list[Frame] = []
        self.settings: dict[int, int] = {}
        self.next = 1
        self._block = b""

    @property
    def goaways(self) -> list[Frame]:
        """Every GOAWAY."""
        return [frame for frame in self.frames if frame.kind == GOAWAY]

    def reset_codes(self, stream: int) -> list[int]:
        """The codes of every RST_STREAM on this stream."""
        return [f.code for f in self.frames if f.kind == RST_STREAM and f.stream == stream]

    # -- out ---------------------------------------------------------------------------------

    async def send(self, *frames: bytes) -> None:
        """Send these bytes in one piece."""
        await self.peer.send(b"".join(frames))

    async def start(self, *settings: tuple[int, int]) -> None:
        """The preface, our settings, and the gateway's."""
        said = b"".join(setting(key, value) for key, value in settings)
        await self.send(PREFACE, frame(SETTINGS, 0, 0, said))
        while not self.settings:
            await self.read()
        await self.send(frame(SETTINGS, ACK, 0))

    def head(self, fields: Fields, *, end: bool = True, stream: int = 0) -> bytes:
        """HEADERS for a request on the next stream, or for this one."""
        stream = stream or self.take_number()
        block = self.encoder.encode(fields)
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def take_number(self) -> int:
        """The number of the next stream."""
        self.next += 2
        return self.next - 2

    async def request(self, fields: Fields = GET, *, end: bool = True) -> int:
        """Send the head of a request; its stream."""
        stream = self.next
        await self.send(self.head(fields, end=end))
        return stream

    async def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send DATA."""
        await self.send(frame(DATA, END_STREAM if end else 0, stream, data))

    # -- in ----------------------------------------------------------------------------------

    def _take(self) -> Frame | None:
        unread = self.peer.unread
        if len(unread) < 9:
            return None
        size = int.from_bytes(unread[:3], "big")
        if len(unread) < 9 + size:
            return None
        kind, flags, stream = struct.unpack(">BBI", unread[3:9])
        self.peer.unread = unread[9 + size :]
        return Frame(kind, flags, stream & 0x7FFFFFFF, unread[9 : 9 + size])

    async def read(self) -> Frame:
        """The next frame; EOFError at the end."""
        while (found := self._take()) is None:
            await self.peer.more()
        self._note(found)
        return found

    def take_all(self) -> None:
        """Take every frame that has been received."""
        while (found := self._take()) is not None:
            self._note(found)

    def _note(self, found: Frame) -> None:
        self.frames.append(found)
        answer = self.answers.setdefault(found.stream, Answer())
        if found.kind in (HEADERS, CONTINUATION):
            self._block += found.payload
            if found.flags & END_HEADERS:
                fields = self.decoder.decode(self._block, raw=True)
                answer.heads.append([(bytes(name), bytes(value)) for name, value in fields])
                self._block = b""
        elif found.kind == DATA:
            answer.body += found.payload
        elif found.kind == RST_STREAM:
            answer.reset = found.code
        elif found.kind == SETTINGS and not found.flags:
            for at in range(0, len(found.payload), 6):
                key, value = struct.unpack(">HI", found.payload[at : at + 6])
                self.settings[key] = value
        if found.kind in (DATA, HEADERS) and found.flags & END_STREAM:
            answer.ended = True

    async def answer(self, stream: int) -> Answer:
        """The whole answer on this stream, or what came until it was reset."""
        while not (
            (found := self.answers.get(stream)) and (found.ended or found.reset is not None)
        ):
            await self.read()
        return found

    async def ask(self, fields: Fields = GET) -> Answer:
        """A request and its whole answer."""
        return await self.answer(await self.request(fields))

    async def until_end(self) -> None:
        """Read until the gateway closes its side, or resets the connection."""
        try:
            while True:
                await self.read()
        except (EOFError, ConnectionError):
            pass

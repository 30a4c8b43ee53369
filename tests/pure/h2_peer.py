"""Raw HTTP/2 frames for the tests, and both roles of the machine after their handshake."""

from __future__ import annotations

from typing import Any

from hyperframe.frame import Frame

from hopproxy.wire.h2 import FAILED, Event, H2Client, H2Error, H2Server, Settings, Stream
from hopproxy.wire.h2_frames import PREFACE

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32


def raw(kind: int, flags: int = 0, number: int = 0, payload: bytes = b"") -> bytes:
    """A frame, right or wrong."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload
    )


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def setting(key: int, value: int) -> bytes:
    return key.to_bytes(2, "big") + u32(value)


def head(number: int, *, ended: bool = True, block: bytes = b"head") -> bytes:
    return raw(HEADERS, END_HEADERS | ended, number, block)


def data(number: int, content: bytes = b"", *, ended: bool = False) -> bytes:
    return raw(DATA, int(ended), number, content)


def frames(output: bytes) -> list[Frame]:
    """What the machine has sent, as hyperframe reads it."""
    found = []
    while output:
        frame, size = Frame.parse_frame_header(memoryview(output[:9]))
        frame.parse_body(memoryview(output[9 : 9 + size]))
        assert len(output) >= 9 + size
        found.append(frame)
        output = output[9 + size :]
    return found


def told(output: bytes) -> list[tuple[Any, ...]]:
    """The same as short tuples: the name of the frame, its stream, and what it says."""
    return [_told(frame) for frame in frames(output)]


def _told(frame: Any) -> tuple[Any, ...]:
    name = type(frame).__name__.removesuffix("Frame")
    said: Any = None
    if name in ("Headers", "Data", "Continuation"):
        said = (bytes(frame.data), "END_STREAM" in frame.flags)
    elif name == "RstStream":
        said = frame.error_code
    elif name == "WindowUpdate":
        said = frame.window_increment
    elif name == "GoAway":
        said = (frame.last_stream_id, frame.error_code)
    elif name == "Ping":
        said = (bytes(frame.opaque_data), "ACK" in frame.flags)
    elif name == "Settings":
        said = "ACK" if "ACK" in frame.flags else dict(frame.settings)
    return name, frame.stream_id, said


class Blocks:
    """Stands for HPACK: remembers which blocks it was given, and refuses `bad`."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    def __call__(self, block: bytes) -> bytes:
        self.read.append(block)
        if block == b"bad":
            raise H2Error(9, "7541 2.3.3", "an index that is not in the table")
        return block


def server(max_streams: int | None = 100, window: int = 65535, **more: Any) -> H2Server:
    """Our side of a client link, after the handshake; nothing is left to send."""
    ours = Settings()
    ours.max_streams = max_streams
    ours.window = window
    machine = H2Server(Blocks(), ours, **more)
    machine.receive(PREFACE + raw(SETTINGS) + raw(SETTINGS, ACK), 0.0)
    machine.take()
    return machine


def client(window: int = 65535, **more: Any) -> H2Client:
    """Our side of an upstream link, after the handshake."""
    ours = Settings()
    ours.window = window
    machine = H2Client(Blocks(), ours, **more)
    machine.receive(raw(SETTINGS) + raw(SETTINGS, ACK), 0.0)
    machine.take()
    return machine


def failure(events: list[Event]) -> tuple[int, str]:
    """(code, section) of the connection error that these events end with."""
    what, stream, error, ended = events[-1]
    assert (what, stream, ended) == (FAILED, None, True)
    return error.code, error.section


def stream_of(events: list[Event]) -> Stream:
    """The stream of the first event."""
    stream = events[0][1]
    assert stream is not None
    return stream

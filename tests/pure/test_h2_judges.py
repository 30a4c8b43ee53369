"""The library `h2` on the other end: both agree, whatever is said and however it is cut."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hpack
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.wire.h2 import (
    CONTENT,
    FAILED,
    HEAD,
    RESET,
    ROOM,
    H2Client,
    H2Server,
    Settings,
    Stream,
)
from tests.pure.search import search

REQUEST = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
RESPONSE = [(":status", "200"), ("x-long", "y" * 50)]

#: One step of one side: what it does, on which of its streams, with how many bytes.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "data", "end", "reset", "ping", "settings", "trailers", "move"]),
        st.integers(0, 7),
        st.sampled_from([0, 1, 100, 5000, 16384, 30000, 70000]),
        st.booleans(),
    ),
    max_size=40,
)


class Judge:
    """h2 as one side of a connection, with what it has heard on each stream."""

    def __init__(self, *, is_client: bool) -> None:
        config = h2.config.H2Configuration(client_side=is_client, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.heard: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            number = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.DataReceived):
                assert event.flow_controlled_length is not None
                self.heard[number] = self.heard.get(number, b"") + event.data  # type: ignore
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)  # type: ignore
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(number)  # type: ignore
            elif isinstance(event, h2.events.StreamReset):
                self.reset.add(number)  # type: ignore


class Ours:
    """Our machine as the other side."""

    def __init__(self, machine: H2Server | H2Client) -> None:
        self.machine = machine
        self.streams: dict[int, Stream] = {}
        self.rest: dict[int, bytes] = {}
        self.ending: set[int] = set()
        self.heard: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    def receive(self, data: bytes) -> None:
        for what, stream, payload, ended in self.machine.receive(data, 0.0):
            assert what != FAILED, payload.detail
            if stream is None:
                if what == ROOM:
                    self.go_on()
                continue
            number = stream.number
            if what == HEAD:
                self.streams.setdefault(number, stream)
            elif what == CONTENT:
                self.heard[number] = self.heard.get(number, b"") + payload
                self.machine.credit(stream, len(payload))
            elif what == RESET:
                self.reset.add(number)
            elif what == ROOM:
                self.go_on()
            if ended and what != RESET:
                self.ended.add(number)

    def write(self, number: int, data: bytes, *, ended: bool) -> None:
        self.rest[number] = self.rest.get(number, b"") + data
        if ended:
            self.ending.add(number)
        self.go_on()

    def go_on(self) -> None:
        for number, rest in list(self.rest.items()):
            stream = self.streams[number]
            sent = self.machine.send_data(stream, rest, ended=number in self.ending)
            self.rest[number] = rest[sent:]
            if stream.finished or stream.reset is not None:
                del self.rest[number]


def run(steps: list[tuple[str, int, int, bool]], *, we_serve: bool, cuts: list[int]) -> None:
    """Play the steps, then let everything arrive, and compare what both sides know."""
    decoder, encoder = hpack.Decoder(), hpack.Encoder()
    ours_settings = Settings()
    ours_settings.window = 70000
    machine: H2Server | H2Client
    if we_serve:
        machine = H2Server(decoder.decode, ours_settings)
    else:
        machine = H2Client(decoder.decode, ours_settings, link_window=100000)
    ours, judge = Ours(machine), Judge(is_client=we_serve)
    written: dict[int, bytes] = {}
    opened: list[int] = []
    closed: set[int] = set()

    def move() -> None:
        for _ in range(30):
            data = judge.h2.data_to_send()
            for cut in [*cuts, len(data)]:
                piece, data = data[:cut], data[cut:]
                if piece:
                    ours.receive(piece)
            if machine.has_output:
                judge.receive(machine.take())
            elif not data:
                break

    def judge_writes(number: int, size: int, *, ended: bool) -> None:
        room = max(0, judge.h2.local_flow_control_window(number))
        content = bytes([number % 256]) * min(size, room, judge.h2.max_outbound_frame_size)
        judge.h2.send_data(number, content, end_stream=ended)
        written[number] = written.get(number, b"") + content

    def we_write(number: int, size: int, *, ended: bool) -> None:
        content = bytes([number % 256]) * size
        ours.write(number, content, ended=ended)
        written[number] = written.get(number, b"") + content

    writes: Any = judge_writes if we_serve else we_write
    move()
    for what, which, size, flag in steps:
        if what == "open":
            if len(opened) >= 20:
                continue
            if we_serve:
                number = judge.h2.get_next_available_stream_id()
                judge.h2.send_headers(number, REQUEST)
            else:
                stream = machine.open(encoder.encode(REQUEST), ended=False)  # type: ignore
                ours.streams[stream.number] = stream
                number = stream.number
            opened.append(number)
        elif what == "move":
            move()
        elif what == "ping":
            if flag:
                machine.ping(b"12345678")
            else:
                judge.h2.ping(b"87654321")
        elif what == "settings":
            judge.h2.update_settings({4: 65535 + size})
        else:
            alive = [number for number in opened if number not in closed]
            if not alive:
                continue
            number = alive[which % len(alive)]
            if what == "reset":
                closed.add(number)
                if we_serve is flag:
                    move()
                if we_serve:
                    judge.h2.reset_stream(number, 8)
                else:
                    machine.reset(ours.streams[number], 8)
            elif what == "trailers" and we_serve:
                judge.h2.send_headers(number, [("x-sum", "7")], end_stream=True)
                closed.add(number)
            else:
                ended = what in ("end", "trailers")
                writes(number, size, ended=ended)
                if ended:
                    closed.add(number)
    move()
    theirs = ours if we_serve else judge
    for number in opened:
        if number in theirs.reset or (not we_serve and ours.streams[number].reset is not None):
            continue
        assert theirs.heard.get(number, b"") == written.get(number, b"")
    if we_serve:
        answer(ours, judge, encoder, move)


def answer(ours: Ours, judge: Judge, encoder: hpack.Encoder, move: Any) -> None:
    """Every stream that was not reset gets a response of 100,000 bytes."""
    for number, stream in ours.streams.items():
        if stream.reset is None:
            ours.machine.send_head(stream, encoder.encode(RESPONSE), ended=False)
            ours.write(number, b"r" * 100000, ended=True)
    for _ in range(40):
        move()
    for number, stream in ours.streams.items():
        if stream.reset is None:
            assert judge.heard[number] == b"r" * 100000
            assert number in judge.ended


@search
@given(STEPS, st.lists(st.integers(1, 40), max_size=6))
def test_our_server_and_the_client_of_h2(
    steps: list[tuple[str, int, int, bool]], cuts: list[int]
) -> None:
    run(steps, we_serve=True, cuts=cuts)


@search
@given(STEPS, st.lists(st.integers(1, 40), max_size=6))
def test_our_client_and_the_server_of_h2(
    steps: list[tuple[str, int, int, bool]], cuts: list[int]
) -> None:
    run(steps, we_serve=False, cuts=cuts)


@search
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing(data: bytes, we_serve: bool) -> None:
    machine: H2Server | H2Client
    if we_serve:
        machine = H2Server(hpack_of, Settings())
        machine.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), 0)
    else:
        machine = H2Client(hpack_of, Settings())
        machine.receive(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), 0)
    # A frame of each type, with a random flags, stream and payload.
    for kind in range(11):
        flags, number = (data[0], data[1] % 8) if len(data) > 1 else (0, 1)
        machine.receive(
            len(data).to_bytes(3, "big") + bytes((kind, flags, 0, 0, 0, number)) + data, 0.0
        )
    machine.take()


def hpack_of(block: bytes) -> bytes:
    return block

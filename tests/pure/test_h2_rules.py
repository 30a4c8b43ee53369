"""What RFC 9113 allows on an HTTP/2 connection and what it does not, rule by rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hopproxy.wire.h2 import (
    BROKEN,
    CONTENT,
    HEAD,
    LEAVING,
    PEER_SETTINGS,
    PONG,
    RESET,
    H2Client,
    H2Error,
    H2Server,
    Settings,
)
from hopproxy.wire.h2_frames import (
    DEFAULT_WINDOW,
    MEMO_SETTINGS,
    MEMO_SETTINGS_SIZE,
    PREFACE,
    _known,
    code_name,
)
from hopproxy.wire.h2_output import REMEMBERED
from tests.pure.h2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH,
    RST_STREAM,
    SETTINGS,
    UPDATE,
    Blocks,
    client,
    data,
    failure,
    head,
    raw,
    server,
    setting,
    stream_of,
    told,
    u32,
)

(NO_ERROR, PROTOCOL, _, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, _, CALM) = range(12)

#: (section, what is sent, code): connection errors, whichever side we are on.
EITHER = [
    ("4.2", raw(UPDATE, 0, 0, bytes(16385)), SIZE),
    ("6.1", raw(DATA, 0, 0, b"x"), PROTOCOL),
    ("6.1", raw(DATA, PADDED, 1), SIZE),
    ("6.1", raw(DATA, PADDED, 1, b"\x04abc"), PROTOCOL),
    ("6.3", raw(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.3", raw(PRIORITY, 0, 9, bytes(4)), SIZE),
    ("7540 5.3.1", raw(PRIORITY, 0, 9, u32(9) + b"\0"), PROTOCOL),
    ("6.4", raw(RST_STREAM, 0, 1, bytes(3)), SIZE),
    ("6.4", raw(RST_STREAM, 0, 0, bytes(4)), PROTOCOL),
    ("6.4", raw(RST_STREAM, 0, 99, bytes(4)), PROTOCOL),
    ("6.4", raw(RST_STREAM, 0, 2, bytes(4)), PROTOCOL),
    ("6.5", raw(SETTINGS, 0, 1), PROTOCOL),
    ("6.5", raw(SETTINGS, 0, 0, bytes(5)), SIZE),
    ("6.5", raw(SETTINGS, ACK, 0, bytes(6)), SIZE),
    ("6.5.2", raw(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL),
    ("6.5.2", raw(SETTINGS, 0, 0, setting(4, 1 << 31)), FLOW),
    ("6.5.2", raw(SETTINGS, 0, 0, setting(5, 16383)), PROTOCOL),
    ("6.5.2", raw(SETTINGS, 0, 0, setting(5, 1 << 24)), PROTOCOL),
    ("8441 3", raw(SETTINGS, 0, 0, setting(8, 2)), PROTOCOL),
    ("8441 3", raw(SETTINGS, 0, 0, setting(8, 1) + setting(8, 0)), PROTOCOL),
    ("6.5.3", raw(SETTINGS, ACK), PROTOCOL),
    ("6.7", raw(PING, 0, 1, bytes(8)), PROTOCOL),
    ("6.7", raw(PING, 0, 0, bytes(7)), SIZE),
    ("6.8", raw(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("6.8", raw(GOAWAY, 0, 0, bytes(7)), SIZE),
    ("6.9", raw(UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9", raw(UPDATE, 0, 0, u32(0)), PROTOCOL),
    ("6.9.1", raw(UPDATE, 0, 0, u32(0x7FFFFFFF)), FLOW),
    ("5.1", raw(UPDATE, 0, 99, u32(5000)), PROTOCOL),
    ("5.1", data(99, b"x"), PROTOCOL),
    ("6.10", raw(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    ("8.4", raw(PUSH, END_HEADERS, 1, u32(2)), PROTOCOL),
]

#: The same, of what only a client sends.
OF_CLIENTS = [
    ("5.1.1", head(2), PROTOCOL),
    ("5.1.1", head(0), PROTOCOL),
    ("6.2", raw(HEADERS, 0, 0, b"h"), PROTOCOL),
    ("6.2", raw(HEADERS, END_HEADERS | PRIORITIZED, 1, bytes(4)), SIZE),
    ("6.2", raw(HEADERS, END_HEADERS | PRIORITIZED | PADDED, 1, bytes(5)), SIZE),
    ("6.2", raw(HEADERS, END_HEADERS | PRIORITIZED | PADDED, 1, b"\x01" + bytes(5)), PROTOCOL),
    ("7540 5.3.1", raw(HEADERS, END_HEADERS | PRIORITIZED, 1, u32(1) + b"\x10h"), PROTOCOL),
    ("7540 5.3.1", raw(PRIORITY, 0, 1, u32(1) + b"\x10"), PROTOCOL),
    ("6.1", raw(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), PROTOCOL),
    ("4.3", raw(HEADERS, 0, 1, b"h") + raw(PING, 0, 0, bytes(8)), PROTOCOL),
    ("4.3", raw(HEADERS, 0, 1, b"h") + raw(0xFA), PROTOCOL),
    ("4.3", raw(HEADERS, 0, 1, b"h") + head(3), PROTOCOL),
    ("6.10", raw(HEADERS, 0, 1, b"h") + raw(CONTINUATION, 4, 3, b"e"), PROTOCOL),
    ("6.10", head(1, ended=False) + raw(CONTINUATION, 4, 1), PROTOCOL),
    ("10.5.1", raw(HEADERS, 0, 1) + raw(CONTINUATION, 0, 1, bytes(16384)) * 5, CALM),
    ("7541 2.3.3", head(1, block=b"bad"), COMPRESSION),
    ("5.1", head(5) + raw(RST_STREAM, 0, 5, u32(CANCEL)) + data(5, b"x"), CLOSED),
    ("5.1", head(5) + raw(RST_STREAM, 0, 5, u32(CANCEL)) + head(5), CLOSED),
    ("5.1", head(5) + head(3), CLOSED),
    ("6.9", head(1, ended=False) + data(1, bytes(16384)) * 4, FLOW),
    ("6.9.2", raw(UPDATE, 0, 1, u32(0x7FFF0000 - 65536)), FLOW),
]


@pytest.mark.parametrize("side", [server, client])
@pytest.mark.parametrize(("section", "sent", "code"), EITHER)
def test_connection_errors_of_either_side(
    side: Callable[[], H2Server | H2Client], section: str, sent: bytes, code: int
) -> None:
    machine = side()
    events = machine.receive(sent, 1.0)
    assert failure(events) == (code, section)
    assert told(machine.take()) == [("GoAway", 0, (0, code))]
    assert machine.failed is events[-1][2]
    assert machine.receive(raw(PING, 0, 0, bytes(8)), 1.0) == []


@pytest.mark.parametrize(("section", "sent", "code"), OF_CLIENTS)
def test_connection_errors_of_clients(section: str, sent: bytes, code: int) -> None:
    machine = server()
    if section == "6.9.2":
        sent = head(1) + sent + raw(SETTINGS, 0, 0, setting(4, 0x7FFFFFFF))
    assert failure(machine.receive(sent, 1.0)) == (code, section)


@pytest.mark.parametrize(
    ("section", "sent", "code"),
    [
        ("5.1", head(2), PROTOCOL),
        ("5.1", head(3), PROTOCOL),
        ("6.5.2", raw(SETTINGS, 0, 0, setting(2, 1)), PROTOCOL),
        ("6.8", raw(GOAWAY, 0, 0, u32(1, 0)) + raw(GOAWAY, 0, 0, u32(3, 0)), PROTOCOL),
        ("5.1", head(1) + head(1), CLOSED),
        ("5.1", head(1) + data(1), CLOSED),
    ],
)
def test_connection_errors_of_origins(section: str, sent: bytes, code: int) -> None:
    machine = client()
    machine.open(b"request", ended=True)
    assert failure(machine.receive(sent, 1.0)) == (code, section)


@pytest.mark.parametrize(
    ("section", "sent", "code"),
    [
        ("6.3", raw(PRIORITY, 0, 1, bytes(4)), SIZE),
        ("6.9", raw(UPDATE, 0, 1, u32(0)), PROTOCOL),
        ("6.9.1", raw(UPDATE, 0, 1, u32(0x7FFFFFFF)), FLOW),
        ("6.9", data(1, bytes(16384)) * 4, FLOW),
        ("8.1", head(1, ended=False), PROTOCOL),
        ("5.1", head(1) + data(1, b"x"), CLOSED),
        ("5.1", head(1) + data(1), CLOSED),
        ("5.1", head(1) + head(1), CLOSED),
    ],
)
def test_stream_errors(section: str, sent: bytes, code: int) -> None:
    machine = server(link_window=1 << 20)
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    events = machine.receive(sent + head(3), 1.0)
    broken = next(event for event in events if event[0] == BROKEN)
    assert broken[1] is stream
    assert (broken[2].code, broken[2].section, broken[3]) == (code, section, True)
    assert stream.reset == code
    assert stream.closed
    assert ("RstStream", 1, code) in told(machine.take())
    assert events[-1][0] == HEAD, "the connection goes on"


def test_the_preface_comes_first() -> None:
    machine = H2Server(Blocks(), Settings())
    assert machine.receive(PREFACE[:10], 0.0) == []
    assert machine.receive(PREFACE[10:] + raw(SETTINGS)[:3], 0.0) == []
    assert machine.receive(raw(SETTINGS)[3:], 0.0)[0][0] == PEER_SETTINGS
    for start in (b"GET / HTTP/1.1\r\n\r\n", PREFACE[:5] + b"X"):
        assert failure(H2Server(Blocks(), Settings()).receive(start, 0.0)) == (PROTOCOL, "3.4")


@pytest.mark.parametrize("first", [raw(PING, 0, 0, bytes(8)), raw(0xFA), head(1)])
def test_the_first_frame_is_settings(first: bytes) -> None:
    assert failure(H2Client(Blocks(), Settings()).receive(first, 0.0)) == (PROTOCOL, "3.4")
    machine = H2Server(Blocks(), Settings())
    assert failure(machine.receive(PREFACE + first, 0.0)) == (PROTOCOL, "3.4")


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP/1.1"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it speaks SSH"),
        (b"AMQP\x00\x00\x09\x01", "it speaks AMQP"),
        (b"hello\n", "its first frame is another"),
        (b"\x00\x00\x08\x06", "its first frame is another"),
        (raw(PING, 0, 0, bytes(8)), "its first frame is another"),
    ],
)
def test_what_is_no_frame_is_named_at_once(said: bytes, what: str) -> None:
    """Also if it is shorter than a frame's header."""
    machine = H2Client(Blocks(), Settings())
    [event] = machine.receive(said, 0.0)
    assert event[2].detail == f"SETTINGS is missing: {what}"


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_first_frame_in_pieces_is_waited_for(cut: int) -> None:
    frame = raw(SETTINGS, 0, 0, setting(3, 7))
    machine = H2Client(Blocks(), Settings())
    assert machine.receive(frame[:cut], 0.0) == []
    assert machine.receive(frame[cut:], 0.0)[0][0] == PEER_SETTINGS


def test_a_client_begins_with_preface_and_settings() -> None:
    ours = Settings()
    ours.window, ours.max_head_size = 1 << 20, 65536
    output = H2Client(Blocks(), ours, link_window=1 << 24).take()
    assert output.startswith(PREFACE)
    assert told(output[len(PREFACE) :]) == [
        ("Settings", 0, {2: 0, 4: 1 << 20, 6: 65536}),
        ("WindowUpdate", 0, (1 << 24) - 65535),
    ]


def test_settings_of_the_peer_are_kept_and_acknowledged() -> None:
    machine = server()
    pairs = {1: 100, 2: 0, 3: 7, 4: 1000, 5: 20000, 6: 3000, 8: 1, 9: 5}
    payload = b"".join(setting(key, value) for key, value in pairs.items())
    ((what, stream, peer, ended),) = machine.receive(raw(SETTINGS, 0, 0, payload), 1.0)
    assert (what, stream, peer, ended) == (PEER_SETTINGS, None, machine.peer, False)
    assert machine.shrinks
    assert (peer.table_size, peer.push, peer.max_streams) == (100, False, 7)
    assert (peer.window, peer.frame_size, peer.max_head_size, peer.connect) == (
        1000,
        20000,
        3000,
        True,
    )
    assert told(machine.take()) == [("Settings", 0, "ACK")]


def test_settings_of_one_peer_are_not_those_of_another() -> None:
    first, other = server(), server()
    said = raw(SETTINGS, 0, 0, setting(4, 70000))
    first.receive(said, 1.0)
    other.receive(said, 1.0)
    first.receive(raw(SETTINGS, 0, 0, setting(3, 5)), 1.0)
    assert (first.peer.window, first.peer.max_streams) == (70000, 5)
    assert (other.peer.window, other.peer.max_streams) == (70000, None)
    assert (server().peer.window, server().peer.max_streams) == (DEFAULT_WINDOW, None)


def test_what_is_remembered_of_settings_is_bounded() -> None:
    payloads = [setting(4, window) for window in range(2 * MEMO_SETTINGS)]
    for payload in [*payloads, setting(4, 9) * MEMO_SETTINGS_SIZE]:
        machine = H2Server(Blocks(), Settings())
        machine.receive(PREFACE + raw(SETTINGS, 0, 0, payload), 1.0)
        assert machine.peer.window == int.from_bytes(payload[-4:])
    assert len(_known) <= MEMO_SETTINGS
    assert all(len(payload) <= MEMO_SETTINGS_SIZE for _, payload in _known)


def test_our_settings_are_written_and_read_back() -> None:
    ours = Settings()
    ours.table_size, ours.push, ours.max_streams, ours.window = 1, False, 2, 3
    ours.frame_size, ours.max_head_size, ours.connect = 20000, 5, True
    again = Settings()
    again.read(ours.write()[9:])
    for name in Settings.__slots__:
        assert getattr(again, name) == getattr(ours, name)
    assert told(Settings().write()) == [("Settings", 0, {})]


def test_requests_with_and_without_a_body() -> None:
    machine = server()
    events = machine.receive(head(1) + head(3, ended=False) + data(3, b"ab"), 1.0)
    assert [(what, payload, ended) for what, _, payload, ended in events] == [
        (HEAD, b"head", True),
        (HEAD, b"head", False),
        (CONTENT, b"ab", False),
    ]
    first, second = events[0][1], events[1][1]
    assert first is not None
    assert second is not None
    assert (first.number, first.ended, second.number, second.ended) == (1, True, 3, False)
    (last,) = machine.receive(head(3, block=b"trailers"), 1.0)
    assert last == (HEAD, second, b"trailers", True)
    assert machine.last == 3
    assert "Stream 3" in repr(second)


def test_padding_and_priority_are_taken_off() -> None:
    machine = server()
    block = b"\x03" + bytes(5) + b"head" + bytes(3)
    flags = END_HEADERS | PADDED | PRIORITIZED
    events = machine.receive(raw(HEADERS, flags, 1, block), 1.0)
    assert events[0][2] == b"head"
    (content,) = machine.receive(raw(DATA, PADDED | END_STREAM, 1, b"\x02abc\0\0"), 1.0)
    assert content[2:] == (b"abc", True)
    assert machine.receive_window == 65535 - 6
    for number, flags, payload in [(3, PRIORITIZED, bytes(5) + b"h"), (5, PADDED, b"\x01h\0")]:
        (event,) = machine.receive(raw(HEADERS, END_HEADERS | flags, number, payload), 1.0)
        assert event[2] == b"h"


def test_a_field_block_in_pieces() -> None:
    machine = server()
    parts = raw(HEADERS, END_STREAM, 1, b"he") + raw(CONTINUATION, 0, 1, b"a")
    assert machine.receive(parts, 1.0) == []
    (event,) = machine.receive(raw(CONTINUATION, END_HEADERS, 1, b"d"), 1.0)
    assert (event[0], event[2], event[3]) == (HEAD, b"head", True)


def test_a_head_is_under_way_from_its_first_frame_to_its_end() -> None:
    machine = server()
    whole = raw(HEADERS, 0, 1, b"he") + raw(CONTINUATION, END_HEADERS, 1, b"ad")
    under_way = []
    for at in range(len(whole)):
        machine.receive(whole[at : at + 1], 0.0)
        under_way.append(machine.in_head)
    assert under_way == [False] * 8 + [True] * (len(whole) - 9) + [False]
    machine.receive(data(1, b"hello")[:-1], 0.0)
    assert not machine.in_head


def test_frames_without_meaning_are_ignored() -> None:
    machine = server()
    sent = raw(0xFA, 0xFF, 7, b"xyz") + raw(PRIORITY, 0, 9, bytes(5)) + raw(0x10, 0, 0, bytes(4))
    assert machine.receive(sent, 1.0) == []
    assert machine.take() == b""


def test_the_reserved_bit_is_ignored() -> None:
    (event,) = server().receive(head(0x80000001), 1.0)
    assert event[1] is not None
    assert event[1].number == 1


def test_pings_are_answered_and_ours_are_recognized() -> None:
    machine = client()
    assert machine.receive(raw(PING, 0, 0, b"12345678"), 1.0) == []
    machine.ping(b"abcdefgh")
    assert told(machine.take()) == [
        ("Ping", 0, (b"12345678", True)),
        ("Ping", 0, (b"abcdefgh", False)),
    ]
    assert machine.receive(raw(PING, ACK, 0, b"abcdefgh"), 1.0) == [
        (PONG, None, b"abcdefgh", False)
    ]


def test_more_streams_than_allowed_are_refused_and_yet_decoded() -> None:
    machine = server(max_streams=2)
    events = machine.receive(head(1) + head(3) + head(5, ended=False, block=b"third"), 1.0)
    assert len(events) == 2
    assert isinstance(machine.decode, Blocks)
    assert machine.decode.read[-1] == b"third"
    assert told(machine.take()) == [("RstStream", 5, REFUSED)]
    assert machine.receive(data(5, b"late", ended=True), 1.0) == []
    machine.send_head(stream_of(events), b"response", ended=True)
    assert len(machine.receive(head(7), 1.0)) == 1
    assert server(max_streams=None).receive(head(1), 1.0)


def test_a_reset_by_the_peer() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False) + data(1, b"abc"), 1.0))
    assert machine.receive(raw(RST_STREAM, 0, 1, u32(CANCEL)), 1.0) == [
        (RESET, stream, CANCEL, True)
    ]
    assert (stream.reset, stream.unclaimed) == (CANCEL, 0)
    machine.send_head(stream, b"head", ended=False)
    assert machine.send_data(stream, b"body", ended=True) == 0
    machine.reset(stream, CANCEL)
    machine.credit(stream, 3)
    assert machine.take() == b""
    assert machine.receive(raw(RST_STREAM, 0, 1, u32(CANCEL)), 1.0) == []


def test_late_frames_on_a_stream_that_we_have_reset_are_dropped() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    machine.reset(stream, NO_ERROR)
    late = (
        data(1, b"abc") + data(1) + head(1) + raw(UPDATE, 0, 1, u32(9)) + raw(UPDATE, 0, 1, u32(0))
    )
    assert machine.receive(late, 1.0) == []
    assert told(machine.take()) == [("RstStream", 1, NO_ERROR)]


def test_so_many_resets_that_some_are_forgotten_make_no_error() -> None:
    machine = server()
    for number in range(1, 2 * REMEMBERED + 21, 2):
        machine.reset(stream_of(machine.receive(head(number, ended=False), number / 2)), CANCEL)
    assert len(machine._cut or ()) == REMEMBERED
    assert machine.receive(data(1, b"late"), 999.0) == []


def test_the_end_of_an_honest_server_is_announced_twice() -> None:
    machine = server()
    machine.receive(head(1), 1.0)
    machine.announce_end()
    machine.announce_end()
    assert len(machine.receive(head(3), 1.0)) == 1, "it was on its way"
    machine.go_away()
    machine.go_away()
    assert machine.receive(head(5, ended=False) + data(5, b"x") + head(5), 1.0) == []
    machine.announce_end()
    machine.fail(H2Error(CALM, "10.5", "enough"))
    machine.fail(H2Error(PROTOCOL, "", "later"))
    assert told(machine.take()) == [
        ("GoAway", 0, (0x7FFFFFFF, NO_ERROR)),
        ("GoAway", 0, (3, NO_ERROR)),
        ("GoAway", 0, (3, CALM)),
    ]
    assert machine.failed is not None
    assert machine.failed.code == CALM


def test_a_client_that_leaves_may_still_send() -> None:
    machine = server()
    events = machine.receive(raw(GOAWAY, 0, 0, u32(0, NO_ERROR) + b"bye") + head(1), 1.0)
    assert events[0] == (LEAVING, None, (0, NO_ERROR, b"bye"), False)
    assert events[1][0] == HEAD


def test_what_an_origin_that_leaves_has_not_seen_is_refused() -> None:
    machine = client()
    first, second, third = [machine.open(b"request", ended=False) for _ in range(3)]
    events = machine.receive(raw(GOAWAY, 0, 0, u32(1, NO_ERROR)), 1.0)
    assert events == [
        (RESET, second, REFUSED, True),
        (RESET, third, REFUSED, True),
        (LEAVING, None, (1, NO_ERROR, b""), False),
    ]
    assert (machine.leaving, machine.max_streams, list(machine.streams)) == (1, 0, [1])
    assert machine.receive(raw(GOAWAY, 0, 0, u32(1, CANCEL)) + head(3), 1.0)[0][0] == LEAVING
    assert machine.receive(head(1), 1.0) == [(HEAD, first, b"head", True)]
    machine.take()
    machine.go_away()
    assert told(machine.take()) == [("GoAway", 0, (0, NO_ERROR))]


def test_interim_responses_a_final_one_and_trailers() -> None:
    machine = client()
    stream = machine.open(b"request", ended=True)
    sent = head(1, ended=False, block=b"103") + head(1, ended=False, block=b"200")
    events = machine.receive(sent + data(1, b"body") + head(1, block=b"trailers"), 1.0)
    assert [(what, payload, ended) for what, _, payload, ended in events] == [
        (HEAD, b"103", False),
        (HEAD, b"200", False),
        (CONTENT, b"body", False),
        (HEAD, b"trailers", True),
    ]
    assert stream.closed
    assert machine.streams == {}


def test_how_many_streams_an_origin_lends() -> None:
    machine = H2Client(Blocks(), Settings())
    assert machine.max_streams == 100
    machine.receive(raw(SETTINGS), 0.0)
    assert machine.max_streams > 1000
    machine.receive(raw(SETTINGS, 0, 0, setting(3, 5)), 0.0)
    assert machine.max_streams == 5
    machine._next = 0x80000001
    assert machine.max_streams == 0
    failed = client()
    failed.receive(head(2), 1.0)
    assert failed.max_streams == 0


@pytest.mark.parametrize("at", range(1, 60, 7))
def test_frames_cut_anywhere_are_the_same(at: int) -> None:
    sent = head(1, ended=False) + data(1, b"some body") + data(1, ended=True) + head(3)
    whole, cut, bytewise = server(), server(), server()
    expected = [event[2:] for event in whole.receive(sent, 1.0)]
    found = cut.receive(sent[:at], 1.0) + cut.receive(sent[at:], 1.0)
    assert [event[2:] for event in found] == expected
    single = [event for byte in sent for event in bytewise.receive(bytes((byte,)), 1.0)]
    assert [event[2:] for event in single] == expected


def test_a_block_empties_the_table_first_if_the_peer_has_none() -> None:
    """RFC 7541 section 4.2, once."""
    machine = server()
    machine.receive(raw(SETTINGS, 0, 0, setting(1, 0)), 1.0)
    machine.take()
    for number, expected in ((1, b"\x20head"), (3, b"head")):
        stream = stream_of(machine.receive(head(number), 1.0))
        machine.send_head(stream, b"head", ended=True)
        assert told(machine.take()) == [("Headers", number, (expected, True))]


def test_data_that_ends_a_request_closes_a_stream_that_was_answered() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    machine.send_head(stream, b"head", ended=True)
    assert list(machine.streams) == [1]
    assert machine.receive(data(1, b"rest", ended=True), 1.0)[0][1:] == (stream, b"rest", True)
    assert (stream.closed, list(machine.streams)) == (True, [])


def test_error_codes_have_names() -> None:
    assert code_name(7) == "REFUSED_STREAM"
    assert code_name(0x77) == "error code 0x77"


def test_an_error_names_the_rule_that_was_broken() -> None:
    assert H2Error(PROTOCOL, "6.5", "why").told == "why (RFC 9113 section 6.5)"
    assert H2Error(PROTOCOL, "7541 5.2", "why").told == "why (RFC 7541 section 5.2)"

"""Flow control: no byte more than granted, each one given back once (RFC 9113 section 5.2)."""

from __future__ import annotations

from hopproxy.wire.h2 import BROKEN, ROOM, H2Client, H2Server, Settings
from hopproxy.wire.h2_frames import PREFACE
from hopproxy.wire.h2_output import PIECES, in_pieces
from tests.pure.h2_peer import (
    ACK,
    DATA,
    PADDED,
    RST_STREAM,
    SETTINGS,
    UPDATE,
    Blocks,
    client,
    data,
    frames,
    head,
    raw,
    server,
    setting,
    stream_of,
    told,
    u32,
)


def sizes(output: bytes) -> list[int]:
    """The sizes of the DATA frames sent."""
    return [frame.body_len for frame in frames(output) if frame.type == DATA]


def test_a_response_goes_out_in_frames_of_the_peers_size() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    machine.send_head(stream, b"head", ended=False)
    assert machine.send_data(stream, bytes(40000), ended=True) == 40000
    output = machine.take()
    assert sizes(output) == [16384, 16384, 7232]
    assert set(frames(output)[-1].flags) == {"END_STREAM"}
    assert stream.closed
    assert machine.streams == {}
    assert not machine.has_output


def test_a_negative_window_holds_no_end_back() -> None:
    """RFC 9113 sections 6.9 and 6.9.2: a frame without bytes needs no window."""
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    assert machine.send_data(stream, b"ten bytes.", ended=False) == 10
    machine.receive(raw(SETTINGS, 0, 0, setting(4, 5)), 1.0)
    assert stream.send_window < 0
    assert machine.waiting == len(machine.take())
    assert machine.send_data(stream, b"", ended=True) == 0
    assert stream.closed
    assert sizes(machine.take()) == [0]


def test_what_waits_in_many_pieces_is_joined() -> None:
    machine = server()
    for at in range(300):
        machine.ping(b"%08d" % at)
    whole = b"".join(machine._out)
    machine.pack()
    assert machine._out == [whole]
    machine.pack()
    assert machine.take() == whole


def test_content_is_sent_part_by_part_and_the_last_one_ends_the_stream() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    left = machine.send_part(stream, b"0123456789", 4, [], True)
    assert left == b"456789"
    assert not stream.finished
    left = machine.send_part(stream, left, 4, [], True)
    assert machine.send_part(stream, left, 4, [], True) == b""
    output = machine.take()
    found = [(frame.body_len, set(frame.flags)) for frame in frames(output)]
    assert found == [(4, set()), (4, set()), (2, {"END_STREAM"})]
    assert [part in output for part in (b"0123", b"4567", b"89")] == [True] * 3
    assert stream.closed


def test_content_without_an_end_leaves_the_stream_open() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    assert machine.send_part(stream, b"some", 10, [], False) == b""
    assert not stream.finished
    assert machine.send_part(stream, b"", 10, [], True) == b""
    assert sizes(machine.take()) == [4, 0]
    assert stream.closed


def test_trailers_wait_for_the_window_of_the_content_before_them() -> None:
    machine = server()
    machine.receive(raw(SETTINGS, 0, 0, setting(4, 3)), 1.0)
    stream = stream_of(machine.receive(head(1), 1.0))
    machine.take()
    left = machine.send_part(stream, b"0123", 10, [b"x-sum: 7"], True)
    assert left == b"3"
    assert stream.blocked
    machine.receive(raw(UPDATE, 0, 1, u32(9)), 1.0)
    assert machine.send_part(stream, left, 10, [b"x-sum: 7"], True) == b""
    found = [(frame.type, set(frame.flags)) for frame in frames(machine.take())]
    assert found == [(DATA, set()), (DATA, set()), (1, {"END_HEADERS", "END_STREAM"})]
    assert stream.closed


def test_what_arrives_in_many_pieces_is_joined_and_an_empty_list_stays_empty() -> None:
    shared: list[bytes] = []
    kept = shared
    for _ in range(3 * PIECES):
        kept = in_pieces(kept, b"x")
        assert len(kept) <= PIECES
    assert b"".join(kept) == b"x" * (3 * PIECES)
    assert shared == []


def test_data_in_whole_frames_ends_with_the_last_one() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    assert machine.send_data(stream, bytes(32768), ended=True) == 32768
    assert [set(frame.flags) for frame in frames(machine.take())] == [set(), {"END_STREAM"}]


def test_a_large_field_block_continues() -> None:
    machine = client()
    stream = machine.open(b"x" * 40000, ended=True)
    found = frames(machine.take())
    assert [(frame.type, frame.body_len, set(frame.flags)) for frame in found] == [
        (1, 16384, {"END_STREAM"}),
        (9, 16384, set()),
        (9, 7232, {"END_HEADERS"}),
    ]
    assert stream.finished
    assert not stream.closed


def test_the_window_of_a_stream_ends_and_opens() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1) + raw(UPDATE, 0, 0, u32(1 << 20)), 1.0))
    assert machine.send_data(stream, bytes(70000), ended=True) == 65535
    assert sum(sizes(machine.take())) == 65535
    assert (stream.blocked, stream.finished, machine.blocked) == (True, False, False)
    assert machine.send_data(stream, b"more", ended=True) == 0
    events = machine.receive(raw(UPDATE, 0, 1, u32(5000)), 1.0)
    assert events == [(ROOM, stream, None, False)]
    assert machine.receive(raw(UPDATE, 0, 1, u32(5000)), 1.0) == []
    assert machine.send_data(stream, memoryview(bytes(4465)), ended=True) == 4465
    assert told(machine.take()) == [("Data", 1, (bytes(4465), True))]


def test_the_window_of_the_connection_ends_and_opens() -> None:
    machine = server()
    events = machine.receive(head(1) + head(3), 1.0)
    first, second = events[0][1], events[1][1]
    assert first is not None
    assert second is not None
    assert machine.send_data(first, bytes(65535), ended=False) == 65535
    assert not machine.blocked
    assert machine.send_data(second, b"x", ended=True) == 0
    assert (machine.blocked, second.blocked) == (True, False)
    assert machine.receive(raw(UPDATE, 0, 0, u32(1024)), 1.0) == [(ROOM, None, None, False)]
    assert machine.receive(raw(UPDATE, 0, 0, u32(1024)), 1.0) == []
    assert machine.send_data(second, bytes(4000), ended=True) == 2048


def test_an_end_without_bytes_needs_no_window() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1), 1.0))
    machine.send_data(stream, bytes(65535), ended=False)
    machine.take()
    assert machine.send_data(stream, b"", ended=False) == 0
    assert machine.send_data(stream, b"", ended=True) == 0
    assert told(machine.take()) == [("Data", 1, (b"", True))]


def test_a_new_initial_window_moves_all_streams() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1) + head(3), 1.0))
    machine.send_data(stream, bytes(60000), ended=False)
    machine.receive(raw(SETTINGS, 0, 0, setting(4, 1000)), 1.0)
    assert stream.send_window == 1000 - 60000
    assert machine.send_data(stream, b"x", ended=False) == 0
    events = machine.receive(raw(SETTINGS, 0, 0, setting(4, 60000)), 1.0)
    assert [event[0] for event in events] == [5], "a window of 0 is none"
    events = machine.receive(raw(SETTINGS, 0, 0, setting(4, 60001)), 1.0)
    assert events[0] == (ROOM, stream, None, False)
    assert stream_of(machine.receive(head(5), 1.0)).send_window == 60001


def test_what_is_passed_on_is_given_back_in_halves_of_a_window() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    for _ in range(2):
        machine.receive(data(1, bytes(16384)), 1.0)
    machine.credit(stream, 32767)
    assert machine.take() == b""
    machine.credit(stream, 1)
    assert told(machine.take()) == [
        ("WindowUpdate", 0, 32768),
        ("WindowUpdate", 1, 32768),
    ]
    assert (stream.receive_window, machine.receive_window) == (65535, 65535)
    machine.credit(stream, 99)
    assert stream.unclaimed == 0


def test_of_a_stream_that_has_ended_only_the_connection_is_credited() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    for ended in (False, False, True):
        machine.receive(data(1, bytes(16384), ended=ended), 1.0)
    machine.send_head(stream, b"head", ended=True)
    machine.take()
    machine.credit(stream, 49152)
    assert told(machine.take()) == [("WindowUpdate", 0, 49152)]


def test_a_reset_gives_the_connection_back_what_nobody_will_read() -> None:
    for sent in (raw(RST_STREAM, 0, 1, u32(8)), b""):
        machine = server()
        stream = stream_of(machine.receive(head(1, ended=False), 1.0))
        machine.receive(data(1, bytes(16384)) * 3, 1.0)
        machine.receive(sent, 1.0)
        machine.reset(stream, 8)
        assert machine.receive_window == 65535
        machine.receive(head(3, ended=False) + data(1, bytes(9)) * (not sent), 1.0)
        assert machine.failed is None


def test_dropped_bytes_count_for_the_connection_alone() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    machine.reset(stream, 8)
    machine.take()
    for _ in range(3):
        machine.receive(data(1, bytes(16384)), 1.0)
    assert told(machine.take()) == [("WindowUpdate", 0, 32768)]
    events = machine.receive(head(3) + data(3, bytes(16384)), 1.0)
    assert events[-1][0] == BROKEN
    assert told(machine.take())[0] == ("WindowUpdate", 0, 32768)


def test_bytes_beyond_the_window_of_a_stream_are_no_loss_for_the_connection() -> None:
    machine = server(link_window=1 << 17)
    machine.receive(head(1, ended=False), 1.0)
    machine.receive(data(1, bytes(16384)) * 4, 1.0)
    assert ("WindowUpdate", 0, 65536) in told(machine.take())


def test_padding_is_given_back_at_once() -> None:
    machine = server()
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    for _ in range(200):
        machine.receive(raw(DATA, PADDED, 1, b"\xff" + bytes(255)), 1.0)
    machine.receive(raw(DATA, PADDED, 1, b"\0x"), 1.0)
    assert stream.unclaimed == 1
    assert stream.receive_window + stream.owed == 65534


def test_a_small_window_of_ours_holds_once_it_is_acknowledged() -> None:
    ours = Settings()
    ours.window = 1000
    machine = H2Client(Blocks(), ours)
    assert told(machine.take()[len(PREFACE) :]) == [("Settings", 0, {2: 0, 4: 1000})]
    stream = machine.open(b"request", ended=True)
    machine.receive(raw(SETTINGS) + head(1, ended=False) + data(1, bytes(3000)), 1.0)
    machine.receive(raw(SETTINGS, ACK), 1.0)
    assert stream.receive_window == -2000
    machine.credit(stream, 3000)
    assert stream.receive_window == 1000
    assert machine.acknowledged
    fresh = machine.open(b"request", ended=True)
    assert fresh.receive_window == 1000


def test_a_large_window_of_ours_counts_from_the_beginning() -> None:
    machine = server(window=1 << 17, link_window=1 << 20)
    stream = stream_of(machine.receive(head(1, ended=False), 1.0))
    machine.receive(data(1, bytes(16384)) * 8, 1.0)
    assert (stream.reset, stream.receive_window) == (None, 0)


def test_a_connection_at_rest_keeps_its_open_streams_and_goes_on_without_any() -> None:
    machine = server()
    machine.receive(head(1, ended=False), 1.0)
    machine.rest()
    assert list(machine.streams) == [1]
    machine.reset(machine.streams[1], 8)
    machine.rest()
    assert machine.streams == {}
    assert stream_of(machine.receive(head(3), 1.0)).number == 3
    assert list(machine.streams) == [3]


def test_a_connection_that_was_packed_goes_on_where_it_was() -> None:
    machine = server()
    machine.receive(raw(SETTINGS, 0, 0, setting(4, 7)), 1.0)
    stream = stream_of(machine.receive(head(1, ended=False) + data(1, b"abc", ended=True), 1.0))
    machine.credit(stream, 3)
    machine.send_head(stream, b"head", ended=False)
    machine.send_data(stream, b"12345", ended=True)
    assert machine.packed(9.0) is None, "there is output"
    machine.take()
    machine.receive(raw(0xFA), 1.0)
    assert machine.packed(1.0) is None, "a useless frame has its price"
    packed = machine.packed(9.0)
    assert packed is not None
    again = H2Server(Blocks(), machine.ours, link_window=machine._link_window)
    again.restore(packed)
    assert not again.has_output
    assert (again.send_window, again.receive_window) == (65535 - 5, 65535 - 3)
    assert again.peer.window == 7
    assert again.packed(9.0) == packed
    assert again.receive(head(1), 9.0)[-1][2].section == "5.1"
    fresh = H2Server(Blocks(), machine.ours)
    fresh.restore(packed)
    assert stream_of(fresh.receive(head(3), 9.0)).send_window == 7
    assert fresh.packed(9.0) is None, "a stream is open"


def test_what_is_more_than_usual_is_not_packed() -> None:
    new = H2Server(Blocks(), Settings())
    new.receive(PREFACE + raw(SETTINGS), 1.0)
    new.take()
    assert new.packed(9.0) is None, "our SETTINGS are not acknowledged"
    half, left, cut = server(), server(), server()
    for machine in (half, left, cut):
        machine.take()
        assert machine.packed(9.0) is not None
    half.receive(head(1)[:5], 1.0)
    left.announce_end()
    cut.reset(stream_of(cut.receive(head(1), 1.0)), 8)
    for machine in (half, left, cut):
        machine.take()
        assert machine.packed(9.0) is None

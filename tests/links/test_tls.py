"""TLS on a socket: what is read, what is sent, and what is neither."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from functools import cache

import pytest

from hopproxy.link.ciphertext import RECORD
from hopproxy.link.tls import PIECE, Tls
from tests.authority import client_context, server_context

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@cache
def _server() -> ssl.SSLContext:
    return server_context("site.test")


@cache
def _client(version: ssl.TLSVersion) -> ssl.SSLContext:
    return client_context(version)


class Pair:
    """A server and a client on one pair of sockets, in the midst of their handshake."""

    def __init__(self, version: ssl.TLSVersion = V13, server: ssl.SSLContext | None = None) -> None:
        self.sockets = socket.socketpair()
        for sock in self.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        near, far = self.sockets
        self.server = Tls(near, server or _server(), server_side=True)
        self.client = Tls(far, _client(version), server_side=False, name="site.test")

    def shake(self) -> None:
        """Take the handshake to its end."""
        for _ in range(4):
            done = self.client.shake(), self.server.shake()
        assert all(done)

    def carry(self, data: bytes) -> bytes:
        """Send from the server to the client; what came there."""
        rest, came = memoryview(data), b""
        while len(came) < len(data):
            rest = rest[self.server.send(rest) :] if rest else rest
            came += everything(self.client)
        return came

    def close(self) -> None:
        """Close both ends."""
        for end in (self.server, self.client):
            end.close(reset=True)


def everything(end: Tls, size: int = 65536) -> bytes:
    """All that can be read now, read as a transport does: until a receive is short."""
    came = b""
    while True:
        try:
            data = end.recv(size)
        except BlockingIOError:
            return came
        came += data
        if len(data) < size:
            return came


def records(data: bytes) -> list[bytes]:
    """The whole records in these bytes."""
    found = []
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        assert len(data) >= end
        found.append(data[:end])
        data = data[end:]
    return found


@pytest.fixture(params=[V12, V13], ids=["1.2", "1.3"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair after its handshake, of each version."""
    made = Pair(request.param)
    made.shake()
    yield made
    made.close()


@pytest.fixture
def unshaken() -> Iterator[Pair]:
    """A pair before its handshake."""
    made = Pair()
    yield made
    made.close()


def test_each_way_carries_what_was_sent(pair: Pair) -> None:
    assert pair.client.send(b"a request") == 9
    assert pair.server.recv(65536) == b"a request"
    assert pair.server.send(b"an answer") == 9
    assert pair.client.recv(65536) == b"an answer"
    with pytest.raises(BlockingIOError):
        pair.client.recv(65536)


@pytest.mark.parametrize("size", [1, 1000, RECORD, PIECE, 10 * PIECE + 1])
def test_any_amount_arrives_whole_past_a_full_socket(pair: Pair, size: int) -> None:
    data = os.urandom(size)
    assert pair.carry(data) == data


def test_what_the_kernel_has_not_taken_does_not_count_as_sent(pair: Pair) -> None:
    data = os.urandom(8 * PIECE)
    taken = pair.server.send(data)
    assert taken < len(data)
    assert pair.server.owes
    assert taken % PIECE == 0
    on_the_way = everything(pair.client)
    assert len(on_the_way) >= taken
    assert on_the_way == data[: len(on_the_way)]
    rest = data[taken:]
    while rest:
        rest = rest[pair.server.send(rest) :]
        on_the_way += everything(pair.client)
    assert on_the_way == data


def test_what_is_owed_survives_that_the_caller_brings_less(pair: Pair) -> None:
    data = os.urandom(8 * PIECE)
    taken, came = pair.server.send(data), b""
    for byte in range(taken, len(data)):  # a byte at a time, and never a byte twice
        while not pair.server.send(data[byte : byte + 1]):
            came += everything(pair.client)
        if byte > taken + 2 * PIECE:
            break
    came += everything(pair.client)
    assert came == data[: len(came)]
    assert len(came) >= taken + PIECE


def test_nothing_is_sent_or_read_before_the_handshake_has_ended(unshaken: Pair) -> None:
    assert unshaken.server.send(b"too early") == 0
    with pytest.raises(BlockingIOError):
        unshaken.server.recv(65536)
    unshaken.client.shake()
    unshaken.server.shake()  # its whole flight is out, the client's Finished is missing
    assert unshaken.server.send(b"too early") == 0
    with pytest.raises(BlockingIOError):
        unshaken.server.recv(65536)


def test_a_handshake_goes_on_a_byte_at_a_time(unshaken: Pair) -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    server = Tls(near, _server(), server_side=True)
    unshaken.client.shake()
    hello = unshaken.sockets[0].recv(65536)
    for byte in hello:
        assert not server.shake()
        assert not server.owes
        far.send(bytes([byte]))
    assert not server.shake()
    assert far.recv(65536)[:1] == b"\x16"
    server.close(reset=True)
    far.close()


def test_a_request_in_the_last_flight_of_the_handshake_is_read(unshaken: Pair) -> None:
    unshaken.client.shake()
    unshaken.server.shake()
    assert unshaken.client.shake()
    unshaken.client.send(b"at once")
    assert unshaken.server.shake()
    assert unshaken.server.recv(65536) == b"at once"


def test_a_peer_that_leaves_in_the_handshake_breaks_it(unshaken: Pair) -> None:
    unshaken.client.shake()
    unshaken.sockets[1].shutdown(socket.SHUT_WR)
    assert not unshaken.server.shake()
    with pytest.raises(ssl.SSLEOFError):
        unshaken.server.shake()


def test_a_failed_handshake_tells_the_peer_why(unshaken: Pair) -> None:
    unshaken.sockets[1].send(b"\x16\x03\x01\x00\x05hello")
    with pytest.raises(ssl.SSLError):
        unshaken.server.shake()
    assert unshaken.sockets[1].recv(100)[:1] == b"\x15"  # an alert


def test_tickets_are_no_input_for_an_idle_link(unshaken: Pair) -> None:
    unshaken.shake()
    unshaken.server.shed()
    assert unshaken.sockets[1].recv(1, socket.MSG_PEEK) == b"\x17"  # they have come
    assert not unshaken.client.has_input()
    with pytest.raises(BlockingIOError):
        unshaken.client.recv(65536)


def test_a_ticket_leaves_with_the_first_response(unshaken: Pair) -> None:
    unshaken.shake()
    far = unshaken.sockets[1]
    with pytest.raises(BlockingIOError):
        far.recv(1, socket.MSG_PEEK)
    assert unshaken.server.send(b"response") == 8
    assert len(records(far.recv(65536, socket.MSG_PEEK))) == _server().num_tickets + 1
    assert everything(unshaken.client) == b"response"
    assert unshaken.client.tls is not None
    assert unshaken.client.tls.session is not None
    assert unshaken.client.tls.session.has_ticket


def test_a_ticket_leaves_with_the_first_piece_of_a_long_response(unshaken: Pair) -> None:
    unshaken.shake()
    assert unshaken.carry(bytes(300_000)) == bytes(300_000)
    assert unshaken.client.tls is not None
    assert unshaken.client.tls.session is not None
    assert unshaken.client.tls.session.has_ticket


def test_a_ticket_without_a_response_leaves_when_the_link_is_quiet(unshaken: Pair) -> None:
    unshaken.shake()
    unshaken.server.shed()
    assert len(records(unshaken.sockets[1].recv(65536))) == _server().num_tickets
    unshaken.server.shed()
    with pytest.raises(BlockingIOError):
        unshaken.sockets[1].recv(1)


def test_a_ticket_for_a_peer_that_has_gone_is_no_error(unshaken: Pair) -> None:
    unshaken.shake()
    unshaken.client.close(reset=True)
    unshaken.server.shed()


def test_close_notify_goes_with_the_last_response(pair: Pair) -> None:
    pair.server.send(b"first")
    everything(pair.client)
    pair.server.end_with_next()
    assert pair.server.send(b"last") == 4
    assert len(records(pair.sockets[1].recv(65536, socket.MSG_PEEK))) == 2
    assert everything(pair.client) == b"last"
    assert pair.client.notified
    pair.server.close(reset=False)
    assert pair.client.recv(1) == b""
    assert not pair.client.cut


def test_close_notify_goes_with_the_end_of_a_long_last_response(pair: Pair) -> None:
    pair.server.end_with_next()
    assert pair.carry(bytes(300_000)) == bytes(300_000)
    assert pair.client.notified
    pair.server.close(reset=False)
    assert pair.client.recv(1) == b""
    assert not pair.client.cut


def test_a_response_that_is_cut_has_no_close_notify_though_it_was_the_last(pair: Pair) -> None:
    pair.server.cut_short()
    pair.server.end_with_next()
    pair.server.send(b"last")
    pair.server.close(reset=False)
    assert everything(pair.client) == b"last"
    assert pair.client.recv(1) == b""
    assert pair.client.cut


def test_a_handshake_begins_with_what_was_received_before(unshaken: Pair) -> None:
    unshaken.client.shake()
    hello = unshaken.sockets[0].recv(65536)
    assert not unshaken.server.shake(hello)
    assert unshaken.client.shake()
    assert unshaken.server.shake()


def test_what_was_looked_at_is_still_to_be_read(pair: Pair) -> None:
    pair.server.send(b"first")
    assert pair.client.has_input()
    assert pair.client.peek() == b"f"
    pair.server.send(b", second")
    assert pair.client.peek() == b"f"
    assert pair.client.recv(3) == b"fir"
    assert pair.client.has_input()
    assert everything(pair.client) == b"st, second"
    assert not pair.client.has_input()


def test_half_a_record_is_no_input_yet(unshaken: Pair) -> None:
    near, far = socket.socketpair()
    client = Tls(near, _client(V13), server_side=False, name="site.test")
    server = unshaken.sockets[1]
    done = False, False
    while not all(done):
        done = client.shake(), unshaken.server.shake()
        relay(far, server)
        relay(server, far)
    unshaken.server.send(b"a whole record")
    record = server.recv(65536)
    far.send(record[:-1])
    assert not client.has_input()
    far.send(record[-1:])
    assert client.has_input()
    assert client.recv(65536) == b"a whole record"
    client.close(reset=True)
    far.close()


def relay(source: socket.socket, sink: socket.socket) -> None:
    """Move what has arrived."""
    with contextlib.suppress(BlockingIOError):
        sink.send(source.recv(65536, socket.MSG_DONTWAIT))


def test_records_left_inside_when_the_event_is_over_are_still_readable(pair: Pair) -> None:
    for number in range(40):
        pair.client.send(b"%03d" % number)
    for expected in range(40):
        assert pair.server.recv(3) == b"%03d" % expected
    with pytest.raises(BlockingIOError):
        pair.server.recv(3)


def test_a_close_notify_ends_the_stream_before_any_fin(pair: Pair) -> None:
    pair.client.send(b"the last words")
    pair.client._say_goodbye()
    assert pair.server.recv(65536) == b"the last words"
    assert pair.server.ended
    assert [pair.server.recv(65536) for _ in range(3)] == [b"", b"", b""]
    assert pair.server.notified
    assert not pair.server.cut
    assert pair.server.has_input()
    assert pair.server.peek() == b""


def test_each_side_reads_on_after_its_own_close_notify(pair: Pair) -> None:
    pair.client.send(b"under way")
    pair.server.shut_down()
    assert pair.client.recv(65536) == b""
    pair.client.send(b", and later")
    assert everything(pair.server) == b"under way, and later"


def test_a_fin_without_close_notify_is_a_cut(pair: Pair) -> None:
    everything(pair.client)  # its tickets, else the close is a reset
    pair.client.send(b"half of")
    pair.sockets[1].close()
    assert pair.server.recv(65536) == b"half of"
    assert pair.server.recv(65536) == b""
    assert pair.server.cut


def test_the_end_behind_tickets_is_read_with_them(unshaken: Pair) -> None:
    while not unshaken.client.shake():
        unshaken.server.shake()
    unshaken.server.shake()  # sends the tickets
    unshaken.sockets[0].close()
    assert unshaken.client.recv(65536) == b""
    assert unshaken.client.cut


@pytest.mark.parametrize("reset", [False, True])
def test_a_close_says_goodbye_and_a_reset_does_not(pair: Pair, reset: bool) -> None:
    everything(pair.client)
    pair.server.close(reset=reset)
    assert pair.client.recv(65536) == b""
    assert pair.client.notified is not reset


def test_garbage_after_data_ends_the_stream_after_the_data(pair: Pair) -> None:
    pair.client.send(b"fine")
    pair.sockets[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert pair.server.recv(65536) == b"fine"
    assert pair.server.ended
    with pytest.raises(ssl.SSLError):
        pair.server.recv(65536)
    assert pair.server.recv(65536) == b""


def test_a_handshake_leaves_something_inside_only_if_it_came_with_it(unshaken: Pair) -> None:
    unshaken.client.shake()
    unshaken.server.shake()
    assert unshaken.client.shake()
    assert not unshaken.client.inside
    assert unshaken.client.send(b"at once") == 7
    assert unshaken.server.shake()  # reads both with one receive
    assert unshaken.server.inside
    assert unshaken.server.recv(65536) == b"at once"
    assert not unshaken.server.inside


@pytest.mark.parametrize("size", [1, 16384, 16385, 40000])
def test_a_receive_of_exactly_what_there_is_says_that_more_may_be_inside(
    pair: Pair, size: int
) -> None:
    assert pair.server.send(b"x" * size) == size
    assert len(pair.client.recv(size)) == size
    assert pair.client.inside
    with pytest.raises(BlockingIOError):
        pair.client.recv(size)
    assert not pair.client.inside

"""Long bodies, spliced from socket to socket: whole, in order, cut where they are cut."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
from collections.abc import Callable

import pytest
import trio

from hopproxy.link import splice
from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops, open_files

HEAD = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
BODY = random.Random(1).randbytes(3_000_000)


class Spliced:
    """The real `os.splice`, and what it has moved."""

    def __init__(self) -> None:
        self.moved = 0
        self._splice = os.splice

    def __call__(self, source: int, sink: int, count: int) -> int:
        moved = self._splice(source, sink, count)
        self.moved += moved
        return moved


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> Spliced:
    """Counts the bytes that are spliced, on their way in and on their way out."""
    made = Spliced()
    monkeypatch.setattr(os, "splice", made)
    return made


async def answered(hops: Hops, body: bytes) -> tuple[Peer, Peer]:
    """One exchange with this body, read as fast as it comes."""
    client, upstream = await hops.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.send, HEAD % len(body) + body)
        assert (await client.message()).body == body
    await hops.quiet()
    return client, upstream


async def test_a_long_body_passes_whole_and_both_links_live_on(
    hops: Hops, spliced: Spliced
) -> None:
    await hops.start()
    client, upstream = await answered(hops, BODY)
    assert spliced.moved > len(BODY)
    assert (await hops.again(client, upstream)).body == b"ok"
    assert [record.sent for record in hops.records.kept] == [len(BODY), 2]


async def test_over_tcp(tcp_hops: Hops, spliced: Spliced) -> None:
    await tcp_hops.start()
    client, upstream = await answered(tcp_hops, BODY)
    assert spliced.moved > len(BODY)
    assert (await tcp_hops.again(client, upstream)).body == b"ok"


async def test_a_body_that_ends_with_what_is_spliced(hops: Hops, spliced: Spliced) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(HEAD % splice.LEAST)
    await hops.quiet()  # the head comes alone
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.send, BODY[: splice.LEAST])
        assert (await client.message()).body == BODY[: splice.LEAST]
    assert spliced.moved >= splice.LEAST
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_slow_reader_gets_every_byte_in_its_order(hops: Hops, spliced: Spliced) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.send, HEAD % len(BODY) + BODY)
        await client.until(b"\r\n\r\n")
        got = b""
        while len(got) < len(BODY):
            await trio.sleep(1)
            got += await client.exactly(min(50_000, len(BODY) - len(got)))
    assert got == BODY
    assert spliced.moved > len(BODY) // 10


async def test_a_reader_that_stops_is_given_up_and_the_pipe_serves_the_next(
    hops: Hops, spliced: Spliced
) -> None:
    await hops.start(client={"write_timeout": 20.0})
    client, upstream = await hops.asked()
    with trio.move_on_after(30):
        await _send_into_the_void(upstream, HEAD % len(BODY) + BODY)
    assert CloseReason.WRITE_TIMEOUT in hops.closes(Hop.CLIENT)
    client.close()
    await answered(hops, BODY)


async def test_a_client_that_resets_leaves_nothing_for_the_next(
    tcp_hops: Hops, spliced: Spliced
) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_into_the_void, upstream, HEAD % len(BODY) + BODY)
        await client.until(b"\r\n\r\n")
        client.reset()
    await answered(tcp_hops, BODY)


async def _send_into_the_void(peer: Peer, data: bytes) -> None:
    try:
        await peer.send(data)
        await peer.rest()
    except OSError:
        return


async def test_a_body_that_is_cut_never_looks_whole(tcp_hops: Hops, spliced: Spliced) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    async with trio.open_nursery() as nursery:

        async def send_a_part() -> None:
            await upstream.send(HEAD % len(BODY) + BODY[:-1])
            upstream.finish()

        nursery.start_soon(send_a_part)
        with pytest.raises((EOFError, ConnectionError)):
            await client.message()
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.INCOMPLETE]
    assert tcp_hops.closes(Hop.CLIENT) == [CloseReason.RESPONSE_CUT]


async def test_an_origin_that_falls_silent_inside_its_body_is_cut(
    hops: Hops, spliced: Spliced
) -> None:
    await hops.start(upstream={"body_timeout": 7.0})
    client, upstream = await hops.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.send, HEAD % len(BODY) + BODY[: len(BODY) // 2])
        await client.until(b"\r\n\r\n")
        await client.exactly(len(BODY) // 2)
    began = trio.current_time()
    with pytest.raises((EOFError, ConnectionError)):
        await client.exactly(1)
    assert trio.current_time() - began == pytest.approx(7.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BODY_TIMEOUT]


async def uploaded(hops: Hops, head: bytes) -> tuple[Peer, Peer]:
    """One exchange whose request has this head and `BODY`."""
    origin = await hops.start()
    client = await hops.client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, head + BODY)
        upstream = await origin.accept()
        assert (await upstream.message()).body == BODY
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    return client, upstream


async def test_a_long_request_passes_whole(hops: Hops, spliced: Spliced) -> None:
    client, upstream = await uploaded(hops, POST % len(BODY))
    assert spliced.moved > len(BODY)
    assert (await hops.again(client, upstream)).body == b"ok"
    assert [record.received for record in hops.records.kept] == [len(BODY), 0]


#: Errors by which a kernel, a sandbox or a seccomp filter denies a system call.
DENIALS = [
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.ENOMEM,
]


class Denied:
    """`os.splice` in a sandbox that allows it into a pipe, out of a pipe, or not at all."""

    def __init__(self, number: int, allowed: int) -> None:
        self.calls = 0
        self._number = number
        self._allowed = allowed
        self._splice = os.splice

    def __call__(self, source: int, sink: int, count: int) -> int:
        self.calls += 1
        if self.calls > self._allowed:
            raise OSError(self._number, os.strerror(self._number))
        return self._splice(source, sink, count)


@pytest.mark.parametrize("number", DENIALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
async def test_a_denied_splice_is_not_tried_again_and_loses_no_byte(
    tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch, number: int, allowed: int
) -> None:
    denied = Denied(number, allowed)
    monkeypatch.setattr(os, "splice", denied)
    await tcp_hops.start()
    before = open_files()
    client, upstream = await answered(tcp_hops, BODY)
    assert denied.calls == allowed + 1
    assert not any("pipe:" in name for name in open_files() - before)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, POST % len(BODY) + BODY)
        assert (await upstream.message()).body == BODY
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert denied.calls == allowed + 1
    await tcp_hops.quiet()
    assert [record.cause for record in tcp_hops.records.kept] == ["", ""]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, *DENIALS], ids=errno.errorcode.get)
async def test_without_a_pipe_bodies_are_copied(
    hops: Hops, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def denied(_: int) -> tuple[int, int]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pipe2", denied)
    await hops.start()
    await answered(hops, BODY)
    assert [record.cause for record in hops.records.kept] == [""]


# -- what a review found -----------------------------------------------------------------------


async def test_a_body_never_goes_into_the_descriptor_of_another(
    hops: Hops, spliced: Spliced
) -> None:
    origin = await hops.start()
    attacker = await hops.client()
    await attacker.send(GET)  # its answer nearly fills what the client takes, and is not read
    upstream = await origin.accept()
    await upstream.message()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.send, HEAD % 205_000 + bytes(205_000))
        await hops.quiet()
    await attacker.send(POST % 1_000_000 + b"!" * 100_000)  # and here its next body pauses
    [link] = hops.runtime.pool.links
    await upstream.until(b"\r\n\r\n")
    await upstream.exactly(100_000)
    await hops.quiet()
    number = link.transport.fd
    victim = await hops.client()
    with contextlib.ExitStack() as spare:
        while spare.enter_context(socket.socket()).fileno() < number:
            pass  # every lower descriptor is in use
        await upstream.send(HEAD % 60_000 + bytes(60_000))  # an early answer, not taken
        await hops.quiet()
        assert link.transport.closed
        await victim.send(GET)
        peer = await origin.accept()
        await peer.message()
        await hops.quiet()
        assert number in [link.transport.fd for link in hops.runtime.pool.links]
        moved = spliced.moved
        with trio.move_on_after(5):
            await attacker.send(b"!" * 200_000)
        await hops.quiet()
        assert spliced.moved > moved, "it was tried"
        assert peer.pending() == b""


def _no_memory(*_: int) -> bytes:
    raise MemoryError


def _half(end: int, count: int) -> bytes:
    return _READ(end, count // 2)


_READ = os.read
_REST = splice.Pipe._rest


@pytest.mark.parametrize("fault", [_no_memory, _half])
async def test_what_a_fault_leaves_in_the_pipe_reaches_no_one_else(
    tcp_hops: Hops,
    monkeypatch: pytest.MonkeyPatch,
    spliced: Spliced,
    fault: Callable[[int, int], bytes],
) -> None:
    faults = 0

    def rest(pipe: splice.Pipe, count: int) -> bytes:
        nonlocal faults
        faults += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "read", fault)
            return _REST(pipe, count)

    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    with monkeypatch.context() as patch:
        patch.setattr(splice.Pipe, "_rest", rest)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_into_the_void, upstream, HEAD % 20_000_000 + bytes(20_000_000))
            await trio.sleep(1)
            await tcp_hops.quiet()
    assert faults == 1
    assert tcp_hops.closes(Hop.CLIENT) == [CloseReason.INTERNAL_ERROR]
    client.close()
    await answered(tcp_hops, BODY)


async def test_a_pipe_smaller_than_asked_for_carries_all_the_same(
    tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch, spliced: Spliced
) -> None:
    def shrunk(end: int) -> None:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)

    monkeypatch.setattr(splice, "_widen", shrunk)
    await tcp_hops.start()
    await answered(tcp_hops, BODY)
    assert spliced.moved > len(BODY)


async def _send_with_urgent_data(peer: Peer, body: bytes, hops: Hops) -> None:
    half = len(body) // 2
    await peer.send(body[:half])
    await hops.quiet()
    await peer.sock.send(body[half : half + 1], socket.MSG_OOB)
    await hops.quiet()
    await peer.send(body[half + 1 :])


async def test_urgent_data_does_not_hold_up_a_response(tcp_hops: Hops, spliced: Spliced) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    await upstream.send(HEAD % len(BODY))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_with_urgent_data, upstream, BODY, tcp_hops)
        assert (await client.message()).body == BODY
    assert spliced.moved


async def test_urgent_data_does_not_hold_up_a_request(tcp_hops: Hops, spliced: Spliced) -> None:
    origin = await tcp_hops.start()
    client = await tcp_hops.client()
    await client.send(POST % len(BODY))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_with_urgent_data, client, BODY, tcp_hops)
        assert (await (await origin.accept()).message()).body == BODY
    assert spliced.moved


async def test_what_was_sent_is_on_record_where_the_client_stops(
    tcp_hops: Hops, spliced: Spliced
) -> None:
    await tcp_hops.start(client={"write_timeout": 20.0})
    client, upstream = await tcp_hops.asked()
    await _send_into_the_void(upstream, HEAD % 20_000_000 + bytes(20_000_000))
    await client.until(b"\r\n\r\n")
    got = 0
    with contextlib.suppress(ConnectionError):
        while data := await client.sock.recv(65536):
            got += len(data)
    [record] = tcp_hops.records.kept
    assert record.sent >= got > 0


async def test_closing_after_a_long_request_does_not_linger(hops: Hops, spliced: Spliced) -> None:
    await uploaded(hops, (POST % len(BODY)).replace(b"Host", b"Connection: close\r\nHost"))
    await hops.quiet()
    assert spliced.moved > len(BODY)
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_ASKED]

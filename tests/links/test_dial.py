"""Opening a connection: what each failure is answered with, and that none is left half open."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from tests.raw_peers import GET
from tests.wire_pair import Hops


async def _fill(port: int) -> list[trio.socket.SocketType]:
    """Connections that fill the backlog of a listener nobody accepts from."""
    made = []
    for _ in range(3):
        sock = trio.socket.socket()
        made.append(sock)
        with trio.move_on_after(0.1):
            await sock.connect(("127.0.0.1", port))
    return made


async def test_an_origin_that_refuses_is_answered_502_at_once(tcp_hops: Hops) -> None:
    origin = await tcp_hops.start()
    origin.close()
    client = await tcp_hops.client()
    began = trio.current_time()
    await client.send(GET)
    assert (await client.message()).status == 502
    assert trio.current_time() == began
    await tcp_hops.quiet()
    assert tcp_hops.records.kept[-1].cause == "connection_refused"
    assert tcp_hops.closes(Hop.UPSTREAM) == []


@pytest.mark.parametrize(
    ("connect_timeout", "queue_timeout"),
    [(3.0, 5.0), (9.0, 2.0)],
    ids=["within queue_timeout", "a dial under way outlives queue_timeout"],
)
async def test_an_origin_that_does_not_accept_in_time_is_answered_504(
    tcp_hops: Hops, connect_timeout: float, queue_timeout: float
) -> None:
    hops = tcp_hops
    origin = hops.add_origin(backlog=0)
    await hops.start(
        upstream={"connect_timeout": connect_timeout}, pool={"queue_timeout": queue_timeout}
    )
    fillers = await _fill(origin.address.port)
    client = await hops.client()
    await client.send(GET)
    began = trio.current_time()
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(connect_timeout)
    for filler in fillers:
        filler.close()


async def test_a_unix_origin_whose_backlog_is_full_is_waited_for(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start(upstream={"connect_timeout": 3.0})
    client = await hops.client()
    async with origin.full():
        await client.send(GET)
        await trio.sleep(1)
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"


async def test_a_unix_origin_whose_backlog_stays_full_is_answered_504(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start(upstream={"connect_timeout": 3.0})
    client = await hops.client()
    await hops.quiet()
    began = trio.current_time()
    async with origin.full():
        await client.send(GET)
        assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(3.0)


async def test_an_origin_that_failed_is_passed_over_for_the_next(hops: Hops) -> None:
    first, second = hops.add_origin(), hops.add_origin()
    await hops.start()
    first.close()
    client = await hops.client()
    await client.send(GET)
    await second.accept_and_answer()
    assert (await client.message()).body == b"ok"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_file_descriptor_left_the_answer_is_503(
    hops: Hops, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    client = await hops.client()
    await hops.quiet()

    def none_left(*_: object) -> socket.socket:
        raise OSError(number, "too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    await client.send(GET)
    assert (await client.message()).status == 503


async def test_a_connection_that_cannot_be_set_up_does_not_end_the_worker(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = await hops.start()
    client = await hops.client()
    await hops.quiet()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left to watch one more socket")

    with monkeypatch.context() as patch:
        patch.setattr(hops.runtime.watch, "add", full)
        await client.send(GET)  # an upstream link
        assert (await client.message()).status in (502, 503)
        newcomer = await hops.client()  # a client link
        assert await newcomer.rest() == b""
    await (await origin.accept()).rest()
    assert (await hops.anew(client)).body == b"ok"
    assert hops.closes(Hop.UPSTREAM) in ([], [CloseReason.NEVER_OPENED])

"""Opening a connection: what each failure is answered with, and that none is left half open."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from hopproxy.errors import ConnectFailed, LocalShortage
from hopproxy.link.watch import Watch
from hopproxy.observe.link_rows import Row
from hopproxy.observe.snapshot import links_of, unready
from hopproxy.pool.connector import connect
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.units import OriginAddress
from tests.names import Names
from tests.raw_peers import GET
from tests.wire_pair import Hops


async def _fill(port: int) -> list[trio.socket.SocketType]:
    """Connections that fill the backlog of a listener that does not accept."""
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


SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]


def fail_connects(patch: pytest.MonkeyPatch, number: int, **only: int) -> None:
    """Let every new stream connection fail so, or those of this `family` only."""
    usual = socket.socket.connect

    def fail(sock: socket.socket, target: tuple[str, int]) -> None:
        if sock.type is not socket.SOCK_STREAM or sock.family != only.get("family", sock.family):
            return usual(sock, target)
        raise OSError(number, os.strerror(number))

    patch.setattr(socket.socket, "connect", fail)


@pytest.mark.parametrize("number", SHORTAGES, ids=errno.errorcode.__getitem__)
async def test_a_shortage_of_our_own_does_not_make_the_origin_unreachable(
    tcp_hops: Hops, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = tcp_hops
    origin = await hops.start()
    client = await hops.client()
    await hops.quiet()
    [member] = hops.runtime.upstreams["app"].balancer.members
    member.reach.succeeded(0.0)  # by a dial before
    with monkeypatch.context() as patch:
        fail_connects(patch, number)
        await client.send(GET)
        answer = await client.message()
    await hops.quiet()
    assert answer.status == 503
    assert b"error=proxy_internal_error" in answer.values(b"proxy-status")[0]
    assert hops.records.kept[-1].detail.startswith("this machine cannot open a connection to")
    assert unready(hops.runtime) == ""
    assert [row["failed_ago"] for row in await origins_of(hops)] == [None]
    await client.send(GET)
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Until the end of this block this process may open no file more."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_descriptor_for_a_socket_the_origin_stays_reachable(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await hops.quiet()
    [member] = hops.runtime.upstreams["app"].balancer.members
    member.reach.succeeded(0.0)  # by a dial before
    with no_descriptor_left():
        await client.send(GET)
        answer = await client.message()
    assert answer.status == 503
    assert "open files" in hops.records.kept[-1].detail
    assert unready(hops.runtime) == ""


async def test_a_machine_without_ipv6_finds_an_ipv6_origin_unreachable(
    tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EADDRNOTAVAIL again, since no address of ours could be the source."""
    hops = tcp_hops
    await hops.start()
    client = await hops.client()
    await hops.quiet()

    def no_address(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_address)
        await client.send(GET)
        assert (await client.message()).status == 502
    assert unready(hops.runtime).startswith("no origin of")


@pytest.mark.parametrize("first", [socket.AF_INET, socket.AF_INET6])
async def test_a_shortage_towards_one_address_is_not_hidden_by_a_refusal_of_the_other(
    first: socket.AddressFamily,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens on this port
        port = taken.getsockname()[1]
        async with trio.open_nursery() as nursery:
            watch = Watch()
            nursery.start_soon(watch.run)
            await trio.testing.wait_all_tasks_blocked()
            fail_connects(monkeypatch, errno.ENOBUFS, family=first)
            with pytest.raises(LocalShortage):
                await connect(OriginAddress("tcp", "localhost", port), 3.0, watch)
            nursery.cancel_scope.cancel()


LOOK_UPS = {
    "memory": socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"),
    "a descriptor, by the system": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
}


@pytest.mark.parametrize("error", LOOK_UPS.values(), ids=LOOK_UPS)
async def test_a_look_up_that_lacks_something_of_ours_says_nothing_about_the_origin(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    await expect_of_look_up(error, monkeypatch, LocalShortage)


async def test_a_look_up_that_fails_for_want_of_a_descriptor_says_nothing_about_the_origin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    again = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", none_left)
        await expect_of_look_up(again, patch, LocalShortage)
    await expect_of_look_up(again, monkeypatch, ConnectFailed)


async def expect_of_look_up(
    error: OSError, patch: pytest.MonkeyPatch, expected: type[ConnectFailed]
) -> None:
    async with trio.open_nursery() as nursery:
        watch = Watch()
        nursery.start_soon(watch.run)
        Names(nursery, patch).failure = error
        with pytest.raises(ConnectFailed) as failed:
            await connect(OriginAddress("tcp", "app.example", 80), 3.0, watch)
        nursery.cancel_scope.cancel()
    assert type(failed.value) is expected


async def origins_of(hops: Hops) -> list[Row]:
    return list((await links_of(hops.runtime))["origins"])


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

"""Names that do not resolve or take their time; a wall clock that is set while the gateway runs."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.record import CloseReason, ExchangeRecord, Hop
from hopproxy.settings.schema import Upstream
from hopproxy.settings.units import OriginAddress
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops


class Names(trio.abc.HostnameResolver):
    """Answers after `delay` seconds: the address, or `failure`."""

    def __init__(self, delay: float, failure: OSError | None) -> None:
        self.delay = delay
        self.failure = failure
        self.asked = 0

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 (trio names it so)
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        self.asked += 1
        await trio.sleep(self.delay)
        if self.failure is not None:
            raise self.failure
        assert isinstance(port, int)
        found = socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)
        return [found]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise AssertionError("no name is asked for an address")


@pytest.fixture
def named() -> Any:
    """Sets the resolver of this trio run."""

    def use(names: Names) -> Names:
        trio.socket.set_custom_hostname_resolver(names)
        return names

    return use


def by_name(port: int, **settings: Any) -> dict[str, Upstream]:
    """The upstream, known by its name only."""
    address = OriginAddress("tcp", host="origin.test", port=port)
    return {"app": Upstream(origins=(address,), **settings)}


async def test_a_name_that_cannot_be_resolved_is_answered_502(tcp_hops: Hops, named: Any) -> None:
    hops = tcp_hops
    names = named(Names(0.0, socket.gaierror(socket.EAI_NONAME, "no such name")))
    origin = hops.add_origin()
    await hops.start(upstreams=by_name(origin.address.port))
    client = await hops.client()
    await client.send(GET)
    answer = await client.message()
    assert answer.status == 502
    assert b"error=dns_error" in answer.values(b"proxy-status")[0]
    names.failure = None  # and it is asked again, for the next request
    assert (await hops.anew(client)).status == 200
    assert names.asked == 2


async def test_a_slow_name_is_bounded_by_connect_timeout_and_holds_up_nobody(
    tcp_hops: Hops, named: Any
) -> None:
    hops = tcp_hops
    origin = hops.add_origin()
    names = named(Names(0.0, None))
    await hops.start(upstreams=by_name(origin.address.port, connect_timeout=3.0))
    other, upstream = await hops.pair()
    names.delay = 60.0
    await other.send(GET)
    await upstream.message()  # the only link is lent: the next one needs the name
    client = await hops.client()
    began = trio.current_time()
    await client.send(GET)
    await hops.quiet()
    await upstream.send(OK)  # released while the name is looked up: it serves the waiter
    assert (await other.message()).status == 200
    await upstream.message()
    third = await hops.client()
    await third.send(GET)
    answer = await third.message()
    assert answer.status == 504
    assert b"error=connection_timeout" in answer.values(b"proxy-status")[0]
    assert trio.current_time() - began == pytest.approx(3.0, abs=0.2)
    await upstream.send(OK)
    assert (await client.message()).status == 200


@pytest.mark.parametrize("jump", [86400.0, -86400.0], ids=["forwards", "backwards"])
async def test_a_wall_clock_that_jumps_moves_the_date_and_no_timer(
    hops: Hops, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start(client={"idle_timeout": 50.0}, pool={"idle_timeout": 20.0})
    without_date = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    client, upstream = await hops.asked()
    await upstream.send(without_date)
    first = (await client.message()).values(b"date")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    began = trio.current_time()
    await client.send(GET)
    await upstream.message()
    await upstream.send(without_date)
    second = (await client.message()).values(b"date")
    assert first[0][:16] != second[0][:16]  # another day
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(20.0)
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(50.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]
    assert all(0 <= record.ended - record.started < 1 for record in hops.records.kept)


async def test_the_log_follows_a_wall_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    log = AccessLog("json", 2)
    record = ExchangeRecord("192.0.2.1", 1, 1, trio.current_time())
    record.ended = trio.current_time()
    log._set_clock()
    before = log._json([record])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400 * 366)
    log._set_clock()
    assert log._json([record])[:14] != before[:14]

"""Names that do not resolve or take their time; a wall clock that is set while the gateway runs."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.settings.route import Route
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.names import Names
from tests.raw_peers import GET, OK, get
from tests.wire_pair import Hops


@pytest.fixture
def names(tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch) -> Names:
    """The names of this test."""
    return Names(tcp_hops.nursery, monkeypatch)


def by_name(port: int, **settings: Any) -> dict[str, UpstreamSettings]:
    """The upstream, known by its name only."""
    address = OriginAddress("tcp", host="origin.test", port=port)
    return {"app": UpstreamSettings(origins=(address,), **settings)}


async def test_a_name_that_cannot_be_resolved_is_answered_502(tcp_hops: Hops, names: Names) -> None:
    hops = tcp_hops
    names.failure = socket.gaierror(socket.EAI_NONAME, "no such name")
    origin = hops.add_origin()
    await hops.start(upstreams=by_name(origin.address.port))
    client = await hops.client()
    await client.send(GET)
    answer = await client.message()
    assert answer.status == 502
    assert b"error=dns_error" in answer.values(b"proxy-status")[0]
    names.failure = None  # and it is asked again, for the next request
    assert (await hops.anew(client)).status == 200
    assert len(names.asked) <= 3


async def test_a_slow_name_is_bounded_by_connect_timeout_and_delays_no_others(
    tcp_hops: Hops, names: Names
) -> None:
    hops = tcp_hops
    origin = hops.add_origin()
    names.delay = 60.0
    await hops.start(upstreams=by_name(origin.address.port, connect_timeout=3.0))
    client = await hops.client()
    began = trio.current_time()
    await client.send(GET)
    answer = await client.message()
    assert answer.status == 504
    assert b"error=dns_timeout" in answer.values(b"proxy-status")[0]
    assert trio.current_time() - began == pytest.approx(3.0, abs=0.2)
    await trio.sleep(58)
    assert (await hops.anew(client)).status == 200


async def test_a_name_that_hangs_holds_up_no_other_upstream(tcp_hops: Hops, names: Names) -> None:
    hops = tcp_hops
    port = hops.add_origin().address.port
    upstreams = {
        name: UpstreamSettings(origins=(OriginAddress("tcp", host=f"{name}.test", port=port),))
        for name in ("hangs", "answers")
    }
    names.delays["hangs.test"] = 60.0
    await hops.start(
        upstreams=upstreams,
        routes=(Route(upstream="hangs", path="/hangs"), Route(upstream="answers")),
    )
    clients = [await hops.client() for _ in range(50)]
    for client in clients:
        await client.send(get(b"/hangs"))
    await hops.quiet()
    began = trio.current_time()
    other = await hops.client()
    assert (await hops.anew(other)).status == 200
    (peer,) = hops.origins[0].peers
    for _ in range(100):
        await other.send(GET)
        await peer.message()
        await peer.send(OK)
        assert (await other.message()).status == 200
    assert trio.current_time() == began, "not one of them has waited"
    for client in clients:
        answer = await client.message()
        assert answer.status == 504
        assert b"error=dns_timeout" in answer.values(b"proxy-status")[0]
    assert trio.current_time() - began == pytest.approx(3.0, abs=0.1)
    assert names.asked.count("hangs.test") == 1  # whoever wants it waits for the same look-up
    await hops.quiet()
    assert hops.runtime.tallies["hangs"].causes == {"dns_timeout": 50}
    assert hops.records.kept[-1].cause == "dns_timeout"


async def test_a_name_that_hung_is_asked_again_once_it_has_answered(
    tcp_hops: Hops, names: Names
) -> None:
    hops = tcp_hops
    origin = hops.add_origin()
    names.delay = 5.0
    await hops.start(upstreams=by_name(origin.address.port))
    client = await hops.client()
    await client.send(GET)
    assert (await client.message()).status == 504
    await client.send(GET)  # joins the look-up that is under way
    await origin.accept_and_answer()
    assert (await client.message()).status == 200
    assert names.asked == ["origin.test"]


async def test_more_names_than_may_be_asked_for_at_once_wait_for_their_turn(
    tcp_hops: Hops, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopproxy.pool.resolver.MOST", 2)
    hops = tcp_hops
    port = hops.add_origin().address.port
    upstreams = {
        name: UpstreamSettings(origins=(OriginAddress("tcp", host=f"{name}.test", port=port),))
        for name in "abcd"
    }
    routes = tuple(Route(upstream=name, path=f"/{name}") for name in "abcd")
    names.delay = 10.0
    await hops.start(upstreams=upstreams, routes=routes)
    clients = [await hops.client() for _ in "abcd"]
    for name, client in zip("abcd", clients, strict=True):
        await client.send(get(f"/{name}".encode()))
        await hops.quiet()
    assert [(await client.message()).status for client in clients] == [504] * 4
    assert names.asked == ["a.test", "b.test"]
    await trio.sleep(8)
    assert set(names.asked[2:]) == {"c.test", "d.test"}


async def test_a_resolver_without_a_thread_left_is_our_own_fault(
    tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    origin = tcp_hops.add_origin()
    monkeypatch.setattr(threading.Thread, "start", none_left)
    await tcp_hops.start(upstreams=by_name(origin.address.port))
    client = await tcp_hops.client()
    await client.send(GET)
    answer = await client.message()
    assert answer.status == 503
    assert b"error=proxy_internal_error" in answer.values(b"proxy-status")[0]


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

"""More than can be served: the rest is refused at once, and the answer says when to come again."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import pytest
import trio
from msgspec.structs import replace

from hopproxy.observe.metrics import Metrics
from hopproxy.settings.networks import parse_network
from hopproxy.settings.route import Respond, Route, RouteLimits
from tests.raw_peers import GET, OK, Message, Peer
from tests.wire_pair import Hops


def get(*lines: bytes, path: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: a", *lines, b"", b""])


async def asked(client: Peer, request: bytes = GET) -> Message:
    await client.send(request)
    return await client.message()


def limited(**limits: Any) -> dict[str, Any]:
    """Settings of a route that answers by itself, so that tests are about its limits alone."""
    return {"routes": (Route(respond=Respond(body="here"), limits=RouteLimits(**limits)),)}


async def test_requests_beyond_the_rate_get_429_and_keep_their_connection(hops: Hops) -> None:
    await hops.start(**limited(rate=1.0, burst=2))
    client = await hops.client()
    answers = [await asked(client) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    refusal = answers[2]
    assert refusal.values(b"retry-after") == [b"1"]
    assert refusal.values(b"connection") == []
    (status,) = refusal.values(b"proxy-status")
    assert status.startswith(b"hopproxy; error=http_request_denied;")
    await trio.sleep(1.0)
    assert (await asked(client)).status == 200
    assert hops.records.kept[2].cause == "rate_limited"
    exposed = Metrics(hops.runtime, None).exposition("")[0].decode()
    assert 'hopproxy_failures_total{cause="rate_limited",upstream=""} 1.0' in exposed


async def test_a_rate_is_exact_over_ten_seconds(hops: Hops) -> None:
    await hops.start(**limited(rate=20.0))
    client = await hops.client()
    statuses = []
    for _ in range(1000):
        statuses.append((await asked(client)).status)
        await trio.sleep(0.01)
    assert 190 <= statuses.count(200) <= 210


async def test_each_value_of_a_header_has_the_rate_for_itself(hops: Hops) -> None:
    await hops.start(**limited(rate=1.0, by="header:x-key"))
    client = await hops.client()
    sent = [get(b"X-Key: a"), get(b"X-Key: b"), get(b"X-KEY:  a"), get(), get()]
    statuses = [(await asked(client, request)).status for request in sent]
    assert statuses == [200, 200, 429, 200, 429], "without the field, clients are counted"


@pytest.mark.parametrize(("by", "second"), [("client", 200), ("all", 429)])
async def test_who_shares_a_rate(hops: Hops, by: str, second: int) -> None:
    unix = parse_network("unix")
    await hops.start(trusted_proxies=(unix,), **limited(rate=1.0, by=by))
    client = await hops.client()
    statuses = [
        (await asked(client, get(b"X-Forwarded-For: 192.0.2.%d" % number))).status
        for number in (1, 2, 1)
    ]
    assert statuses == [200, second, 429]


async def test_each_route_has_its_own_rate_and_keeps_it_through_a_change(hops: Hops) -> None:
    slow = RouteLimits(rate=1 / 3600)
    routes = tuple(
        Route(respond=Respond(body=path), path=path, limits=slow) for path in ("/a", "/b")
    )
    await hops.start(routes=routes)
    client = await hops.client()
    assert (await asked(client, get(path=b"/a"))).status == 200
    assert (await asked(client, get(path=b"/b"))).status == 200
    assert (await asked(client, get(path=b"/a"))).status == 429
    hops.worker.apply(hops.runtime.settings)
    assert (await asked(client, get(path=b"/a"))).status == 429


async def test_requests_beyond_those_in_flight_get_503_at_once(hops: Hops) -> None:
    origin = await hops.start(upstream={"max_requests_in_flight": 2})
    busy = [await hops.client() for _ in range(2)]
    for client in busy:
        await client.send(GET)
    upstreams = [await origin.accept() for _ in busy]
    third = await hops.client()
    began = trio.current_time()
    refusal = await asked(third)
    assert trio.current_time() == began
    assert (refusal.status, refusal.values(b"retry-after")) == (503, [b"1"])
    (status,) = refusal.values(b"proxy-status")
    assert status.startswith(b"hopproxy; error=connection_limit_reached;")
    record = hops.records.kept[-1]
    assert (record.cause, record.route) == ("overloaded", "app")
    assert (record.passed or ())[:1] == ("max_requests_in_flight",)
    for upstream in upstreams:  # over TLS either request may have come first
        await upstream.message()
        await upstream.send(OK)
        await hops.quiet()
    for client in busy:
        assert (await client.message()).status == 200
    await third.send(GET)
    await hops.quiet()
    await upstreams[1].message()
    await upstreams[1].send(OK)
    assert (await third.message()).status == 200
    exposed = Metrics(hops.runtime, None).exposition("")[0].decode()
    assert 'hopproxy_failures_total{cause="overloaded",upstream="app"} 1.0' in exposed
    assert 'hopproxy_requests_in_flight{upstream="app"} 0.0' in exposed
    assert 'hopproxy_requests_in_flight_limit{upstream="app"} 2.0' in exposed


@pytest.mark.parametrize("most", [4, "auto"])
async def test_slow_bodies_leave_room_for_others(hops: Hops, most: Literal["auto"] | int) -> None:
    origin = await hops.start(upstream={"max_requests_in_flight": most})
    slow = [await hops.client() for _ in range(30)]
    for client in slow:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
    await trio.sleep(1.5)
    honest = await hops.client()
    await honest.send(GET)
    for number in range(most // 2 if isinstance(most, int) else 10):
        upstream = await origin.accept()
        assert (await upstream.until(b"\r\n\r\n")).startswith(b"POST"), number
    await origin.accept_and_answer()
    assert (await honest.message()).status == 200
    for client in slow:
        client.close()
    await hops.quiet()
    under_way = hops.runtime.upstreams["app"].tally.under_way
    assert under_way is not None
    assert under_way.count == 0


async def test_requests_with_a_body_are_refused_before_it_arrives(hops: Hops) -> None:
    origin = await hops.start(upstream={"max_requests_in_flight": 1})
    busy = await hops.client()
    await busy.send(GET)
    await origin.accept()
    late = await hops.client()
    began = trio.current_time()
    await late.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
    assert (await late.message()).status == 503
    assert trio.current_time() == began


async def test_a_change_of_settings_forgets_no_request_in_flight(hops: Hops) -> None:
    origin = await hops.start(upstream={"max_requests_in_flight": 2})
    busy = await hops.client()
    await busy.send(GET)
    await origin.accept()
    settings = hops.runtime.settings
    upstream = replace(settings.upstreams["app"], max_requests_in_flight=1)
    hops.worker.apply(replace(settings, upstreams={"app": upstream}))
    assert (await asked(await hops.client())).status == 503


async def test_failed_requests_are_no_longer_in_flight(hops: Hops) -> None:
    origin = await hops.start(upstream={"max_requests_in_flight": 1, "response_timeout": 1.0})
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    assert (await client.message()).status == 504
    left = await hops.client()
    await left.send(GET)
    await origin.accept()
    left.close()
    await hops.quiet()
    await client.send(GET)
    await origin.accept_and_answer()
    assert (await client.message()).status == 200


async def test_auto_follows_the_latency(hops: Hops) -> None:
    """An origin that suddenly takes ten times as long gets fewer requests at a time."""
    origin = await hops.start(upstream={"max_requests_in_flight": "auto"})
    under_way = hops.runtime.upstreams["app"].tally.under_way
    assert under_way is not None
    took = 0.01

    async def answer(peer: Peer) -> None:
        with contextlib.suppress(EOFError, trio.ClosedResourceError):
            while await peer.message():
                await trio.sleep(took)
                await peer.send(OK)

    async def serve() -> None:
        while True:
            serving.start_soon(answer, await origin.accept())

    async with trio.open_nursery() as serving:
        serving.start_soon(serve)
        client = await hops.client()
        for _ in range(40):
            assert (await asked(client)).status == 200
        calm = under_way.most
        took = 0.1
        others: list[object] = []
        for _ in range(60):
            while under_way.count >= under_way.most:
                under_way.end(others.pop(), None)
            while under_way.count < under_way.most - 1:  # as if many others were under way
                others.append(object())
                under_way.begin(others[-1], trio.current_time())
            assert (await asked(client)).status == 200
        assert under_way.most < calm
        serving.cancel_scope.cancel()

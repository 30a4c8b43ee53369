"""Origins come and go and settings change, while requests are under way and links live."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from hopproxy.observe.metrics import Metrics
from hopproxy.observe.recent import Recent
from hopproxy.pool.origin import Origin as Member
from hopproxy.proxy.upstream import Upstream
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.upstream import UpstreamSettings
from tests.links.test_trials import Served
from tests.raw_peers import GET, OK, get
from tests.wire_pair import Hops

REMOVED = CloseReason.ORIGIN_REMOVED
NTLM = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n"


def app(hops: Hops) -> Upstream:
    """The upstream."""
    return hops.runtime.upstreams["app"]


def member(hops: Hops, number: int) -> Member:
    """The origin of this number, as the upstream knows it."""
    address = hops.origins[number].address
    return next(one for one in app(hops).balancer.members if one.address == address)


def changed(hops: Hops, *, upstream: dict[str, Any] | None = None, **more: Any) -> Settings:
    """The settings with something else in them."""
    settings = hops.runtime.settings
    if upstream:
        more["upstreams"] = {"app": replace(settings.upstreams["app"], **upstream)}
    return replace(settings, **more)


# -- origins -----------------------------------------------------------------------------------


async def test_an_origin_that_is_added_takes_its_turn(hops: Hops) -> None:
    await hops.start()
    client, first = await hops.pair()
    app(hops).add(hops.add_origin().address)
    assert (await hops.again(client, first)).body == b"ok"
    assert (await hops.anew(client, 1)).body == b"ok"
    assert (await hops.again(client, first)).body == b"ok"


async def test_idle_links_of_a_removed_origin_close(hops: Hops) -> None:
    await hops.start()
    client, first = await hops.pair()
    app(hops).add(hops.add_origin().address)
    app(hops).remove(member(hops, 0))
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]
    assert (await hops.anew(client, 1)).body == b"ok"
    assert not hops.origins[0].waiting()


async def test_a_link_in_use_of_a_removed_origin_closes_after_its_response(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    client, first = await hops.asked()
    app(hops).remove(member(hops, 0))
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == []
    await first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    await client.until(b"ha")
    await first.send(b"lf")
    assert await client.exactly(2) == b"lf"
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]
    assert (await hops.anew(client, 1)).body == b"ok", "the client link lives on"


async def test_who_waits_for_a_removed_origin_moves_to_another(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start(pool={"max_connections": 1})
    busy, first = await hops.asked()
    other, second = await hops.asked(origin=1)
    waiting = await hops.client()
    await waiting.send(GET)
    await hops.quiet()
    assert len(member(hops, 0).waiters) == 1
    app(hops).remove(member(hops, 0))
    await second.send(OK)
    assert (await other.message()).body == b"ok"
    await second.message()
    await second.send(OK)
    assert (await waiting.message()).body == b"ok"
    await first.send(OK)
    assert (await busy.message()).body == b"ok"


async def test_a_waiter_without_another_origin_gets_the_error(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start(pool={"max_connections": 1})
    _, first = await hops.pair()
    busy, second = await hops.asked(origin=1)
    hops.origins[0].close()
    first.close()
    waiting = await hops.client()
    await waiting.send(GET)  # the first origin refuses
    await hops.quiet()
    assert len(member(hops, 1).waiters) == 1
    app(hops).remove(member(hops, 1))
    answer = await waiting.message()
    assert answer.status == 503
    (told,) = answer.values(b"proxy-status")
    assert b"destination_unavailable" in told
    assert b"was removed" in told
    await second.send(OK)
    assert (await busy.message()).body == b"ok"


async def test_a_dial_to_an_origin_that_is_removed_meanwhile_serves_no_request(hops: Hops) -> None:
    slow = hops.add_origin(backlog=0)
    hops.add_origin()
    await hops.start(upstream={"connect_timeout": 5.0})
    async with slow.full():
        client = await hops.client()
        await client.send(GET)
        await hops.quiet()
        assert member(hops, 0).dialling == 1
        app(hops).remove(member(hops, 0))
        await hops.origins[1].accept_and_answer()
        assert (await client.message()).body == b"ok"
    assert await (await slow.accept()).rest() == b"", "not a byte is sent there"
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]
    hops.check_ledger()


async def test_an_upgraded_link_of_a_removed_origin_lives_on(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    client, first = await hops.asked(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    )
    await first.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    await client.message(bodiless=True)
    app(hops).remove(member(hops, 0))
    await client.send(b"ping")
    assert await first.exactly(4) == b"ping"


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized"])
async def test_a_connection_bound_link_of_a_removed_origin_goes(hops: Hops, status: bytes) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    client, first = await hops.asked(NTLM)
    await first.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
    await client.message()
    app(hops).remove(member(hops, 0))
    assert await first.rest() == b"", "at once, or when the login was not gone on with"
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]
    assert (await hops.anew(client, 1)).body == b"ok"


async def test_a_removed_origin_is_not_tried_again(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    gone = hops.origins[0]
    gone.close()
    client = await hops.client()
    assert (await hops.anew(client, 1)).body == b"ok"
    origin = member(hops, 0)
    before = origin.reach.number
    assert before, "it was dialled"
    app(hops).remove(origin)
    await trio.sleep(100)
    assert origin.reach.number == before


async def test_the_last_origin_stays(hops: Hops) -> None:
    await hops.start()
    client, first = await hops.pair()
    with pytest.raises(ValueError, match="one origin"):
        app(hops).remove(member(hops, 0))
    assert (await hops.again(client, first)).body == b"ok"


async def test_an_origin_that_comes_back_is_known_still(hops: Hops) -> None:
    hops.add_origin()
    hops.add_origin()
    await hops.start()
    known = member(hops, 0).known
    app(hops).remove(member(hops, 0))
    back = app(hops).add(hops.origins[0].address)
    assert back.known is known
    assert known.origins == [back]


async def test_no_request_fails_while_origins_come_and_go(hops: Hops) -> None:
    for _ in range(4):
        hops.add_origin()
    await hops.start(pool={"max_connections": 2})
    served = [Served(hops, origin) for origin in hops.origins]
    chance, answers = random.Random(3), []

    async def ask() -> None:
        client = await hops.client()
        for _ in range(30):
            await client.send(GET)
            answers.append((await client.message()).status)
            await trio.sleep(chance.random() / 100)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(ask)
        for _ in range(40):
            await trio.sleep(0.01)
            members = app(hops).balancer.members
            absent = [
                origin.address
                for origin in hops.origins
                if origin.address not in [one.address for one in members]
            ]
            if absent and (len(members) == 1 or chance.random() < 0.5):
                app(hops).add(chance.choice(absent))
            else:
                app(hops).remove(chance.choice(members))
            hops.check_ledger()
    assert answers == [200] * 360
    assert REMOVED in hops.closes(Hop.UPSTREAM)
    for one in served:
        one.stop()
    await hops.quiet()


# -- settings ----------------------------------------------------------------------------------


async def test_the_same_settings_change_nothing(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    hops.worker.apply(hops.runtime.settings)
    assert (await hops.again(client, upstream)).body == b"ok"
    assert hops.closes(Hop.UPSTREAM) == []
    assert app(hops).tally.statuses == {200: 2}


async def test_a_request_ends_with_the_terms_it_was_begun_with(hops: Hops) -> None:
    await hops.start(via="both", pseudonym="old")
    client, upstream = await hops.asked()
    hops.worker.apply(changed(hops, pseudonym="new"))
    await upstream.send(OK)
    assert (await client.message()).values(b"via") == [b"1.1 old"]
    assert (await hops.again(client, upstream)).values(b"via") == [b"1.1 new"]
    assert len(hops.records.kept) == 2, "the log goes on"


async def test_origins_that_stay_keep_their_links(hops: Hops) -> None:
    await hops.start()
    client, first = await hops.pair()
    both = (hops.origins[0].address, hops.add_origin().address)
    hops.worker.apply(changed(hops, upstream={"origins": both}))
    assert (await hops.again(client, first)).body == b"ok"
    assert (await hops.anew(client, 1)).body == b"ok"
    hops.worker.apply(changed(hops, upstream={"origins": both[1:]}))
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]


async def test_who_waits_for_an_upstream_that_has_changed_is_served_to_the_end(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    busy, first = await hops.asked()
    waiting = await hops.client()
    await waiting.send(GET)
    await hops.quiet()
    hops.worker.apply(changed(hops, upstream={"response_timeout": 7.0}))
    await first.send(OK)
    assert (await busy.message()).body == b"ok"
    await first.message()
    await first.send(OK)
    assert (await waiting.message()).body == b"ok"
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [REMOVED]
    assert (await hops.anew(waiting)).body == b"ok"
    assert app(hops).tally.statuses == {200: 3}, "the counts go on"


async def test_a_repetition_ends_with_the_upstream_that_it_was_begun_with(hops: Hops) -> None:
    await hops.start()
    client, first = await hops.pair()
    await client.send(GET)
    await first.message()
    hops.worker.apply(changed(hops, upstream={"response_timeout": 7.0}))
    first.close()
    again = await hops.origins[0].accept_and_answer()
    assert (await client.message()).body == b"ok"
    assert await again.rest() == b""


async def test_new_limits_are_for_new_client_links(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 60.0})
    old, upstream = await hops.pair()
    limits = replace(hops.runtime.settings.client, idle_timeout=5.0, max_connections=2)
    hops.worker.apply(changed(hops, client=limits))
    new = await hops.client()
    assert (await hops.again(new, upstream)).body == b"ok"
    await trio.sleep(6)
    assert await new.rest() == b""
    assert (await hops.again(old, upstream)).body == b"ok"
    for _ in range(2):  # one more than max_connections: the longest idle makes room
        await hops.again(await hops.client(), upstream)
    assert CloseReason.MADE_ROOM in hops.closes(Hop.CLIENT)


async def test_a_larger_limit_serves_who_waits_for_room(hops: Hops) -> None:
    await hops.start(max_upstream_connections=1)
    _, first = await hops.asked()
    waiting = await hops.client()
    await waiting.send(GET)
    await hops.quiet()
    assert not hops.origins[0].waiting()
    hops.worker.apply(changed(hops, max_upstream_connections=2))
    await hops.origins[0].accept_and_answer()
    assert (await waiting.message()).body == b"ok"
    await first.send(OK)


async def test_observers_see_upstreams_come_and_go(hops: Hops) -> None:
    await hops.start()
    metrics, recent = Metrics(hops.runtime, None), Recent(hops.runtime.tallies)
    old = hops.runtime.settings

    async def served() -> int:
        client = await hops.client()
        await client.send(get(b"/b"))
        await hops.origins[1].accept_and_answer()
        await client.message()
        exposed = metrics.exposition("")[0].decode()
        (line,) = [
            line for line in exposed.splitlines() if line.startswith("hopproxy_requests_total{")
        ]
        assert 'upstream="b"' in line
        (row,) = [row for row in recent.row()["upstreams"] if row["upstream"] == "b"]
        count = int(float(line.split(" ")[-1]))
        assert row["statuses"] == {"200": count}
        recent.look()
        return count

    hops.add_origin()
    upstreams = {**old.upstreams, "b": UpstreamSettings(origins=(hops.origins[1].address,))}
    routes = Route(upstream="b", path="/b"), Route(upstream="app")
    with_b = changed(hops, upstreams=upstreams, routes=routes)
    hops.worker.apply(with_b)
    assert await served() == 1
    hops.worker.apply(old)
    assert 'upstream="b"} 1' in metrics.exposition("")[0].decode(), "its counters stay"
    hops.worker.apply(with_b)
    assert await served() == 2, "it counts on"

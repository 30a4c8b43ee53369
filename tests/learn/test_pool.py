"""The pool goes by what it has learned: scripted origins under virtual time."""

from __future__ import annotations

import pytest
import trio

from hopproxy.pool.idle_timeout import SAFE
from hopproxy.pool.origin import Origin
from hopproxy.reasons import CloseReason, Hop, Limit, Source, Unused
from hopproxy.server.runtime import Runtime
from tests.raw_peers import GET, OK, Message, Peer
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def hinting(hint: bytes) -> bytes:
    return OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: %b\r\n\r\n" % hint)


class Mortal:
    """An origin that closes each connection which has been idle for `limit`, and counts POSTs."""

    def __init__(self, hops: Hops, limit: float, *, answer: bytes = OK) -> None:
        self.origin = hops.origins[0]
        self.limit = limit
        self.answer = answer
        self.accepted = self.requests = self.lost = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                peer = await self.origin.accept()
                self.accepted += 1
                nursery.start_soon(self._serve, peer)

    async def _serve(self, peer: Peer) -> None:
        while True:
            with trio.move_on_after(self.limit) as idle:
                try:
                    await peer.message()
                except EOFError:
                    return
            if idle.cancelled_caught:
                peer.close()
                return
            self.requests += 1
            await peer.send(self.answer)


async def asked(client: Peer, request: bytes = GET) -> Message:
    await client.send(request)
    return await client.message()


def origin_of(runtime: Runtime) -> Origin:
    (origin,) = (share for share in runtime.upstreams["app"].balancer.members)
    return origin


def learned(runtime: Runtime) -> Limit:
    return origin_of(runtime).limit


async def test_requests_at_the_limit_of_an_origin_after_it_was_learned(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    origin = Mortal(hops, 2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        client = await hops.client()
        for _ in range(2):
            assert (await asked(client)).status == 200
            await trio.sleep(4)
        assert learned(hops.runtime).source is Source.SETTING  # each close was told
        assert origin_of(hops.runtime).young == pytest.approx(0.5)
        for number in range(60):
            await trio.sleep(2 + (number % 11 - 5) / 100)
            assert (await asked(client, POST if number % 2 else GET)).status == 200
        nursery.cancel_scope.cancel()
    assert origin.requests == 62
    posts = [record for record in hops.records.kept if record.method == b"POST"]
    assert all(record.fresh and record.attempts == 1 for record in posts)
    assert any(not record.fresh for record in hops.records.kept if record.method == b"GET")


async def test_links_that_are_idle_already_go_by_what_is_learned_meanwhile(hops: Hops) -> None:
    await hops.start(pool={"idle_timeout": 50.0})
    _, first = await hops.pair()
    await trio.sleep(1)
    client = await hops.client()
    busy = hops.clients[0]  # both in use at once: two links
    await busy.send(GET)
    await first.message()
    await client.send(GET)
    second = await hops.origins[0].accept()
    await second.message()
    await trio.sleep(1)
    await first.send(OK)
    await busy.message()
    await trio.sleep(4)
    await second.send(hinting(b"timeout=5"))  # the first has been idle for 4 s
    await client.message()
    began = trio.current_time()
    assert await first.rest() == b""
    assert trio.current_time() - began < 0.1
    assert await second.rest() == b""
    assert trio.current_time() - began == pytest.approx(4.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT] * 2


async def test_a_limit_seen_twice_to_be_short_bars_only_what_cannot_be_sent_again(
    hops: Hops,
) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    origin = Mortal(hops, 0.6)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        client = await hops.client()
        for _ in range(3):
            await asked(client)
            await trio.sleep(40)
        assert origin_of(hops.runtime).young == 0.0
        before = origin.accepted
        for _ in range(3):
            assert (await asked(client)).status == 200
        assert origin.accepted == before + 1
        for _ in range(3):
            await trio.sleep(0.01)
            assert (await asked(client, POST)).status == 200
        assert origin.accepted == before + 4
        nursery.cancel_scope.cancel()


async def test_learning_switched_off_changes_nothing(hops: Hops) -> None:
    await hops.start(pool={"learn": False})
    _, upstream = await hops.pair()
    await trio.sleep(2)
    upstream.close()
    await hops.quiet()
    assert learned(hops.runtime) == (60.0, Source.SETTING)


# -- hints -----------------------------------------------------------------------------------


async def test_a_hint_of_two_seconds_holds_from_the_first_socket_on(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, first = await hops.asked()
    await first.send(hinting(b"timeout=2"))
    await client.message()
    began = trio.current_time()
    assert await first.rest() == b""
    assert trio.current_time() - began == pytest.approx(1.0)
    await trio.sleep(1.0)
    await client.send(GET)
    second = await hops.origins[0].accept_and_answer()
    await client.message()
    began = trio.current_time()  # this link heard no hint, its origin gave one: links are alike
    assert await second.rest() == b""
    assert trio.current_time() - began == pytest.approx(1.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT, CloseReason.HINT]
    assert hops.records.kept[1].unused is Unused.OLD_BY_HINT


@pytest.mark.parametrize("hint", [b"timeout=0", b"timeout=1", b"max=5, timeout=1"])
async def test_what_leaves_no_time_is_not_pooled(hops: Hops, hint: bytes) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(hinting(hint))
    await client.message()
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT]


@pytest.mark.parametrize(
    "hint",
    [
        b"timeout=-1",
        b"timeout=abc",
        b"timeout",
        b"timeout=1.5",
        b"=5",
        b",,;",
        b"timeout=99999999999",
    ],
)
async def test_garbage_is_ignored(hops: Hops, hint: bytes) -> None:
    await hops.start(pool={"idle_timeout": 30.0})
    client, upstream = await hops.asked()
    await upstream.send(hinting(hint))
    await client.message()
    await hops.quiet()
    assert learned(hops.runtime) == (30.0, Source.SETTING)
    assert hops.closes(Hop.UPSTREAM) == []


# -- which socket for which request ----------------------------------------------------------


async def test_a_post_takes_a_young_link_only_and_a_get_any(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, upstream = await hops.asked()
    await upstream.send(hinting(b"timeout=11"))
    await client.message()
    await trio.sleep(4.9)  # of 9.9 s that the hint leaves, half is 4.95 s
    assert (await hops.again(client, upstream, POST)).status == 200
    await trio.sleep(5.1)
    assert (await hops.again(client, upstream, GET)).status == 200
    await trio.sleep(5.1)
    await client.send(POST)
    fresh = await hops.origins[0].accept()
    assert (await fresh.message()).body == b"hi"
    await fresh.send(OK)
    assert (await client.message()).status == 200
    record = hops.records.kept[-1]
    assert (record.fresh, record.unused) == (True, Unused.METHOD)
    assert hops.runtime.upstreams["app"].balancer.members[0].unused == {Unused.METHOD: 1}


async def test_behind_a_young_link_that_died_an_old_one_is_still_old(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    first, old = await hops.asked()
    second, young = await hops.asked()
    await old.send(OK)
    await first.message()
    await trio.sleep(30)
    await young.send(OK)
    await second.message()
    await hops.quiet()
    (origin,) = hops.runtime.upstreams["app"].balancer.members
    young.close()  # and the watch has not been told yet
    assert hops.runtime.pool.acquire_now(origin) is None
    assert len(origin.idle) == 1


async def test_the_share_is_a_setting(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0}, pool={"young_share": 0.0})
    client, _ = await hops.pair()
    await trio.sleep(0.1)
    await client.send(POST)
    await hops.origins[0].accept_and_answer()
    await client.message()


async def test_a_post_to_a_full_pool_of_old_links_gets_the_place_of_the_oldest(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0}, pool={"max_connections": 1, "queue": 0})
    client, old = await hops.pair()
    await trio.sleep(30)
    await client.send(POST)
    assert await old.rest() == b""
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).status == 200
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MADE_ROOM]


async def test_a_post_with_a_key_that_may_be_repeated_takes_any_link(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0}, upstream={"retry_idempotency_key": True})
    client, upstream = await hops.pair()
    await trio.sleep(30)
    keyed = POST.replace(b"Host: a", b"Host: a\r\nIdempotency-Key: k")
    assert (await hops.again(client, upstream, keyed)).status == 200


async def test_what_a_reuse_has_proven_is_young_for_a_post(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    await trio.sleep(20)
    await hops.again(client, upstream, GET)
    await trio.sleep(17)
    assert (await hops.again(client, upstream, POST)).status == 200


# -- deaths under a request ------------------------------------------------------------------


async def test_a_link_that_died_under_its_request_was_idle_for_too_long(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, stale = await hops.pair()
    await trio.sleep(20)
    await client.send(GET)
    await stale.message()
    stale.close()
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).status == 200
    assert learned(hops.runtime).source is Source.SETTING
    assert origin_of(hops.runtime).young == 9.0
    record = hops.records.kept[-1]
    assert (record.attempts, record.unused) == (2, Unused.RETRY)
    assert record.suffered is not None
    assert record.suffered.reason is CloseReason.PEER_CLOSED
    assert record.suffered.idle == pytest.approx(20)
    assert record.suffered.limit == (60.0, Source.SETTING)


async def test_a_process_that_falls_over_a_request_teaches_nothing(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    await trio.sleep(20)
    await client.send(GET)
    await upstream.message()
    await trio.sleep(10)
    upstream.close()
    await hops.origins[0].accept_and_answer()
    await client.message()
    assert learned(hops.runtime).source is Source.SETTING


async def test_a_count_without_a_word_is_learned(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    for _ in range(3):
        client, upstream = await hops.pair()
        await hops.again(client, upstream)
        upstream.close()
        await hops.quiet()
    client, upstream = await hops.pair()
    await hops.again(client, upstream)
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED] * 3 + [CloseReason.LEARNED]
    assert list(hops.runtime.closes.last)[-1].limit == (2, Source.LEARNED)


async def test_an_origin_that_refuses_is_another_one_when_it_is_back(tcp_hops: Hops) -> None:
    hops = tcp_hops
    await hops.start(client={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    await trio.sleep(5)
    upstream.close()
    await hops.quiet()
    assert origin_of(hops.runtime).young == 2.0
    hops.origins[0].close()
    await client.send(GET)
    assert (await client.message()).status == 502
    assert origin_of(hops.runtime).young == SAFE


async def test_what_was_learned_outlives_the_settings(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.pair()
    await trio.sleep(5)
    upstream.close()
    await hops.quiet()
    runtime = hops.runtime
    (before,) = runtime.upstreams["app"].balancer.members
    again = runtime.pool.add(before.address, before.settings)
    assert again.young == 2.0
    runtime.pool.ledger.shares.remove(again)


async def test_a_put_too_large_to_be_kept_takes_a_young_link_only(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    client, _ = await hops.pair()
    await trio.sleep(20)
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegun")
    fresh = await hops.origins[0].accept()
    assert (await fresh.until(b"\r\n\r\n")).startswith(b"PUT / ")
    await client.send(bytes(99995))
    assert await fresh.exactly(100000)
    await fresh.send(OK)
    assert (await client.message()).status == 200
    await hops.quiet()
    assert hops.records.kept[-1].unused is Unused.METHOD


async def test_all_busy_is_reported(hops: Hops) -> None:
    await hops.start()
    await hops.asked()
    _, upstream = await hops.asked()
    await upstream.send(OK)
    await hops.quiet()
    assert hops.records.kept[-1].unused is Unused.ALL_BUSY


@pytest.mark.parametrize(
    ("settings", "ended", "why"),
    [
        ({"max_requests": 1}, 0, Unused.REQUEST_LIMIT),
        ({"idle_timeout": 5.0}, 6, Unused.OLD_BY_SETTING),
        ({"max_age": 5.0}, 6, Unused.MAX_AGE),
        ({"max_idle": 0}, 0, Unused.MADE_ROOM),
    ],
)
async def test_why_the_last_link_was_not_there(
    hops: Hops, settings: dict[str, float], ended: float, why: Unused
) -> None:
    await hops.start(pool=settings)
    await hops.pair()
    await trio.sleep(ended)
    await hops.pair()
    assert [record.unused for record in hops.records.kept] == [None, why]


async def test_a_link_that_said_too_much_is_told_of(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.asked()
    await upstream.send(OK + b"HTTP/1.1 200 OK\r\n\r\n")
    await hops.quiet()
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.OVER_READ


async def test_a_link_that_ntlm_has_bound_is_told_of(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.asked(GET.replace(b"Host", b"Authorization: NTLM x\r\nHost"))
    await upstream.send(OK)
    await hops.quiet()
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.PRIVATE


async def test_an_origin_that_outlives_our_limit_is_trusted_with_a_post(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0}, pool={"idle_timeout": 30.0})
    client, _ = await hops.pair()
    await trio.sleep(31)
    client, upstream = await hops.pair()
    await trio.sleep(14)
    assert (await hops.again(client, upstream, POST)).status == 200

"""The pool as callers see it: who gets a link, in which order, within which bounds."""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import Pool, UpstreamSettings
from tests.raw_peers import GET, OK, Peer, get
from tests.wire_pair import Hops, two_upstreams


async def busy(hops: Hops, count: int) -> list[tuple[Peer, Peer]]:
    """So many clients, each with a request at the origin on a link of its own."""
    return [await hops.asked() for _ in range(count)]


async def queued(hops: Hops, count: int) -> list[Peer]:
    """So many more clients, whose requests wait for a link in this order."""
    clients = []
    for _ in range(count):
        client = await hops.client()
        await client.send(GET)
        await hops.quiet()
        clients.append(client)
    return clients


async def test_the_link_released_last_is_lent_first(hops: Hops) -> None:
    await hops.start()
    (_, first), (client, second) = pairs = await busy(hops, 2)
    for asking, upstream in pairs:
        await upstream.send(OK)
        await asking.message()
    await hops.quiet()
    assert (await hops.again(client, second)).body == b"ok"
    assert first.pending() == b""


async def test_past_max_idle_the_coldest_link_is_closed(hops: Hops) -> None:
    await hops.start(pool={"max_idle": 2})
    pairs = await busy(hops, 3)
    for asking, upstream in pairs:
        await upstream.send(OK)
        await asking.message()
        await hops.quiet()
    assert await pairs[0][1].rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.POOL_FULL]
    assert len(hops.runtime.pool.links) == 2


async def test_with_max_idle_zero_no_link_is_kept(hops: Hops) -> None:
    await hops.start(pool={"max_idle": 0})
    _, upstream = await hops.pair()
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.POOL_FULL]


async def test_waiters_are_served_in_the_order_they_came(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    [(first, upstream)] = await busy(hops, 1)
    waiting = await queued(hops, 3)
    await upstream.send(OK)
    assert (await first.message()).body == b"ok"
    for number, client in enumerate(waiting):
        await upstream.message()
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert (await client.message()).body == b"%d" % number
    assert hops.origins[0].waiting() is False, "one link served them all"


async def test_a_newcomer_does_not_overtake_a_waiter(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    client, upstream = await hops.asked()
    [waiting] = await queued(hops, 1)
    await client.send(get(b"/newcomer"))  # pipelined: it asks as soon as its answer is out
    await hops.quiet()
    await upstream.send(OK)
    assert (await upstream.message()).start == b"GET / HTTP/1.1"
    await upstream.send(OK)
    assert (await waiting.message()).body == b"ok"
    assert (await upstream.message()).start == b"GET /newcomer HTTP/1.1"
    await upstream.send(OK)


async def test_past_the_queue_the_answer_is_503_at_once(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1, "queue": 2})
    await busy(hops, 1)
    await queued(hops, 2)
    began = trio.current_time()
    client = await hops.client()
    await client.send(GET)
    answer = await client.message()
    assert (answer.status, trio.current_time()) == (503, began)
    assert answer.values(b"retry-after") == [b"1"]
    assert answer.values(b"connection") == [], "the client may ask again on this connection"
    await hops.quiet()
    record = hops.records.kept[-1]
    assert (record.cause, record.passed) == ("connection_limit_reached", ("queue", 2))
    assert record.queued == 0.0


async def test_a_wait_ends_with_503_after_queue_timeout(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1, "queue_timeout": 5.0})
    await busy(hops, 1)
    began = trio.current_time()
    [client] = await queued(hops, 1)
    answer = await client.message()
    assert answer.status == 503
    assert trio.current_time() - began == pytest.approx(5.0)
    await hops.quiet()
    record = hops.records.kept[-1]
    assert (record.cause, record.passed) == ("queue_timeout", ("queue_timeout", 5.0))
    assert [record.queued, record.connecting] == pytest.approx([5.0, 0.0])
    [told] = answer.values(b"proxy-status")
    assert b"error=connection_limit_reached" in told


async def test_a_waiter_whose_client_leaves_is_dropped_at_once(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    [(first, upstream)] = await busy(hops, 1)
    leaving, staying = await queued(hops, 2)
    leaving.close()
    await hops.quiet()
    [share] = hops.runtime.pool.ledger.shares
    assert len(share.waiters) == 1
    await upstream.send(OK)
    await first.message()
    await upstream.message()
    await upstream.send(OK)
    assert (await staying.message()).body == b"ok"


async def test_a_link_that_came_back_broken_frees_its_place_for_a_waiter(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    [(first, upstream)] = await busy(hops, 1)
    [waiting] = await queued(hops, 1)
    upstream.close()
    assert (await first.message()).status == 502
    await hops.origins[0].accept_and_answer()
    assert (await waiting.message()).body == b"ok"


async def test_a_link_handed_on_with_unsolicited_bytes_serves_no_waiter(
    hops: Hops,
) -> None:
    await hops.start(pool={"max_connections": 1})
    [(first, upstream)] = await busy(hops, 1)
    [waiting] = await queued(hops, 1)
    # The body fills one read exactly, so that the poison behind it stays in the kernel.
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    size = 65536 - len(head % 65536)
    poison = b"HTTP/1.1 200 POISON\r\nContent-Length: 0\r\n\r\n"
    await upstream.send(head % size + bytes(size) + poison)
    assert len((await first.message()).body) == size
    await hops.origins[0].accept_and_answer()
    assert (await waiting.message()).start == b"HTTP/1.1 200 OK"


async def test_a_released_link_serves_the_waiter_before_its_dial_does(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = hops.add_origin(backlog=0)
    await hops.start(upstream={"connect_timeout": 30.0})
    client, upstream = await hops.asked()
    fillers = [await _connect(origin.address.port) for _ in range(2)]
    [waiting] = await queued(hops, 1)
    [share] = hops.runtime.pool.ledger.shares
    assert (share.in_use, share.dialling) == (1, 1)
    await upstream.send(OK)
    await client.message()
    assert (await upstream.message()).start == b"GET / HTTP/1.1"
    await upstream.send(OK)
    assert (await waiting.message()).body == b"ok"
    for filler in fillers:
        filler.close()


async def _connect(port: int) -> trio.socket.SocketType:
    """A connection attempt that fills the backlog of a listener that does not accept."""
    sock = trio.socket.socket()
    with trio.move_on_after(0.5):
        await sock.connect(("127.0.0.1", port))
    return sock


async def test_the_total_limit_evicts_the_coldest_idle_link_of_any_origin(hops: Hops) -> None:
    await two_upstreams(hops, 2, Pool())
    pairs = [await hops.asked(get(b"/a")) for _ in range(2)]
    for asking, upstream in pairs:
        await upstream.send(OK)
        await asking.message()
        await hops.quiet()
    client, upstream = await hops.asked(get(b"/b"), origin=1)
    assert await pairs[0][1].rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MADE_ROOM]
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_with_every_link_lent_the_total_limit_makes_others_wait(hops: Hops) -> None:
    await two_upstreams(hops, 1, Pool(queue_timeout=600.0))
    holder, upstream = await hops.asked(get(b"/a"))
    waiting = await hops.client()
    await waiting.send(get(b"/b"))
    await hops.quiet()
    assert not hops.origins[1].waiting()
    await upstream.send(OK)
    await holder.message()
    await hops.origins[1].accept_and_answer()
    assert (await waiting.message()).body == b"ok"
    assert await upstream.rest() == b""


async def test_who_waits_for_its_own_links_keeps_nobody_from_room_in_the_total(
    hops: Hops,
) -> None:
    pool = Pool(max_connections=1, queue_timeout=600.0, max_idle=0)
    upstreams = {
        name: UpstreamSettings(origins=(hops.add_origin().address,), pool=pool)
        for name in ("a", "b", "c", "d")
    }
    await hops.start(
        upstreams=upstreams,
        routes=tuple(Route(upstream=name, path=f"/{name}") for name in upstreams),
        max_upstream_connections=2,
    )
    held = [await hops.asked(get(path), origin) for path, origin in ((b"/c", 2), (b"/d", 3))]
    clients = []
    for path in (b"/a", b"/a", b"/b"):  # all starved: c and d use the total
        client = await hops.client()
        await client.send(get(path))
        await hops.quiet()
        clients.append(client)
    for client, upstream in held:
        await upstream.send(OK)
        await client.message()
        await hops.quiet()
    with trio.fail_after(1):  # room for two: one for a, then at its own limit, and one for b
        upstreams_in_turn = [await hops.origins[number].accept() for number in (0, 1)]
    for client, upstream in zip(clients[::2], upstreams_in_turn, strict=True):
        await upstream.message()
        await upstream.send(OK)
        assert (await client.message()).body == b"ok"
    await upstreams_in_turn[0].message()
    await upstreams_in_turn[0].send(OK)
    assert (await clients[1].message()).body == b"ok"


async def test_a_dial_for_a_repetition_is_not_counted_on_by_a_waiter(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = hops.add_origin(backlog=0)
    await hops.start(pool={"max_connections": 3}, upstream={"connect_timeout": 30.0})
    client, upstream = await hops.pair()
    fillers = [await _connect(origin.address.port) for _ in range(2)]
    await client.send(GET)
    await upstream.message()
    upstream.close()  # dead under a reused link: repeated on a fresh one, whose dial hangs
    await hops.quiet()
    await queued(hops, 1)
    [share] = hops.runtime.pool.ledger.shares
    assert share.size == 2, "the waiter has a dial of its own"
    for filler in fillers:
        filler.close()

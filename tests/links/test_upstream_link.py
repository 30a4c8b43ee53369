"""The upstream hop at rest: how long an idle link is kept, and how its death is noticed."""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import OK, Peer
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"


def ok(*lines: bytes) -> bytes:
    """A short good answer with these fields."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\nok"
    )


async def answered(hops: Hops, response: bytes) -> tuple[Peer, Peer]:
    """A client and an upstream link after one exchange with this response."""
    client, upstream = await hops.asked()
    await upstream.send(response)
    await client.message()
    await hops.quiet()
    return client, upstream


async def test_an_idle_link_is_closed_by_us_at_exactly_its_limit(hops: Hops) -> None:
    await hops.start(pool={"idle_timeout": 30.0})
    _, upstream = await hops.pair()
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(30.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]


async def test_each_use_starts_the_idle_limit_again(hops: Hops) -> None:
    await hops.start(pool={"idle_timeout": 30.0}, client={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    for _ in range(3):
        await trio.sleep(29)
        assert (await hops.again(client, upstream)).body == b"ok"
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(30.0)


async def test_the_limit_of_a_response_does_not_fire_on_the_idle_link(hops: Hops) -> None:
    await hops.start(upstream={"response_timeout": 10.0}, pool={"idle_timeout": 60.0})
    client, upstream = await hops.pair()
    await trio.sleep(50)
    assert (await hops.again(client, upstream)).body == b"ok"
    assert hops.closes(Hop.UPSTREAM) == []


async def test_max_age_retires_an_idle_link_up_to_a_tenth_early(hops: Hops) -> None:
    await hops.start(pool={"max_age": 100.0, "idle_timeout": 600.0})
    _, upstream = await hops.pair()
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert 90.0 <= trio.current_time() - began <= 100.0
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MAX_AGE]


async def test_max_age_does_not_cut_a_response_under_way(hops: Hops) -> None:
    await hops.start(pool={"max_age": 10.0})
    client, upstream = await hops.asked()
    await trio.sleep(20)
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MAX_AGE]


async def test_after_max_requests_the_link_is_closed(hops: Hops) -> None:
    await hops.start(pool={"max_requests": 2})
    client, upstream = await hops.pair()
    await hops.again(client, upstream)
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.REQUEST_LIMIT]


async def test_a_hint_of_five_seconds_is_honoured_a_second_early(hops: Hops) -> None:
    await hops.start()
    _, upstream = await answered(hops, ok(b"Keep-Alive: timeout=5"))
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(4.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT]


async def test_a_long_hint_does_not_lengthen_the_limit(hops: Hops) -> None:
    await hops.start(pool={"idle_timeout": 30.0})
    _, upstream = await answered(hops, ok(b"Keep-Alive: timeout=500"))
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(30.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]


@pytest.mark.parametrize("hint", [b"timeout=0", b"timeout=1", b"timeout=60, max=0"])
async def test_a_hint_that_leaves_no_time_keeps_the_link_out_of_the_pool(
    hops: Hops, hint: bytes
) -> None:
    await hops.start()
    _, upstream = await answered(hops, ok(b"Keep-Alive: " + hint))
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT]


async def test_a_hint_of_three_more_requests_is_counted(hops: Hops) -> None:
    await hops.start()
    client, upstream = await answered(hops, ok(b"Keep-Alive: max=3"))
    for _ in range(3):
        assert hops.closes(Hop.UPSTREAM) == []
        await hops.again(client, upstream)
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.HINT]


async def test_a_fin_on_an_idle_link_is_seen_when_it_comes(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.pair()
    upstream.close()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert not hops.runtime.pool.links


async def test_a_fin_that_comes_with_the_response_is_seen_too(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(OK)
    upstream.close()
    assert (await client.message()).body == b"ok"
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]


async def test_a_reset_on_an_idle_link_is_seen_when_it_comes(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    _, upstream = await tcp_hops.pair()
    upstream.reset()
    await tcp_hops.quiet()
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET]


async def test_bytes_on_an_idle_link_end_it_and_reach_no_one(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    await upstream.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]
    assert (await hops.anew(client)).status == 200


async def test_bytes_behind_a_response_end_the_link_and_reach_no_one(hops: Hops) -> None:
    await hops.start()
    client, upstream = await answered(hops, OK + b"HTTP/1.1 200 POISON\r\n\r\n")
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.OVER_READ]
    assert (await hops.anew(client)).start == b"HTTP/1.1 200 OK"


async def test_room_to_write_on_an_idle_link_is_not_taken_for_its_end(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    body = bytes(2_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, POST % (len(body), body))
        upstream = await origin.accept()
        await hops.quiet()  # the upstream socket is full: from here on it is watched for room
        assert (await upstream.message()).body == body
    await upstream.send(OK)
    assert (await client.message()).status == 200
    # A body small enough for the kernel, answered before it is read: reading makes room later.
    await client.send(POST % (100_000, bytes(100_000)))
    await hops.quiet()
    await upstream.send(OK)
    assert (await client.message()).status == 200
    await hops.quiet()
    assert len((await upstream.message()).body) == 100_000
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == []
    assert (await hops.again(client, upstream)).body == b"ok"

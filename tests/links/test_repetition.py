"""Retries after a pooled link has failed under a request."""

from __future__ import annotations

import pytest
import trio

from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops


def request(method: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """A request with a sized body."""
    if body:
        lines = (*lines, b"Content-Length: %d" % len(body))
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *lines, b"", body])


async def half_closed(hops: Hops, asking: bytes) -> tuple[Peer, bool]:
    """A reused link fails under this request: its client, and whether it was retried."""
    client, upstream = await hops.pair()
    await client.send(asking)
    await upstream.message()
    upstream.close()
    await hops.quiet()
    return client, hops.origins[0].waiting()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
async def test_an_idempotent_request_is_sent_again_on_a_fresh_link(
    hops: Hops, method: bytes
) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(method))
    assert repeated
    fresh = hops.origins[0].peers[-1]
    assert (await fresh.message()).start == method + b" / HTTP/1.1"
    await fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await client.message()).status == 200
    await hops.quiet()
    assert hops.records.kept[-1].attempts == 2


async def test_a_put_whose_body_was_at_hand_is_repeated_whole(hops: Hops) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(b"PUT", b"body"))
    assert repeated
    fresh = hops.origins[0].peers[-1]
    assert (await fresh.message()).body == b"body"
    await fresh.send(OK)
    assert (await client.message()).status == 200


async def test_a_post_is_never_sent_twice(hops: Hops) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(b"POST", b"body"))
    assert not repeated
    assert (await client.message()).status == 502


async def test_an_idempotency_key_repeats_a_post_where_the_settings_say_so(hops: Hops) -> None:
    await hops.start(upstream={"retry_idempotency_key": True})
    _, repeated = await half_closed(hops, request(b"POST", b"body", b"Idempotency-Key: 1"))
    assert repeated


async def test_a_fresh_link_that_dies_is_not_followed_by_another(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.asked()
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_not_even_a_get_is_repeated_once_a_byte_of_an_answer_came(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    await client.send(GET)
    await upstream.message()
    await upstream.send(b"HTTP")
    await hops.quiet()
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_a_repetition_that_dies_too_is_the_last(hops: Hops) -> None:
    origin = await hops.start()
    client, repeated = await half_closed(hops, GET)
    assert repeated
    await origin.peers[-1].message()
    origin.peers[-1].close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_a_repetition_leaves_the_other_idle_links_alone(hops: Hops) -> None:
    await hops.start()
    (other, cold), (client, warm) = [await hops.asked() for _ in range(2)]
    for asking, upstream in ((other, cold), (client, warm)):
        await upstream.send(OK)
        await asking.message()
        await hops.quiet()
    await client.send(GET)
    await warm.message()
    warm.close()
    fresh = await hops.origins[0].accept()
    await fresh.message()
    assert cold.pending() == b""
    await fresh.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_short_body_on_its_way_is_repeated_from_its_beginning(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
    await upstream.until(b"123")
    upstream.close()
    fresh = await origin.accept()
    await client.send(b"4567890")
    assert (await fresh.message()).body == b"1234567890"
    await fresh.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_repetition_waits_no_longer_for_a_100_than_the_first(hops: Hops) -> None:
    origin = await hops.start(upstream={"continue_timeout": 2.0})
    client, upstream = await hops.pair()
    began = trio.current_time()
    await client.send(
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    await upstream.until(b"\r\n\r\n")
    upstream.close()
    fresh = await origin.accept()
    assert (await client.message()).status == 100
    assert trio.current_time() - began == pytest.approx(2.0)
    await client.send(b"body")
    assert (await fresh.message()).body == b"body"
    await fresh.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_long_body_on_its_way_is_not_repeated(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, head + bytes(1_000_000))
        await upstream.until(b"\r\n\r\n")
        await upstream.exactly(1_000_000)
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_a_client_that_leaves_during_the_dial_is_not_repeated(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    client, upstream = await hops.pair()
    async with origin.full():
        await client.send(GET)
        await upstream.message()
        upstream.close()
        await hops.quiet()
        client.close()
        await hops.quiet()
    fresh = await origin.accept()
    await trio.sleep(1)
    assert fresh.pending() == b"", "nothing is sent for a client that has gone"
    assert hops.records.kept[-1].status == 499


async def test_a_client_that_leaves_during_its_first_dial_leaves_the_link_to_others(
    hops: Hops,
) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    async with origin.full():
        client = await hops.client()
        await client.send(GET)
        await hops.quiet()
        client.close()
        await hops.quiet()
    upstream = await origin.accept()
    await trio.sleep(1)
    assert upstream.pending() == b""
    other = await hops.client()
    assert (await hops.again(other, upstream)).body == b"ok"


async def test_a_link_that_never_served_and_dies_under_a_get_is_repeated(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    async with origin.full():
        leaver = await hops.client()
        await leaver.send(GET)
        await hops.quiet()
        leaver.close()
        await hops.quiet()
    upstream = await origin.accept()
    await trio.sleep(1)
    client = await hops.client()
    await client.send(GET)
    await upstream.message()
    upstream.close()
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"

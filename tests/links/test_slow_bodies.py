"""Bodies that arrive slowly: they take no link that others need, and end if they are too slow."""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_no_link_is_taken_before_the_whole_body_is_there(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(POST % 10 + b"12345")
    await trio.sleep(0.9)
    assert hops.runtime.pool.links == {}
    await client.send(b"67890")
    upstream = await origin.accept()
    assert (await upstream.message()).body == b"1234567890"
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_no_link_is_taken_before_64_kib_or_a_second(hops: Hops) -> None:
    origin = await hops.start()
    large, slow = await hops.client(), await hops.client()
    await large.send(POST % 100_000 + bytes(70_000))
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.exactly(70_000)
    began = trio.current_time()
    await slow.send(CHUNKED + b"1\r\na\r\n")
    upstream = await origin.accept()
    assert trio.current_time() - began == pytest.approx(1.0)
    await upstream.until(b"1\r\na\r\n")


async def test_a_client_that_waits_for_the_origin_does_not_wait_for_us(hops: Hops) -> None:
    origin = await hops.start()
    for line in (b"Expect: 100-continue", b"Content-Type: application/grpc+proto"):
        client = await hops.client()
        began = trio.current_time()
        await client.send(CHUNKED.replace(b"Host: a", b"Host: a\r\n" + line))
        upstream = await origin.accept()
        await upstream.until(b"\r\n\r\n")
        assert trio.current_time() == began


async def test_a_body_that_comes_too_slowly_is_answered_408(hops: Hops) -> None:
    """5 s of grace, then 240 bytes a second: one byte a second is too slow."""
    await hops.start(client={"linger_timeout": 1.0})
    client = await hops.client()
    await client.send(POST % 10_000)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _drip() -> None:
            for _ in range(60):
                await client.send(b"x")
                await trio.sleep(1)

        answer = await client.message()
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
        nursery.cancel_scope.cancel()
    assert answer.status == 408
    assert answer.values(b"connection") == [b"close"]
    (status,) = answer.values(b"proxy-status")
    assert b"error=http_request_error" in status
    await trio.sleep(2)
    (record,) = hops.records.kept
    assert (record.cause, record.passed) == ("http_request_error", ("body_rate", 240))
    assert hops.closes(Hop.CLIENT) == [CloseReason.BODY_RATE]


async def test_a_body_at_the_rate_goes_on_for_as_long_as_it_takes(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(POST % 30_000)
    upstream = None
    for number in range(100):
        await client.send(b"x" * 300)
        await trio.sleep(1)
        if number == 0:
            upstream = await origin.accept()
    assert upstream is not None
    assert len((await upstream.message()).body) == 30_000
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_an_origin_that_reads_slowly_costs_the_client_no_patience(hops: Hops) -> None:
    """The waits of the kernel's buffers are the origin's, not the client's."""
    origin = await hops.start(upstream={"write_timeout": 600.0})
    client = await hops.client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, POST % 3_000_000 + bytes(3_000_000))
        upstream = await origin.accept()
        await trio.sleep(120)  # meanwhile nothing is read
        assert len((await upstream.message()).body) == 3_000_000
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_once_the_response_has_begun_any_pace_will_do(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(CHUNKED + b"1\r\na\r\n")
    upstream = await origin.accept()
    await upstream.until(b"1\r\na\r\n")
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
    await client.until(b"1\r\nA\r\n")
    await trio.sleep(30)
    await client.send(b"1\r\nb\r\n0\r\n\r\n")
    await upstream.until(b"1\r\nb\r\n0\r\n\r\n")
    await upstream.send(b"1\r\nB\r\n0\r\n\r\n")
    assert await client.until(b"0\r\n\r\n")


async def test_slow_bodies_leave_half_of_the_links_to_others(hops: Hops) -> None:
    origin = await hops.start(pool={"max_connections": 4}, client={"body_rate": 0})
    for _ in range(20):
        client = await hops.client()
        await client.send(POST % 100 + b"x")
    await trio.sleep(10)
    assert len(hops.runtime.pool.links) == 2
    other = await hops.client()
    began = trio.current_time()
    await other.send(GET)
    for _ in range(2):
        await origin.accept()
    await origin.accept_and_answer()
    assert (await other.message()).status == 200
    assert trio.current_time() == began


async def test_the_rate_may_be_off(hops: Hops) -> None:
    origin = await hops.start(client={"body_rate": 0})
    client = await hops.client()
    await client.send(POST % 2 + b"x")
    upstream = await origin.accept()
    await trio.sleep(50)
    await client.send(b"y")
    assert (await upstream.message()).body == b"xy"


async def test_no_more_bodies_are_waited_for_than_requests_could_wait(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 2, "queue": 3}, client={"body_rate": 0})
    for _ in range(5):
        client = await hops.client()
        await client.send(POST % 100 + b"x")
    await hops.quiet()
    last = await hops.client()
    await last.send(POST % 100 + b"x")
    answer = await last.message()
    assert (answer.status, answer.values(b"retry-after")) == (503, [b"1"])

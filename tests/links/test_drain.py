"""Stopping: what is under way ends well, what is idle ends at once, what drags on is cut."""

from __future__ import annotations

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops


async def test_idle_links_of_both_hops_end_at_once(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    assert await upstream.rest() == b""
    await hops.ended.wait()
    assert trio.current_time() == began
    assert hops.closes(Hop.CLIENT) == [CloseReason.DRAINING]
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.DRAINING]


async def test_a_response_under_way_is_finished_and_says_close(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    hops.worker.stop()
    await trio.sleep(20)
    await upstream.send(OK)
    answer = await client.message()
    assert (answer.body, answer.values(b"connection")) == (b"ok", [b"close"])
    assert await client.rest() == b""
    assert await upstream.rest() == b""
    await hops.ended.wait()


async def test_a_link_whose_response_began_before_the_drain_does_not_hold_it_up(
    hops: Hops,
) -> None:
    await hops.start(drain_timeout=30.0)
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    await client.until(b"\r\n\r\n")
    hops.worker.stop()
    await hops.quiet()
    began = trio.current_time()
    await upstream.send(b"k")
    await hops.ended.wait()
    assert await client.rest() == b"ok"
    assert trio.current_time() - began < 2


async def test_a_connection_accepted_at_the_last_moment_is_still_served(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    await hops.quiet()
    hops.worker.stop()
    await hops.quiet()
    await origin.accept_and_answer()
    assert (await client.message()).values(b"connection") == [b"close"]
    await hops.ended.wait()


async def test_who_connects_during_the_drain_is_refused(hops: Hops) -> None:
    await hops.start()
    await hops.asked()
    hops.worker.stop()
    await hops.quiet()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await hops.client()


async def test_a_request_that_waits_for_a_link_is_served_before_the_end(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1, "queue_timeout": 600.0})
    first, upstream = await hops.asked()
    waiting = await hops.client()
    await waiting.send(GET)
    await hops.quiet()
    hops.worker.stop()
    await hops.quiet()
    await upstream.send(OK)
    assert (await first.message()).body == b"ok"
    await hops.origins[0].accept_and_answer()
    assert (await waiting.message()).values(b"connection") == [b"close"]
    await hops.ended.wait()


async def test_what_drags_on_past_drain_timeout_is_cut(hops: Hops) -> None:
    await hops.start(drain_timeout=30.0)
    client, upstream = await hops.asked()
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(30.0)
    await hops.ended.wait()
    assert await upstream.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.STOPPED]
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.STOPPED]


async def test_a_second_stop_cuts_at_once(hops: Hops) -> None:
    await hops.start(drain_timeout=30.0)
    client, upstream = await hops.asked()
    hops.worker.stop()
    await trio.sleep(3)
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    assert await upstream.rest() == b""
    await hops.ended.wait()
    assert trio.current_time() == began


async def test_a_worker_cancelled_from_outside_closes_every_socket(hops: Hops) -> None:
    await hops.start()
    client, idle = await hops.pair()
    other = await hops.client()
    await other.send(GET)
    await idle.message()
    third, lent = await hops.asked()
    await idle.send(OK)
    await other.message()
    await hops.quiet()
    hops.cancel()
    await hops.ended.wait()
    for peer in (client, other, third, idle, lent):
        assert await peer.rest() == b""

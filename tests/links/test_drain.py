"""Stopping: what is under way ends well, what is idle ends politely, what drags on is cut."""

from __future__ import annotations

import os
import socket
from itertools import pairwise

import pytest
import trio

from hopproxy.observe.snapshot import unready
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.drain import Report
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops


async def test_idle_links_of_both_hops_end_at_once_if_the_grace_is_short(hops: Hops) -> None:
    await hops.start(drain_timeout=10.0)
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


async def test_a_worker_that_would_leave_connections_to_others_takes_what_is_in_the_queue(
    hops: Hops,
) -> None:
    """The others close the same listener in this moment, and its queue would be reset."""
    origin = await hops.start()
    await hops.quiet()
    hops.beside_another()
    clients = [await hops.client() for _ in range(6)]
    hops.worker.stop()
    for client in clients:
        await client.send(GET)
        await origin.accept_and_answer()
        assert (await client.message()).values(b"connection") == [b"close"]


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


# -- drain_delay -------------------------------------------------------------------------------


async def test_during_the_delay_it_still_serves_but_is_not_ready_and_says_close(
    hops: Hops,
) -> None:
    await hops.start(drain_delay=5.0, readiness="self")
    old, upstream = await hops.pair()
    assert unready(hops.runtime) == ""
    hops.worker.stop()
    await hops.quiet()
    assert unready(hops.runtime) == "draining"
    await trio.sleep(4)
    assert (await hops.again(old, upstream)).values(b"connection") == [b"close"]
    assert await old.rest() == b""
    new = await hops.client()
    answer = await hops.again(new, upstream)
    assert (answer.body, answer.values(b"connection")) == (b"ok", [b"close"])
    assert await new.rest() == b""
    await trio.sleep(1.1)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await hops.client()
    await hops.ended.wait()
    assert hops.worker.report == Report(ended=2, seconds=5.0)


async def test_an_idle_link_lives_through_the_delay(hops: Hops) -> None:
    await hops.start(drain_delay=5.0)
    client, _ = await hops.pair()
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    assert trio.current_time() == began + 5


async def test_a_second_stop_ends_the_delay_and_what_is_under_way(hops: Hops) -> None:
    await hops.start(drain_delay=60.0)
    client, _ = await hops.asked()
    hops.worker.stop()
    await trio.sleep(1)
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    await hops.ended.wait()
    assert trio.current_time() == began
    assert hops.worker.report == Report(cut=1, lost=1, seconds=1.0)


async def test_a_connection_made_in_the_last_moment_of_the_delay_is_served(hops: Hops) -> None:
    origin = await hops.start(drain_delay=5.0)
    hops.worker.stop()
    await trio.sleep(5 - 1e-9)
    client = await hops.client()
    await client.send(GET)
    await origin.accept_and_answer()
    assert (await client.message()).values(b"connection") == [b"close"]


# -- others take over ----------------------------------------------------------------------------


async def test_a_worker_that_retires_leaves_its_listeners_at_once_and_serves_its_links(
    hops: Hops,
) -> None:
    await hops.start(drain_timeout=5.0)
    busy, upstream = await hops.pair()
    idle = await hops.client()
    await hops.again(idle, upstream)
    await hops.quiet()
    hops.worker.retire()
    await hops.quiet()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await hops.client()
    await trio.sleep(1.5)
    assert (await hops.again(busy, upstream)).values(b"connection") == [b"close"]
    assert await busy.rest() == b""
    began = trio.current_time()
    assert await idle.rest() == b""
    assert trio.current_time() - began == pytest.approx(0.5)
    idle.close()
    await hops.ended.wait()
    assert hops.worker.report is not None
    assert hops.worker.report[:4] == (2, 0, 0, 0)


async def test_a_worker_that_retires_takes_nothing_out_of_the_queue(hops: Hops) -> None:
    """Another process accepts from the same socket."""
    await hops.start()
    [listener] = hops.worker._sockets.clients
    with socket.socket(fileno=os.dup(listener.fileno())) as other:
        hops.worker.retire()
        client = await hops.client()
        await hops.quiet()
        accepted, _ = other.accept()
        accepted.close()
        await hops.client()
        await hops.client()  # the backlog is what it was
        assert await client.rest() == b""


# -- idle links --------------------------------------------------------------------------------


async def idle_clients(hops: Hops, count: int) -> list[Peer]:
    """So many idle clients, the one that has been idle longest first."""
    first, upstream = await hops.pair()
    clients = [first]
    for _ in range(count - 1):
        clients.append(await hops.client())
        await hops.again(clients[-1], upstream)
        await hops.quiet()
    return clients


async def test_idle_links_end_one_after_the_other(hops: Hops) -> None:
    """40 of them in two seconds, the longest idle first."""
    await hops.start()
    clients = await idle_clients(hops, 40)
    began, ends = trio.current_time(), []

    async def watch(client: Peer) -> None:
        await client.rest()
        ends.append(trio.current_time() - began)
        client.close()

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(watch, client)
        await hops.quiet()
        hops.worker.stop()
    gaps = [later - sooner for sooner, later in pairwise(ends)]
    assert ends[0] == 0
    assert 1.9 <= ends[-1] <= 2
    assert max(gaps) < 0.11
    await hops.ended.wait()
    assert hops.worker.report is not None
    assert hops.worker.report[:4] == (40, 0, 0, 0)


async def test_however_many_they_are_five_seconds_have_to_do(hops: Hops) -> None:
    await hops.start()
    clients = await idle_clients(hops, 200)
    hops.worker.stop()
    began = trio.current_time()
    for client in clients:
        await client.rest()
    assert 4.9 <= trio.current_time() - began <= 5


async def test_an_idle_client_that_asks_meanwhile_is_answered_and_told(hops: Hops) -> None:
    await hops.start()
    *_, last = await idle_clients(hops, 40)
    hops.worker.stop()
    await trio.sleep(1.5)
    await last.send(GET)
    await hops.origins[0].accept_and_answer()
    assert (await last.message()).values(b"connection") == [b"close"]
    assert await last.rest() == b""
    await hops.ended.wait()
    assert hops.closes(Hop.CLIENT).count(CloseReason.DRAINING) == 40
    assert hops.worker.report is not None
    assert hops.worker.report.lost == 0


@pytest.mark.parametrize("timeout", [8.0, 30.0])
async def test_a_new_connection_has_a_moment_for_its_first_request(
    hops: Hops, timeout: float
) -> None:
    origin = await hops.start(drain_timeout=timeout)
    silent, client = await hops.client(), await hops.client()
    await hops.quiet()
    hops.worker.stop()
    await trio.sleep(0.7)
    await client.send(GET)
    await origin.accept_and_answer()
    assert (await client.message()).values(b"connection") == [b"close"]
    assert await silent.rest() == b""
    assert trio.current_time() < 1.3


async def test_a_request_that_crosses_our_fin_is_counted_as_lost(hops: Hops) -> None:
    await hops.start()
    client, _ = await hops.pair()
    hops.worker.stop()
    await hops.quiet()
    await client.send(GET)
    await client.gone()
    await hops.ended.wait()
    assert hops.worker.report == Report(ended=1, lost=1, seconds=1.0)


async def test_a_client_that_closes_after_us_holds_nothing_up(hops: Hops) -> None:
    await hops.start()
    client, _ = await hops.pair()
    began = trio.current_time()
    hops.worker.stop()
    assert await client.rest() == b""
    client.close()
    await hops.ended.wait()
    assert trio.current_time() == began


# -- the report --------------------------------------------------------------------------------


async def test_a_tunnel_lives_to_the_end_of_drain_timeout(hops: Hops) -> None:
    await hops.start(drain_delay=2.0, drain_timeout=20.0)
    client, upstream = await hops.asked(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    )
    await upstream.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    await client.message(bodiless=True)
    asked, _ = await hops.asked()
    began = trio.current_time()
    hops.worker.stop()
    await trio.sleep(21)
    await client.send(b"ping")
    assert await upstream.exactly(4) == b"ping"
    assert await client.rest() == b""
    assert await asked.rest() == b""
    assert trio.current_time() == pytest.approx(began + 22)
    await hops.ended.wait()
    assert hops.worker.report == Report(cut=2, tunnels=1, lost=1, seconds=22.0)
    assert str(hops.worker.report) == (
        "drained in 22s: 0 connections ended, 2 cut (1 of them upgraded), 1 request lost"
    )

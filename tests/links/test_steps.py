"""Waits and wakes at their edges: what comes in the same batch of events, or out of turn."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from hopproxy.link.client import ClientLink
from hopproxy.link.link import Link
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.drain import Drain
from hopproxy.settings.route import Route
from tests.raw_peers import GET, OK, Peer, together
from tests.wire_pair import Hops

CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def test_a_lone_cr_before_the_end_of_the_stream_ends_the_connection(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(b"\r")
    await hops.quiet()
    client.finish()
    with trio.fail_after(5):
        assert await client.rest() == b""


async def test_a_relayed_response_that_says_close_ends_in_any_batch(hops: Hops) -> None:
    """Its last bytes have been sent before it ends: nothing is left for the end of the batch."""
    await hops.start()
    client, upstream = await hops.asked(CLOSE)
    other, another = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    await client.until(b"ab")
    await hops.quiet()
    together((another, OK), (upstream, b"cd"))
    with trio.fail_after(5):
        assert await client.rest() == b"cd"
        assert (await other.message()).body == b"ok"


#: What a Unix socket does not take at once where its peer does not read.
MUCH = b"x" * 12000


async def stalled(hops: Hops, requests: bytes = GET) -> Peer:
    """A client that does not read, and has not taken the whole of a small response."""
    await hops.start(client={"write_timeout": 20.0, "idle_timeout": 100.0})
    client, upstream = await hops.pair()
    [link] = hops.runtime.clients.links
    assert isinstance(link, ClientLink)
    hold_back(link)
    await client.send(requests)
    await upstream.message()
    _, another = await hops.asked()
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n" + MUCH
    together((upstream, large), (another, OK))
    await hops.quiet()
    assert 0 < len(client.pending()) < len(MUCH)
    return client


def hold_back(link: Link) -> None:
    """What is sent on this link falls short while its peer does not read."""
    with socket.socket(fileno=os.dup(link.transport.fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_client_that_leaves_while_the_rest_of_a_small_response_waits_is_no_request(
    hops: Hops,
) -> None:
    client = await stalled(hops)
    client.finish()
    await hops.quiet()
    answer = await client.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert len(hops.records.kept) == 3
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]


async def test_a_client_that_does_not_take_the_rest_of_a_small_response_is_cut(hops: Hops) -> None:
    client = await stalled(hops)
    await trio.sleep(21)
    answer = await client.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert len(hops.records.kept) == 3
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]


async def test_the_rest_of_a_small_response_does_not_wait_for_the_next_one(hops: Hops) -> None:
    client = await stalled(hops, GET + GET)
    with trio.fail_after(5):
        assert (await client.message()).body == MUCH
    await hops.quiet()
    [asked] = [peer for peer in hops.origins[0].peers if peer.pending()]
    await asked.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_request_that_is_not_taken_at_once_is_sent_to_its_end(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    [link] = hops.runtime.pool.links
    hold_back(link)
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12000\r\n\r\n" + MUCH)
    with trio.fail_after(5):
        assert (await upstream.message()).body == MUCH
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_client_that_closes_as_the_drain_begins_is_no_fault(
    hops: Hops, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await hops.start()
    client, _ = await hops.pair()

    end_some = Drain.end_some

    def end(drain: Drain, most: int) -> int:
        monkeypatch.undo()
        ended = end_some(drain, most)
        client.finish()
        return ended

    monkeypatch.setattr(Drain, "end_some", end)
    hops.worker.stop()
    await client.rest()
    assert not [entry for entry in caplog.records if entry.exc_info]
    assert hops.closes(Hop.CLIENT)[0] is not CloseReason.INTERNAL_ERROR


async def test_pipelined_requests_do_not_starve_the_others(hops: Hops) -> None:
    hops.add_origin()
    await hops.start(routes=(Route(upstream="app", path="/app"),))
    eager, patient = await hops.client(), await hops.client()
    await hops.quiet()
    together((eager, GET * 100), (patient, GET))
    assert (await patient.message()).status == 404
    for _ in range(100):
        assert (await eager.message()).status == 404
    turns = [record.link_number for record in hops.records.kept]
    [turn] = [at for at, number in enumerate(turns) if turns.count(number) == 1]
    assert turn < 50

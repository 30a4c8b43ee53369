"""A request whose link has to be dialled: served, failed, left, cut."""

from __future__ import annotations

import pytest
import trio

from hopproxy.link.readiness import Outgoing
from hopproxy.reasons import CloseReason, Hop, Unused
from tests import drivers
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops, tasks


async def dialling(hops: Hops) -> Peer:
    """A client whose request waits for a dial to an origin with a full backlog."""
    client = await hops.client()
    await client.send(GET)
    await hops.quiet()
    [share] = hops.runtime.pool.ledger.shares
    assert (share.dialling, len(share.waiters)) == (1, 1)
    return client


async def test_an_exchange_that_needs_a_dial_takes_no_task(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    await tcp_hops.quiet()
    before = tasks()
    client, upstream = await tcp_hops.pair()
    await client.send(GET)
    await upstream.message()
    await upstream.send(OK.replace(b"Date: x", b"Connection: close"))
    assert (await client.message()).status == 200
    assert (await tcp_hops.anew(client)).status == 200
    await tcp_hops.quiet()
    assert drivers.DRIVER != "events" or tasks() == before
    first, second, third = tcp_hops.records.kept
    assert [first.fresh, second.fresh, third.fresh] == [True, False, True]
    assert (first.unused, third.unused) == (None, Unused.CLOSED_BY_ORIGIN)
    tcp_hops.check_ledger()


async def test_a_client_that_leaves_leaves_the_queue(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    async with origin.full():
        client = await dialling(hops)
        client.close()
        await hops.quiet()
        [share] = hops.runtime.pool.ledger.shares
        assert len(share.waiters) == 0
        assert not hops.runtime.clients.links
    peer = await origin.accept()  # the connection that is nearly made serves the next
    other = await hops.client()
    await other.send(GET)
    await peer.message()
    await peer.send(OK)
    assert (await other.message()).status == 200
    assert [record.status for record in hops.records.kept] == [499, 200]


async def test_who_waits_for_a_dial_is_served_by_a_link_released_before(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    first, upstream = await hops.asked()
    async with origin.full():
        second = await dialling(hops)
        await upstream.send(OK)
        assert (await first.message()).body == b"ok"
        await upstream.message()
        await upstream.send(OK)
        assert (await second.message()).body == b"ok"
    await origin.accept()
    await hops.quiet()
    hops.check_ledger()
    assert len(hops.runtime.pool.links) == 2


async def test_a_link_that_spoke_before_it_was_handed_on_serves_no_request(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start()
    first, upstream = await hops.asked()
    async with origin.full():
        second = await dialling(hops)
        # The body fills one read exactly, so that the poison behind it stays in the kernel.
        head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n"
        size = 65536 - len(head % 65536)
        await upstream.send(head % size + bytes(size) + OK.replace(b"ok", b"no"))
        assert len((await first.message()).body) == size
    for _ in range(2):  # the dial under way, and one of the second client's own
        peer = await origin.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, peer)
            with trio.move_on_after(1):
                assert (await second.message()).body == b"ok"
                nursery.cancel_scope.cancel()
                break
            nursery.cancel_scope.cancel()
    assert CloseReason.UNSOLICITED in hops.closes(Hop.UPSTREAM)


async def _answer(peer: Peer) -> None:
    await peer.message()
    await peer.send(OK)


async def test_a_dial_that_comes_to_nothing_is_answered(hops: Hops) -> None:
    origin = await hops.start()
    origin.close()
    client = await hops.client()
    for _ in range(2):
        await client.send(GET)
        answer = await client.message()
        assert (answer.status, answer.values(b"connection")) == (502, [])
    hops.check_ledger()
    assert {record.cause for record in hops.records.kept} == {"connection_refused"}


@pytest.mark.parametrize("end", ["drained", "cancelled"])
async def test_a_dial_that_is_under_way_at_the_end_leaves_nothing(hops: Hops, end: str) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start(drain_timeout=2.0)
    async with origin.full():
        await dialling(hops)
        if end == "drained":
            hops.worker.stop()
        else:
            hops.cancel()
        await hops.ended.wait()
    assert [record.cause for record in hops.records.kept] == ["stopped"]


async def test_a_request_under_way_to_a_dial_survives_the_drain(hops: Hops) -> None:
    origin = hops.add_origin(backlog=0)
    await hops.start(drain_timeout=20.0)
    async with origin.full():
        client = await dialling(hops)
        hops.worker.stop()
        await hops.quiet()
    await origin.accept_and_answer()
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (200, [b"close"])


async def test_a_request_that_comes_as_the_idle_limit_passes_is_served(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 10.0})
    client, upstream = await hops.pair()
    [link] = hops.runtime.clients.links
    await client.send(GET)  # told of in the next batch of events, and the limit passes in this
    link.transport.on_time(link.since + 10.0)
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_what_comes_before_a_request_went_out_is_no_answer_to_it(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    held: list[Outgoing] = []

    def later(sender: Outgoing) -> bool:
        held.append(sender)
        return True

    [link] = hops.runtime.pool.links
    with monkeypatch.context() as patch:
        patch.setattr(link.transport, "send_later", later)  # the batch does not end yet
        await client.send(GET)
        await hops.quiet()
        await upstream.send(OK.replace(b"ok", b"no"))
        await hops.quiet()
        for sender in held:
            sender.send_queued()
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).body == b"ok"
    assert hops.records.kept[-1].attempts == 2

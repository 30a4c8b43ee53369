"""Attacks on HTTP/2: each ends or slows its own connection, and costs the origin few dials."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from hopproxy.link.h2 import H2Link
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.h2 import Event
from tests import raw_peers
from tests.h2_origin import H2Peer as H2Origin
from tests.h2_peer import (
    CANCEL,
    DATA,
    GET,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    H2Peer,
    frame,
    number,
)
from tests.raw_peers import OK, Peer, together
from tests.wire_pair import Hops

#: Streams that an attacker may have under way.
STREAMS = 10


async def serve(hops: Hops, links: list[Peer], pause: float) -> None:
    """The origin answers each request after a while."""

    async def on_link(peer: Peer) -> None:
        try:
            while True:
                await peer.message()
                await trio.sleep(pause)
                await peer.send(OK)
        except (EOFError, OSError, ValueError):
            return

    async with trio.open_nursery() as nursery:
        while True:
            links.append(await hops.origins[0].accept())
            nursery.start_soon(on_link, links[-1])


def opened_and_reset(h2: H2Peer) -> bytes:
    """In two pieces, so that the request has begun when it is reset."""
    return frame(RST_STREAM, 0, h2.next - 2, number(CANCEL)) + h2.head(GET)


def made_to_be_reset(h2: H2Peer) -> bytes:
    """CVE-2025-8671."""
    return frame(WINDOW_UPDATE, 0, h2.next - 2, number(0)) + h2.head(GET)


def data_on_closed(h2: H2Peer) -> bytes:
    reset = frame(RST_STREAM, 0, h2.next - 2, number(CANCEL))
    return reset + frame(DATA, 0, h2.next - 2, b"x") * 3 + h2.head(POST, end=True)


@pytest.mark.parametrize("attack", [opened_and_reset, made_to_be_reset, data_on_closed])
async def test_resets_cost_the_origin_no_more_dials_than_max_streams(
    hops: Hops, attack: Callable[[H2Peer], bytes]
) -> None:
    """An honest client is served meanwhile, as fast as before."""
    await hops.start(client={"max_streams": STREAMS})
    links: list[Peer] = []
    slowest = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, hops, links, 0.05)
        honest, bad = H2Peer(await hops.client()), H2Peer(await hops.client())
        await honest.start()
        await bad.start()
        await bad.request()
        try:
            for _ in range(600):
                await bad.send(attack(bad))
                began = trio.current_time()
                assert (await honest.ask()).body == b"ok"
                slowest = max(slowest, trio.current_time() - began)
        except OSError:
            pass
        assert slowest <= 0.1, "twice what it takes alone"
        assert len(links) <= STREAMS + 1
        await hops.quiet()
        bad.peer.close()
        honest.peer.close()
        await hops.quiet()
        nursery.cancel_scope.cancel()
    ends = {CloseReason.FLOODED, CloseReason.PROTOCOL_ERROR}  # or the clients left at the end
    assert set(hops.closes(Hop.CLIENT)) <= ends | {CloseReason.PEER_CLOSED, CloseReason.PEER_RESET}


async def test_closed_windows_hold_no_more_than_max_streams(hops: Hops) -> None:
    """Each stream gives its response up after `write_timeout`; the others were never begun."""
    await hops.start(client={"max_streams": STREAMS, "write_timeout": 10.0})
    links: list[Peer] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, hops, links, 0.0)
        bad = H2Peer(await hops.client())
        await bad.start((4, 0))
        streams = [await bad.request() for _ in range(STREAMS)]
        began = trio.current_time()
        for stream in streams:
            assert (await bad.answer(stream)).reset == CANCEL
        assert trio.current_time() - began == pytest.approx(10.0)
        assert len(links) <= STREAMS
        nursery.cancel_scope.cancel()
    assert {record.cause for record in hops.records.kept} == {"client_timeout"}


async def test_tiny_frames_of_a_body_are_passed_on_together(hops: Hops) -> None:
    """A step of the exchange for each of them would cost more than reading them."""
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start()
    fields = [*POST, (b"content-type", b"application/grpc")]  # its body is not waited for
    stream = await h2.request(fields, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await h2.send(frame(DATA, 0, stream, b"x") * 500)
    await hops.quiet()
    # The first read takes 4 KiB: 409 frames, and a part of the next one.
    told = [b"%x\r\n%b\r\n" % (count, b"x" * count) for count in (409, 91)]
    assert upstream.pending() == b"".join(told)


def make_costly(link: H2Link | H2UpstreamLink) -> list[int]:
    """From now on each byte that this link reads takes a microsecond; the sizes of its reads."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    reads: list[int] = []
    jump = clock.jump
    wire = link.wire

    class Costly(type(wire)):  # type: ignore[misc]
        __slots__ = ()

        def receive(self, data: bytes, now: float) -> list[Event]:
            jump(len(data) / 1e6)
            reads.append(len(data))
            return super().receive(data, now)  # type: ignore[no-any-return]

    wire.__class__ = Costly
    return reads


FLOOD = frame(0xBE, 0, 0, b"z" * 1000) * 150


@pytest.mark.parametrize("hop", [Hop.CLIENT, Hop.UPSTREAM])
async def test_less_is_read_at_a_time_where_frames_are_costly(hops: Hops, hop: Hop) -> None:
    await hops.start(upstream={"protocol": "h2"})
    bad = H2Peer(await hops.client())
    await bad.start()
    await bad.request()
    origin = H2Origin(await hops.origins[0].accept())
    request = await origin.whole()
    [client] = hops.runtime.clients.links
    [upstream] = hops.runtime.pool.links
    assert isinstance(client, H2Link)
    assert isinstance(upstream, H2UpstreamLink)
    reads = make_costly(client if hop is Hop.CLIENT else upstream)
    if hop is Hop.CLIENT:
        await bad.send(FLOOD)
    else:
        await origin.send(FLOOD)
    await hops.quiet()
    assert reads[0] == (4096 if hop is Hop.CLIENT else 65536)
    assert max(reads[2:]) <= 4096
    await origin.respond(request.number)
    assert (await bad.answer(1)).status == 200


async def test_costly_frames_hold_up_others_only_a_little(hops: Hops) -> None:
    await hops.start()
    bad = H2Peer(await hops.client())
    await bad.start()
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    reads = make_costly(link)
    other = await hops.client()
    began = trio.current_time()
    together((bad.peer, FLOOD), (other, raw_peers.GET))
    await (await hops.origins[0].accept()).send(OK)
    await hops.quiet()
    [record] = hops.records.kept
    assert record.started - began < 0.01
    assert sum(reads) == len(FLOOD)

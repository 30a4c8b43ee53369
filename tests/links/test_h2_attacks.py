"""Attacks on HTTP/2: each ends or slows its own connection, and costs the origin few dials."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
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
from tests.raw_peers import OK, Peer
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

"""Half a field block of HTTP/2: how long its other half is waited for, and who leaves instead."""

from __future__ import annotations

import contextlib

import hpack
import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.h2_peer import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    NO_ERROR,
    H2Peer,
    frame,
)
from tests.raw_peers import OK
from tests.wire_pair import Hops

BLOCK = bytes(hpack.Encoder().encode(GET))


async def connected(hops: Hops, *, served: bool) -> H2Peer:
    """A client that has had one response, or none."""
    await hops.start(client={"head_timeout": 5.0, "idle_timeout": 60.0})
    h2 = H2Peer(await hops.client())
    await h2.start()
    if served:
        stream = await h2.request()
        await hops.origins[0].accept_and_answer()
        await h2.answer(stream)
    return h2


#: A field block that never ends, and a frame of one whose payload never does.
DRIPPING = {
    "CONTINUATION": (frame(HEADERS, END_STREAM, 3, BLOCK[:1]), frame(CONTINUATION, 0, 3)),
    "HEADERS": (frame(HEADERS, END_STREAM | END_HEADERS, 3, BLOCK + bytes(99))[:20], b"x"),
}


@pytest.mark.parametrize("served", [False, True], ids=["first", "second"])
@pytest.mark.parametrize(("begin", "more"), DRIPPING.values(), ids=DRIPPING)
async def test_a_head_that_drips_is_cut_at_the_head_timeout(
    hops: Hops, begin: bytes, more: bytes, served: bool
) -> None:
    h2 = await connected(hops, served=served)
    began = trio.current_time()
    await h2.send(begin)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, h2, more)
        await h2.until_end()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == 5.0
    assert not hops.origins[0].waiting()
    h2.peer.close()
    await hops.quiet()
    assert [(f.last, f.code) for f in h2.goaways] == [(int(served), NO_ERROR)]
    assert hops.closes(Hop.CLIENT) == [CloseReason.HEAD_TIMEOUT]


async def drip(h2: H2Peer, data: bytes) -> None:
    """Send this once a second."""
    with contextlib.suppress(OSError):
        for _ in range(90):
            await trio.sleep(0.9)
            await h2.send(data)


async def test_a_head_that_never_ends_cuts_no_response_that_is_under_way(hops: Hops) -> None:
    h2 = await connected(hops, served=False)
    stream = await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await h2.send(frame(HEADERS, END_STREAM, 3, BLOCK[:1]))
    await trio.sleep(9.0)
    h2.take_all()
    await upstream.send(OK)
    answer = await h2.answer(stream)
    assert (answer.status, answer.body) == (200, b"ok")
    began = trio.current_time()
    await h2.until_end()
    assert trio.current_time() == began
    assert [(f.last, f.code) for f in h2.goaways] == [(1, NO_ERROR)]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HEAD_TIMEOUT]


async def test_reads_that_end_in_a_head_are_no_head_that_drips(hops: Hops) -> None:
    """Each head is whole within a second, but each time another has begun by then."""
    h2 = await connected(hops, served=True)
    [upstream] = hops.origins[0].peers
    rest = b""
    for _ in range(20):
        request = h2.head(GET)
        await h2.send(rest + request[:12])
        if rest:
            await upstream.message()
            await upstream.send(OK)
        rest = request[12:]
        await trio.sleep(1.0)
    answer = await h2.answer(h2.next - 4)
    assert (answer.status, h2.goaways) == (200, [])


async def test_a_client_that_leaves_in_a_head_reaches_no_origin(hops: Hops) -> None:
    h2 = await connected(hops, served=True)
    await h2.send(frame(HEADERS, END_STREAM, 3, BLOCK[:-1]))
    await hops.quiet()
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    [upstream] = hops.origins[0].peers
    assert upstream.receive_at_once() is None
    assert not hops.origins[0].waiting()


async def test_a_head_in_two_halves_is_one_request(hops: Hops) -> None:
    h2 = await connected(hops, served=False)
    await h2.send(frame(HEADERS, END_STREAM, 1, BLOCK[:3]))
    await trio.sleep(4.0)
    await h2.send(frame(CONTINUATION, END_HEADERS, 1, BLOCK[3:]))
    await hops.origins[0].accept_and_answer()
    assert (await h2.answer(1)).status == 200

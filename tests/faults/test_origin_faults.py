"""Origins that misbehave: their client gets an error, others are served, all links are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = {"response_timeout": 7.0, "body_timeout": 5.0, "max_head_size": 4096}

Fault = Callable[[Peer], Awaitable[None]]


def saying(*said: bytes, fin: bool = True) -> Fault:
    """An origin that says this, then closes or falls silent."""

    async def act(peer: Peer) -> None:
        for piece in said:
            await peer.send(piece)
        if fin:
            peer.close()

    return act


async def dribbling_a_head(peer: Peer) -> None:
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60:
            await peer.send(bytes([byte]))
            await trio.sleep(1)
    except OSError:  # the gateway has had enough
        peer.close()


async def breaking_a_later_chunk(peer: Peer) -> None:
    await peer.send(CHUNKED + b"4\r\nfour\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(b"zz\r\n")


#: What it does before a response has begun: (what, status, cause, why the link ends).
BEFORE = [
    pytest.param(saying(), 502, "connection_terminated", CloseReason.PEER_CLOSED, id="closes"),
    pytest.param(
        saying(fin=False), 504, "http_response_timeout", CloseReason.RESPONSE_TIMEOUT, id="hangs"
    ),
    pytest.param(
        dribbling_a_head, 504, "http_response_timeout", CloseReason.RESPONSE_TIMEOUT, id="dribbles"
    ),
    pytest.param(
        saying(b"\x15\x03\x01 nonsense\r\n\r\n"),
        502,
        "http_protocol_error",
        CloseReason.BAD_RESPONSE,
        id="garbage",
    ),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\nContent-"),
        502,
        "connection_terminated",
        CloseReason.PEER_CLOSED,
        id="dies inside its head",
    ),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 8000, fin=False),
        502,
        "http_protocol_error",
        CloseReason.BAD_RESPONSE,
        id="a head without end",
    ),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        502,
        "http_protocol_error",
        CloseReason.BAD_RESPONSE,
        id="two lengths",
    ),
    pytest.param(
        saying(CHUNKED + b"4\r\nfour\r\nzz\r\n", fin=False),
        502,
        "http_protocol_error",
        CloseReason.BAD_RESPONSE,
        id="a chunk that is broken before anything could be passed on",
    ),
]

#: What it does once a response has begun: the client must see that it is not whole.
INSIDE = [
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), id="between head and body"
    ),
    pytest.param(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour"), id="in a body"),
    pytest.param(saying(CHUNKED + b"9\r\nfour"), id="in a chunk"),
    pytest.param(saying(CHUNKED + b"4\r\nfour\r\n"), id="between two chunks"),
    pytest.param(saying(CHUNKED + b"4\r\nfour\r\n0\r\nX-Sum: "), id="in a trailer"),
    pytest.param(saying(CHUNKED + b"4\r\nfour\r\n", fin=False), id="stalls in a body"),
    pytest.param(breaking_a_later_chunk, id="a broken chunk"),
]


async def others_are_served(hops: Hops, client: Peer, upstream: Peer) -> None:
    """A pair of links that was there before still serves, on the same link."""
    assert (await hops.again(client, upstream)).status == 200
    hops.check_ledger()


@pytest.mark.parametrize(("fault", "status", "cause", "reason"), BEFORE)
async def test_before_a_response_the_client_is_told_the_cause(
    hops: Hops, fault: Fault, status: int, cause: str, reason: CloseReason
) -> None:
    await hops.start(upstream=LIMITS, client={"idle_timeout": 1000})
    bystander = await hops.client()
    await bystander.send(GET)
    healthy = await hops.origins[0].accept()
    client, upstream = await hops.asked(GET)  # on a link of its own
    await healthy.message()
    await healthy.send(OK)
    assert (await bystander.message()).status == 200
    await fault(upstream)
    answer = await client.message()
    assert answer.status == status
    assert cause.encode() in answer.values(b"proxy-status")[0]
    assert answer.values(b"connection") == []  # the client's own link is sound
    await hops.quiet()
    assert hops.records.kept[-1].cause == cause
    await others_are_served(hops, bystander, healthy)
    assert hops.closes(Hop.UPSTREAM)[0] is reason
    hops.check_ledger()


@pytest.mark.parametrize("fault", INSIDE)
async def test_inside_a_response_the_client_sees_that_it_is_not_whole(
    hops: Hops, fault: Fault
) -> None:
    await hops.start(upstream=LIMITS, client={"idle_timeout": 1000})
    bystander, healthy = await hops.pair()
    holding = await hops.client()
    await holding.send(GET)
    await healthy.message()
    client, upstream = await hops.asked(GET)
    await fault(upstream)
    with pytest.raises(EOFError):
        await client.message()
    await hops.quiet()
    assert hops.records.kept[-1].status == 200
    assert hops.records.kept[-1].cause != ""
    assert CloseReason.RESPONSE_CUT in hops.closes(Hop.CLIENT)
    await healthy.send(OK)
    assert (await holding.message()).status == 200
    await others_are_served(hops, bystander, healthy)


async def test_a_reset_before_and_inside_a_response(tcp_hops: Hops) -> None:
    hops = tcp_hops
    await hops.start(upstream=LIMITS)
    client, upstream = await hops.asked()
    upstream.reset()
    assert (await client.message()).status == 502
    await client.send(GET)
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(CHUNKED + b"4\r\nfour\r\n")
    await hops.quiet()
    upstream.reset()
    with pytest.raises(EOFError):
        await client.message()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET] * 2


async def test_an_origin_that_is_away_for_a_while_is_taken_back(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    upstream.close()
    hops.origins[0].close()
    await hops.quiet()
    await client.send(GET)
    assert (await client.message()).status == 502
    address = hops.origins[0].address
    hops.origins.append(Origin(open_listener(Bind("unix", path=address.path), 8), address))
    await client.send(GET)
    await hops.origins[-1].accept_and_answer()
    assert (await client.message()).status == 200

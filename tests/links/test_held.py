"""Requests that wait: for an upstream that restarts, and for the end of their own chunked body."""

from __future__ import annotations

import contextlib
import sys

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.answer import plain_answer
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops


def restart(hops: Hops) -> Origin:
    """The origin listens again at the same address."""
    old = hops.origins[0]
    sock = open_listener(Bind("unix", path=old.address.path), 128)
    hops.origins[0] = Origin(sock, old.address)
    return hops.origins[0]


async def answer_all(origin: Origin) -> None:
    """Answer each request on each connection."""

    async def answer(peer: Peer) -> None:
        with contextlib.suppress(EOFError, trio.ClosedResourceError):
            while (await peer.message()).body == b"hi":
                await peer.send(OK)

    async with trio.open_nursery() as nursery:
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                nursery.start_soon(answer, await origin.accept())


async def down(hops: Hops, hold: float) -> None:
    """Start in front of an origin that does not listen."""
    await hops.start(upstream={"hold": hold})
    hops.origins[0].close()


async def test_requests_wait_while_their_upstream_restarts(hops: Hops) -> None:
    await down(hops, 10.0)
    clients = [await hops.client() for _ in range(5)]
    for client in clients:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    await trio.sleep(3.0)
    began = trio.current_time()
    hops.nursery.start_soon(answer_all, restart(hops))
    for client in clients:
        assert (await client.message()).status == 200
    assert trio.current_time() - began < 0.5
    for record in hops.records.kept:
        assert record.attempts == 1
        assert record.queued == pytest.approx(3.2, abs=0.3)


async def test_a_wait_ends_with_the_error_that_began_it(hops: Hops) -> None:
    await down(hops, 10.0)
    client = await hops.client()
    await client.send(GET)
    began = trio.current_time()
    answer = await client.message()
    assert trio.current_time() - began == pytest.approx(10.0, abs=0.3)
    assert answer.status == 502
    assert hops.records.kept[0].cause == "connection_refused"


async def test_a_body_that_came_slowly_uses_up_no_patience(hops: Hops) -> None:
    await hops.start(upstream={"hold": 5.0, "buffer_request": 1024})
    hops.origins[0].close()
    client = await hops.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    )
    await trio.sleep(4.9)
    await client.send(b"0\r\n\r\n")
    await trio.sleep(3.0)
    hops.nursery.start_soon(answer_all, restart(hops))
    assert (await client.message()).status == 200


async def test_all_that_wait_together_dial_once_at_a_time(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await down(hops, 4.0)
    dials = 0
    begin = hops.runtime.pool.connector.begin

    def counted(*arguments: object, **named: object) -> object:
        nonlocal dials
        dials += 1
        return begin(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(hops.runtime.pool.connector, "begin", counted)
    clients = [await hops.client() for _ in range(20)]
    for client in clients:
        await client.send(GET)
    for client in clients:
        assert (await client.message()).status == 502
    assert dials <= 20 + 4.0 / 0.2 + 5  # the first of each request, those that wait, trials


async def test_a_client_that_leaves_waits_no_longer(hops: Hops) -> None:
    await down(hops, 10.0)
    client = await hops.client()
    await client.send(GET)
    await trio.sleep(1.0)
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    assert hops.records.kept[0].cause == "client_closed"


async def test_without_hold_nothing_waits(hops: Hops) -> None:
    await down(hops, 0.0)
    client = await hops.client()
    began = trio.current_time()
    await client.send(GET)
    assert (await client.message()).status == 502
    assert trio.current_time() == began


async def test_a_browser_that_gets_a_page_does_not_wait(hops: Hops) -> None:
    await down(hops, 10.0)
    hops.runtime.terms.page = lambda request, error: plain_answer(502, b"page", [])
    client = await hops.client()
    began = trio.current_time()
    await client.send(GET)
    assert (await client.message()).body == b"page"
    assert trio.current_time() == began


# -- buffer_request --------------------------------------------------------------------------

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"


async def seen(hops: Hops) -> tuple[Peer, bytes]:
    """The origin's connection, and the head that it gets."""
    peer = await hops.origins[0].accept()
    return peer, await peer.until(b"\r\n\r\n")


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_chunked_body_gets_a_length(hops: Hops, pieces: int) -> None:
    await hops.start(upstream={"buffer_request": 6})
    client = await hops.client()
    body = [b"Trailer: X-T\r\n\r\n2\r\nab\r\n", b"4;x=y\r\ncdef\r\n", b"0\r\nX-T: 1\r\n\r\n"]
    sent = [HEAD + body[0], *body[1:]] if pieces == 3 else [HEAD + b"".join(body)]
    for piece in sent:
        assert not hops.origins[0].waiting()
        await client.send(piece)
        await hops.quiet()
    peer, head = await seen(hops)
    assert b"\r\nContent-Length: 6\r\n" in head
    assert b"ransfer-" not in head
    assert b"Trailer" not in head
    assert await peer.exactly(6) == b"abcdef"
    await peer.send(OK)
    assert (await client.message()).status == 200
    assert (hops.records.kept[0].received, hops.records.kept[0].sent) == (6, 2)
    await client.send(GET)  # the connection persists
    assert (await peer.message()).start == b"GET / HTTP/1.1"


async def test_a_body_in_tiny_pieces_costs_what_it_weighs(hops: Hops) -> None:
    await hops.start(upstream={"buffer_request": 10_000})
    client = await hops.client()
    await client.send(HEAD + b"\r\n")
    await hops.quiet()
    before = sys.getallocatedblocks()
    for number in range(1500):
        await client.send(b"2\r\n%02d\r\n" % (number % 100))
        await hops.quiet()
    assert sys.getallocatedblocks() < before + 1000
    await client.send(b"0\r\n\r\n")
    peer, head = await seen(hops)
    assert b"\r\nContent-Length: 3000\r\n" in head
    assert await peer.exactly(3000) == b"".join(b"%02d" % n for n in range(100)) * 15


async def test_an_empty_chunked_body_has_length_0(hops: Hops) -> None:
    await hops.start(upstream={"buffer_request": 6})
    client = await hops.client()
    await client.send(HEAD + b"\r\n0\r\n\r\n")
    peer, head = await seen(hops)
    assert b"\r\nContent-Length: 0\r\n" in head
    await peer.send(OK)
    assert (await client.message()).status == 200


async def test_a_larger_body_passes_as_it_comes(hops: Hops) -> None:
    await hops.start(upstream={"buffer_request": 6})
    client = await hops.client()
    await client.send(HEAD + b"\r\n7\r\nabcdefg\r\n")
    peer, head = await seen(hops)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert await peer.until(b"g\r\n") == b"7\r\nabcdefg\r\n"
    await client.send(b"1\r\nh\r\n0\r\n\r\n")
    assert await peer.until(b"0\r\n\r\n") == b"1\r\nh\r\n0\r\n\r\n"
    await peer.send(OK)
    assert (await client.message()).status == 200
    assert hops.records.kept[0].received == 8


@pytest.mark.parametrize("size", [6, 5])
async def test_a_client_that_waits_for_100_gets_one(hops: Hops, size: int) -> None:
    await hops.start(upstream={"buffer_request": size})
    client = await hops.client()
    await client.send(HEAD + b"Expect: 100-continue\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"6\r\nabcdef\r\n0\r\n\r\n")
    peer, head = await seen(hops)
    assert (b"Expect" in head) is (size == 5)
    body = b"abcdef" if size == 6 else b"6\r\nabcdef\r\n0\r\n\r\n"
    assert await peer.exactly(len(body)) == body
    await peer.send((b"HTTP/1.1 100 Continue\r\n\r\n" if size == 5 else b"") + OK)
    assert (await client.message()).status == 200


async def test_what_goes_wrong_while_a_body_is_collected(hops: Hops) -> None:
    await hops.start(upstream={"buffer_request": 100}, client={"max_body_size": 4})
    for rest, status in (
        (b"\r\n5\r\nabcde\r\n0\r\n\r\n", 413),
        (b"\r\nnonsense\r\n", 400),
        (b"\r\n2\r\nab\r\n", 408),
    ):
        client = await hops.client()
        await client.send(HEAD + rest)
        assert (await client.message()).status == status
        await client.gone()
    client = await hops.client()
    await client.send(HEAD + b"\r\n2\r\nab\r\n")
    client.close()
    await hops.quiet()
    assert hops.records.kept[-1].cause == "client_closed"
    assert not hops.origins[0].waiting()


async def test_a_collected_body_is_sent_again_where_that_is_safe(hops: Hops) -> None:
    await hops.start(upstream={"buffer_request": 100})
    client, peer = await hops.pair()
    await client.send(HEAD.replace(b"POST", b"PUT") + b"\r\n2\r\nab\r\n0\r\n\r\n")
    await peer.message()
    peer.close()
    again = await hops.origins[0].accept()
    assert (await again.message()).body == b"ab"
    await again.send(OK)
    assert (await client.message()).status == 200

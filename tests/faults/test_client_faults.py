"""Whatever a client does, the origin's link and the other clients do not suffer for it."""

from __future__ import annotations

import pytest
import trio

from hopproxy.link.client import ClientLink
from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.unfinished import UnfinishedRequest
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = {"head_timeout": 6.0, "body_timeout": 4.0, "linger_timeout": 1.0}

#: What it sends and then leaves, before anything of it can be answered.
LEAVES = [
    pytest.param(b"", id="before a byte"),
    pytest.param(b"GE", id="inside a method"),
    pytest.param(GET[:-2], id="inside a head"),
    pytest.param(POST + b"four", id="inside a body"),
    pytest.param(CHUNKED + b"9\r\nfour", id="inside a chunk"),
    pytest.param(CHUNKED + b"4\r\nfour\r\n0\r\nX-", id="inside a trailer"),
    pytest.param(GET, id="while the response is awaited"),
]


@pytest.mark.parametrize("sent", LEAVES)
@pytest.mark.parametrize("resets", [False, True], ids=["FIN", "RST"])
async def test_a_client_that_leaves_takes_its_link_along_and_no_other(
    tcp_hops: Hops, sent: bytes, resets: bool
) -> None:
    hops = tcp_hops
    await hops.start(client=LIMITS)
    bystander, upstream = await hops.pair()
    client = await hops.client()
    await client.send(sent)
    await hops.quiet()
    if resets:
        client.reset()
    else:
        client.close()
    await hops.quiet()
    assert len(hops.runtime.clients.links) == 1
    hops.check_ledger()
    await bystander.send(GET)
    if hops.closes(Hop.UPSTREAM):  # a request was half sent on the only link
        upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(OK)
    assert (await bystander.message()).status == 200


async def dribble(peer: Peer, start: bytes) -> None:
    """A byte each second, until the gateway has had enough."""
    await peer.send(start)
    try:
        while True:
            await trio.sleep(1)
            await peer.send(b"x")
    except OSError:
        return


async def test_dribbled_heads_cost_the_honest_nothing_and_end_at_head_timeout(hops: Hops) -> None:
    await hops.start(client=LIMITS)
    honest, upstream = await hops.pair()
    attackers = [await hops.client() for _ in range(100)]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for attacker in attackers:
            nursery.start_soon(dribble, attacker, b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(5):
            before = trio.current_time()
            assert (await hops.again(honest, upstream)).status == 200
            assert trio.current_time() == before  # in virtual time it waited for nobody
            await trio.sleep(1)
        for attacker in attackers:
            assert (await attacker.message()).status == 408
        assert trio.current_time() - began == pytest.approx(LIMITS["head_timeout"])
        await trio.sleep(LIMITS["linger_timeout"])
        await hops.quiet()
        assert len(hops.runtime.clients.links) == 1
        assert hops.closes(Hop.CLIENT).count(CloseReason.HEAD_TIMEOUT) == len(attackers)
        nursery.cancel_scope.cancel()


async def test_endless_chunk_extensions_and_trailers_are_refused(hops: Hops) -> None:
    await hops.start(client=LIMITS)
    for flood in (b"1;" + b"x" * 5000, b"0\r\n" + b"X: y\r\n" * 5000):
        client = await hops.client()
        await client.send(CHUNKED)
        upstream = await hops.origins[0].accept()
        await client.send(flood)
        assert (await client.message()).status == 400
        await upstream.until(b"\r\n\r\n")
        assert await upstream.rest() == b""  # no last chunk: it must not look whole
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE] * 2


async def test_a_crowd_of_slow_readers_does_not_hold_up_the_others(hops: Hops) -> None:
    await hops.start(client={**LIMITS, "write_timeout": 30.0})
    honest, upstream = await hops.pair()
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(900000)
    async with trio.open_nursery() as nursery:
        holder = await hops.client()
        await holder.send(GET)  # the idle link is in use: each slow reader has one of its own
        await upstream.message()
        for _ in range(10):
            _, other = await hops.asked()
            nursery.start_soon(_push, other, big)
        await hops.quiet()
        await upstream.send(OK)
        assert (await holder.message()).status == 200
        assert (await hops.again(honest, upstream)).status == 200
        await trio.sleep(31)
        assert hops.closes(Hop.CLIENT).count(CloseReason.WRITE_TIMEOUT) == 10
        nursery.cancel_scope.cancel()


async def _push(peer: Peer, data: bytes) -> None:
    try:
        await peer.send(data)
    except OSError:
        return


async def test_what_was_looked_at_of_a_head_is_not_looked_at_again(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that comes byte by byte must not cost the square of its length."""
    looked_at = 0
    check, take = UnfinishedRequest.check, ClientLink.take_head

    def counted(head: UnfinishedRequest, start: bytes) -> None:
        nonlocal looked_at
        looked_at += len(start) - head._read
        check(head, start)

    def counted_too(link: ClientLink, limit: int, read: int = 0) -> bytes | None:
        nonlocal looked_at
        looked_at += len(link.buffer) - read
        return take(link, limit, read)

    monkeypatch.setattr(UnfinishedRequest, "check", counted)
    monkeypatch.setattr(ClientLink, "take_head", counted_too)
    await hops.start(client=LIMITS)
    client = await hops.client()
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300 + b"\r\n\r\n"
    for at in range(len(head)):
        await client.send(head[at : at + 1])
        await hops.quiet()
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).status == 200
    assert looked_at <= 4 * len(head)

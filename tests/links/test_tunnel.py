"""After a switch of protocols: both ways, half-close, silence; and what is no switch at all."""

from __future__ import annotations

import random

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"


async def tunnel(hops: Hops) -> tuple[Peer, Peer]:
    """Both ends of an upgraded connection."""
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(SWITCH)
    answer = await client.message()
    assert (answer.status, answer.values(b"upgrade")) == (101, [b"chat"])
    return client, upstream


async def test_bytes_pass_both_ways_as_they_are(hops: Hops) -> None:
    await hops.start()
    client, upstream = await tunnel(hops)
    await client.send(b"\0GET\r\n\r\n")
    assert await upstream.exactly(8) == b"\0GET\r\n\r\n"
    await upstream.send(b"HTTP/1.1 \xff")
    assert await client.exactly(10) == b"HTTP/1.1 \xff"


async def test_a_half_close_passes_and_the_other_way_goes_on(hops: Hops) -> None:
    await hops.start()
    client, upstream = await tunnel(hops)
    client.finish()
    assert await upstream.rest() == b""
    await trio.sleep(100)
    await upstream.send(b"still")
    assert await client.exactly(5) == b"still"
    upstream.finish()
    assert await client.rest() == b""
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.TUNNEL_ENDED]
    assert not hops.runtime.clients.links


async def test_what_was_sent_behind_each_head_is_the_first_of_the_tunnel(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(UPGRADE + b"early")
    upstream = await origin.accept()
    await upstream.message()
    await hops.quiet()
    assert upstream.pending() == b"", "not one byte before the 101"
    await upstream.send(SWITCH + b"first")
    await client.message()
    assert await client.exactly(5) == b"first"
    assert await upstream.exactly(5) == b"early"


async def test_silence_of_both_sides_ends_it_at_the_limit(hops: Hops) -> None:
    await hops.start(upstream={"tunnel_timeout": 50.0})
    client, upstream = await tunnel(hops)
    for speaker, listener in ((client, upstream), (upstream, client)):
        await trio.sleep(49)
        await speaker.send(b"x")
        await listener.exactly(1)
    began = trio.current_time()
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(50.0)
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.TUNNEL_TIMEOUT]


async def test_a_side_that_breaks_takes_the_other_along(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tunnel(tcp_hops)
    client.reset()
    assert await upstream.rest() == b""
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET]


async def test_a_side_that_does_not_read_stops_the_other(hops: Hops) -> None:
    await hops.start()
    client, _ = await tunnel(hops)
    sent = 0
    with trio.move_on_after(5):
        while sent < 20_000_000:
            await client.send(bytes(32768))
            sent += 32768
    assert sent < 2_000_000


async def _say(peer: Peer, data: bytes) -> None:
    await peer.send(data)
    peer.finish()


async def _read_slowly(peer: Peer, found: list[bytes]) -> None:
    while data := await peer.sock.recv(70_000):
        found.append(data)
        await trio.sleep(0.5)


async def test_slow_readers_of_both_sides_get_every_byte(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tunnel(tcp_hops)
    outwards, inwards = (random.Random(seed).randbytes(2_000_001 + seed) for seed in (2, 3))
    at_origin: list[bytes] = []
    at_client: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say, client, outwards)
        nursery.start_soon(_say, upstream, inwards)
        nursery.start_soon(_read_slowly, client, at_client)
        nursery.start_soon(_read_slowly, upstream, at_origin)
    assert (b"".join(at_origin), b"".join(at_client)) == (outwards, inwards)
    await tcp_hops.quiet()
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.TUNNEL_ENDED]
    [record] = tcp_hops.records.kept
    assert (record.sent, record.received) == (len(inwards), len(outwards))


async def test_last_words_before_a_reset_are_passed_on(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tunnel(tcp_hops)
    await client.send(b"unread")
    await tcp_hops.quiet()
    await upstream.send(b"last words")
    upstream.close()  # with bytes unread: RST
    assert await client.rest() == b"last words"


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"chat", b"other"),
        SWITCH.replace(b"Upgrade: chat\r\n", b""),
        b"HTTP/1.1 101 Switching\r\nUpgrade: chat\r\n\r\n",
    ],
    ids=["another protocol", "no protocol", "not named in Connection"],
)
async def test_a_wrong_101_is_a_bad_response(hops: Hops, answer: bytes) -> None:
    await hops.start()
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(answer)
    assert (await client.message()).status == 502
    assert await upstream.rest() == b""


async def test_a_101_that_nobody_asked_for_is_a_bad_response(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(GET)
    await upstream.send(SWITCH)
    assert (await client.message()).status == 502
    assert await upstream.rest() == b""


async def test_an_upgrade_that_is_declined_leaves_the_links_as_they_were(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_request_behind_a_declined_upgrade_is_read_as_http(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(UPGRADE + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert (await upstream.message()).start == b"GET /next HTTP/1.1"
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"

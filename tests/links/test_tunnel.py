"""After a switch of protocols: both ways, half-close, silence; and what is no switch at all."""

from __future__ import annotations

import random

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
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


@pytest.mark.parametrize("breaks", [Hop.CLIENT, Hop.UPSTREAM], ids=lambda hop: hop.value)
async def test_a_side_that_breaks_takes_the_other_along(tcp_hops: Hops, breaks: Hop) -> None:
    await tcp_hops.start()
    client, upstream = await tunnel(tcp_hops)
    broken, other = (client, upstream) if breaks is Hop.CLIENT else (upstream, client)
    broken.reset()
    assert await other.rest() == b""
    await tcp_hops.quiet()
    # Nobody is blamed for what the other peer did.
    for hop in Hop:
        reset = hop is breaks
        reason = CloseReason.PEER_RESET if reset else CloseReason.TUNNEL_ENDED
        assert tcp_hops.closes(hop) == [reason]


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


async def test_a_101_without_an_upgrade_request_is_a_bad_response(hops: Hops) -> None:
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


# -- an upgrade with a body --------------------------------------------------------------------

#: What `docker exec` sends.
EXEC = (
    b"POST /v1.46/exec/1f/start HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/27.0\r\n"
    b"Content-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
)
EXEC_BODY = b'{"Detach":false,"Tty":true}'
EXEC_SWITCH = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
SIZE = b"Content-Length: %d\r\n" % len(EXEC_BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EXEC_BODY), EXEC_BODY)

#: An upgrade whose body comes with its head, behind it, or in chunks: what is sent, piece by piece.
EXECS = {
    "whole": [EXEC + SIZE + b"\r\n" + EXEC_BODY],
    "behind its head": [EXEC + SIZE + b"\r\n", EXEC_BODY],
    "in pieces": [EXEC + SIZE + b"\r\n" + EXEC_BODY[:5], EXEC_BODY[5:]],
    "chunked": [EXEC + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS],
    "chunked, behind its head": [EXEC + b"Transfer-Encoding: chunked\r\n\r\n", CHUNKS],
}


async def exec_asked(hops: Hops, pieces: list[bytes], behind: bytes = b"") -> tuple[Peer, Peer]:
    """A client and an origin that has read the upgrade sent in these pieces, with its body."""
    client = await hops.client()
    for piece in pieces[:-1]:
        await client.send(piece)
        await hops.quiet()
    await client.send(pieces[-1] + behind)
    upstream = await hops.origins[0].accept()
    request = await upstream.message()
    assert request.body == EXEC_BODY
    assert request.values(b"upgrade") == [b"tcp"]
    assert request.values(b"connection") == [b"Upgrade"]
    await hops.quiet()
    assert upstream.pending() == b"", "not one byte before the 101"
    return client, upstream


@pytest.mark.parametrize("pieces", EXECS.values(), ids=EXECS)
async def test_an_upgrade_with_a_body_switches_once_the_body_was_sent(
    hops: Hops, pieces: list[bytes]
) -> None:
    await hops.start()
    client, upstream = await exec_asked(hops, pieces, behind=b"ls\n")
    await upstream.send(EXEC_SWITCH + b"$ ")
    answer = await client.message()
    assert (answer.status, answer.values(b"upgrade")) == (101, [b"tcp"])
    assert await client.exactly(2) == b"$ "
    assert await upstream.exactly(3) == b"ls\n"
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await upstream.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"
    client.finish()
    assert await upstream.rest() == b""
    upstream.finish()
    assert await client.rest() == b""
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.TUNNEL_ENDED]
    assert not hops.runtime.pool.links, "a link that was switched is never pooled"
    [record] = hops.records.kept
    assert (record.status, record.received, record.sent) == (101, len(EXEC_BODY) + 3 + 18, 2)


@pytest.mark.parametrize("pieces", EXECS.values(), ids=EXECS)
async def test_what_follows_an_upgrade_with_a_body_that_is_declined_is_read_as_http(
    hops: Hops, pieces: list[bytes]
) -> None:
    await hops.start()
    client, upstream = await exec_asked(
        hops, pieces, behind=b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert await upstream.rest() == b"", "its origin may take the body for a request"
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UPGRADE_DECLINED]
    upstream = await hops.origins[0].accept()
    request = await upstream.message()
    assert request.start == b"GET /next HTTP/1.1"
    assert request.values(b"via") == [b"1.1 hopproxy"], "it was read, and not passed on blindly"
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_an_upgrade_without_a_body_that_is_declined_leaves_the_link_in_the_pool(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert (await hops.again(client, upstream)).status == 200


async def test_the_stream_behind_a_declined_upgrade_with_a_body_reaches_no_origin(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await exec_asked(hops, EXECS["whole"], behind=b"ls -l\nexit\n")
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert (await client.message()).status == 400
    assert await client.rest() == b""
    assert await upstream.rest() == b""
    assert not hops.origins[0].waiting()


async def test_a_101_that_comes_before_the_whole_body_waits_for_it(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(EXEC + SIZE + b"\r\n" + EXEC_BODY[:5])
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n" + EXEC_BODY[:5])
    await upstream.send(EXEC_SWITCH + b"$ ")
    await hops.quiet()
    assert client.pending() == b"", "the client is inside its request"
    await client.send(EXEC_BODY[5:] + b"ls\n")
    assert (await client.message()).status == 101
    assert await client.exactly(2) == b"$ "
    assert await upstream.exactly(len(EXEC_BODY) - 5 + 3) == EXEC_BODY[5:] + b"ls\n"


async def test_a_101_instead_of_a_100_lets_the_body_go_and_then_switches(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(EXEC + SIZE + b"Expect: 100-continue\r\n\r\n")
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(EXEC_SWITCH)
    assert (await client.message()).status == 100
    await client.send(EXEC_BODY + b"ls\n")
    assert (await client.message()).status == 101
    assert await upstream.exactly(len(EXEC_BODY) + 3) == EXEC_BODY + b"ls\n"


async def test_an_origin_that_switches_and_takes_no_more_of_the_body_is_a_bad_gateway(
    tcp_hops: Hops,
) -> None:
    origin = await tcp_hops.start()
    client = await tcp_hops.client()
    await client.send(EXEC + SIZE + b"\r\n" + EXEC_BODY[:5])
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n" + EXEC_BODY[:5])
    await upstream.send(EXEC_SWITCH)
    await tcp_hops.quiet()
    upstream.reset()
    await tcp_hops.quiet()
    await client.send(EXEC_BODY[5:])
    assert (await client.message()).status == 502
    assert CloseReason.BAD_RESPONSE in tcp_hops.closes(Hop.UPSTREAM)


async def test_a_client_that_leaves_between_its_101_and_the_end_of_its_body(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(EXEC + SIZE + b"\r\n" + EXEC_BODY[:5])
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n" + EXEC_BODY[:5])
    await upstream.send(EXEC_SWITCH)
    await hops.quiet()
    client.close()
    assert await upstream.rest() == b""
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


async def test_a_tunnel_whose_sides_end_together_has_ended_well(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(SWITCH)
    await client.message()
    await hops.quiet()
    upstream.finish()
    client.finish()
    await hops.quiet()
    assert hops.records.kept[-1].cause == ""
    assert hops.closes(Hop.CLIENT) == hops.closes(Hop.UPSTREAM) == [CloseReason.TUNNEL_ENDED]

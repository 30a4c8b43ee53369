"""The client-facing hop: its limits, each with what the client sees and when."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hopproxy.reasons import CloseReason, Hop
from tests import drivers
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)


async def seconds_to_the_end(peer: Peer) -> tuple[float, bytes]:
    """How long the connection lasted from now, and what came before its FIN."""
    began = trio.current_time()
    data = await peer.rest()
    return round(trio.current_time() - began, 6), data


async def flood(hops: Hops, peer: Peer) -> int:
    """Send until the connection breaks, which it must; how many bytes it took."""
    sent = 0
    try:
        while sent < 10_000_000:
            sent += await peer.sock.send(bytes(50_000))
            await hops.quiet()
    except ConnectionError:
        pass
    return sent


async def test_an_idle_client_gets_a_fin_at_the_limit_and_not_a_byte(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 40.0})
    client, _ = await hops.pair()
    assert await seconds_to_the_end(client) == (40.0, b"")
    assert hops.closes(Hop.CLIENT) == [CloseReason.IDLE_TIMEOUT]


async def test_each_request_starts_the_idle_limit_again(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 40.0}, pool={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    for _ in range(3):
        await trio.sleep(39)
        assert (await hops.again(client, upstream)).body == b"ok"
    assert await seconds_to_the_end(client) == (40.0, b"")


async def test_a_silent_new_connection_has_the_shorter_limit_of_a_head(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 40.0, "head_timeout": 7.0})
    client = await hops.client()
    assert await seconds_to_the_end(client) == (7.0, b"")


async def test_empty_lines_do_not_buy_a_new_connection_more_time(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 40.0, "head_timeout": 7.0})
    client = await hops.client()
    await trio.sleep(5)
    await client.send(b"\r\n")
    assert await seconds_to_the_end(client) == (2.0, b"")


async def test_a_head_that_dribbles_is_answered_408_at_the_limit(hops: Hops) -> None:
    await hops.start(client={"head_timeout": 7.0, "linger_timeout": 1.0})
    client = await hops.client()
    await hops.quiet()
    began = trio.current_time()

    async def dribble() -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: a":
            await client.send(bytes([byte]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        assert (await client.message()).status == 408
        assert trio.current_time() - began == pytest.approx(7.0)
        nursery.cancel_scope.cancel()
    client.finish()
    assert await client.rest() == b""
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HEAD_TIMEOUT]


async def test_a_head_that_comes_byte_by_byte_in_time_is_served(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    for byte in GET:
        await client.send(bytes([byte]))
        await hops.quiet()
    upstream = await origin.accept()
    assert (await upstream.message()).start == b"GET / HTTP/1.1"
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_body_that_stalls_is_answered_408_and_the_upstream_link_closed(
    hops: Hops,
) -> None:
    origin = await hops.start(client={"body_timeout": 9.0, "body_rate": 0, "linger_timeout": 1.0})
    client = await hops.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
    upstream = await origin.accept()
    await upstream.until(b"123")
    began = trio.current_time()
    answer = await client.message()
    assert trio.current_time() - began == pytest.approx(9.0)
    assert answer.status == 408
    assert answer.values(b"connection") == [b"close"]
    assert await upstream.rest() == b""


async def test_a_client_that_does_not_read_is_cut_after_the_write_timeout(
    tcp_hops: Hops,
) -> None:
    hops = tcp_hops
    origin = await hops.start(client={"write_timeout": 11.0})
    client = await hops.client(receive_buffer=4096)
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    began = trio.current_time()
    size = 64 << 20
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await upstream.send(bytes(size))
    assert trio.current_time() - began == pytest.approx(11.0)
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]


async def test_the_last_of_max_requests_says_close_and_is_the_last(hops: Hops) -> None:
    await hops.start(client={"max_requests": 3})
    client, upstream = await hops.pair()
    assert (await hops.again(client, upstream)).values(b"connection") == []
    assert (await hops.again(client, upstream)).values(b"connection") == [b"close"]
    assert await client.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.REQUEST_LIMIT]


async def test_past_max_age_the_next_response_says_close(hops: Hops) -> None:
    await hops.start(client={"max_age": 50.0, "idle_timeout": 75.0})
    client, upstream = await hops.pair()
    await trio.sleep(49)
    assert (await hops.again(client, upstream)).values(b"connection") == []
    await trio.sleep(1)
    assert (await hops.again(client, upstream)).values(b"connection") == [b"close"]
    assert await client.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.MAX_AGE]


async def test_pipelined_requests_are_answered_in_order(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    upstream = await origin.accept()
    for number in range(3):
        assert (await upstream.message()).start == b"GET /%d HTTP/1.1" % number
        await hops.quiet()
        assert upstream.pending() == b""
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert (await client.message()).body == b"%d" % number


async def test_a_request_behind_connection_close_is_not_served(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
    upstream = await origin.accept_and_answer()
    assert (await client.message()).values(b"connection") == [b"close"]
    assert await client.rest() == b""
    await hops.quiet()
    assert upstream.pending() == b""


async def test_empty_lines_before_a_request_are_ignored(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(b"\r\n\r\n" + GET)
    upstream = await origin.accept()
    assert (await upstream.message()).start == b"GET / HTTP/1.1"
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_empty_lines_are_not_ignored_for_ever(hops: Hops) -> None:
    await hops.start(client={"head_timeout": 7.0})
    client = await hops.client()
    await hops.quiet()
    began = trio.current_time()
    await client.send(b"\r\n" * 9)
    assert (await client.message()).status == 400
    assert trio.current_time() == began


async def test_tls_on_the_plain_port_is_refused_at_once(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    began = trio.current_time()
    await client.send(CLIENT_HELLO)
    assert (await client.message()).status == 400
    client.finish()
    assert await client.rest() == b""
    assert trio.current_time() == began


async def test_a_refused_client_that_keeps_silent_is_let_go_after_the_linger_timeout(
    hops: Hops,
) -> None:
    await hops.start(client={"linger_timeout": 3.0})
    client = await hops.client()
    await client.send(b"NOT HTTP\r\n\r\n")
    assert (await client.message()).status == 400
    began = trio.current_time()
    assert await client.rest() == b""
    assert trio.current_time() == began, "FIN comes at once; only the reading goes on"
    await trio.sleep(4)
    assert hops.runtime.closes.last[0].at - began == pytest.approx(3.0)


async def test_lingering_reads_no_more_than_its_size(hops: Hops) -> None:
    await hops.start(client={"linger_timeout": 600.0, "linger_size": 200_000})
    client = await hops.client()
    await client.send(b"NOT HTTP\r\n\r\n")
    assert (await client.message()).status == 400
    assert 200_000 <= await flood(hops, client) < 600_000


async def test_a_body_refused_by_its_length_alone_does_not_destroy_the_answer(
    tcp_hops: Hops,
) -> None:
    hops = tcp_hops
    await hops.start(client={"max_body_size": 1000})
    client = await hops.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await hops.quiet()
    await client.send(bytes(100_000))
    await hops.quiet()
    assert (await client.message()).status == 413
    client.finish()
    assert await client.rest() == b""


async def test_past_max_connections_the_longest_idle_makes_room(hops: Hops) -> None:
    await hops.start(client={"max_connections": 2, "head_timeout": 60.0})
    first, upstream = await hops.pair()
    await trio.sleep(1)
    second = await hops.client()
    await trio.sleep(1)
    assert (await hops.again(first, upstream)).status == 200
    await trio.sleep(1)
    third = await hops.client()
    assert await seconds_to_the_end(second) == (0.0, b"")
    assert (await hops.again(first, upstream)).status == 200
    assert (await hops.again(third, upstream)).status == 200
    assert hops.closes(Hop.CLIENT) == [CloseReason.MADE_ROOM]


@pytest.mark.skipif(
    drivers.DRIVER == "tasks",
    reason="a task closes its link at its next turn; who has tasks accepts nobody",
)
async def test_connections_that_come_together_each_make_their_room(hops: Hops) -> None:
    await hops.start(client={"max_connections": 2, "head_timeout": 60.0})
    for _ in range(2):
        await hops.client()
        await hops.quiet()
    for _ in range(4):
        await hops.client()
    await hops.quiet()
    assert len(hops.runtime.clients.links) == 2


async def test_a_client_that_sent_empty_lines_only_makes_room_too(hops: Hops) -> None:
    await hops.start(client={"max_connections": 1, "head_timeout": 60.0})
    first = await hops.client()
    await first.send(b"\r\n")
    await hops.quiet()
    await hops.client()
    assert await seconds_to_the_end(first) == (0.0, b"")


async def test_a_busy_client_does_not_make_room(hops: Hops) -> None:
    await hops.start(client={"max_connections": 1})
    busy, upstream = await hops.asked()
    await hops.client()
    await hops.quiet()
    assert len(hops.runtime.clients.links) == 1  # the new one waits in the kernel's queue
    await upstream.send(OK)
    assert (await busy.message()).body == b"ok"


async def test_a_client_that_ends_inside_a_head_is_not_answered(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(GET[:20])
    await hops.quiet()
    client.finish()
    assert await client.rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.INCOMPLETE]


async def test_a_client_that_closes_between_two_requests_ends_its_link(hops: Hops) -> None:
    await hops.start()
    client, _ = await hops.pair()
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    assert not hops.runtime.clients.links


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the system has no TCP_INFO")
@pytest.mark.parametrize(
    "part",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nok",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"GET / HTTP/1.1\r\n",
    ],
)
async def test_the_first_part_of_a_request_is_acknowledged_at_once(hops: Hops, part: bytes) -> None:
    """Until then, Nagle's algorithm keeps back the rest of it."""
    hops.tcp = True
    await hops.start()
    client, upstream = await hops.pair()
    await hops.again(client, upstream)
    await client.send(part)
    await wait_all_tasks_blocked(0.005)  # far less than the kernel's delay of 40 ms
    assert client.unacknowledged() == 0

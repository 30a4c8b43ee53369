"""What happens on several sockets at once comes in one batch of events."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET
from tests.wire_pair import Hops

PIECE = b"HTTP/1.1 200 OK\r\nCont"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize(
    ("reused", "first"),
    [
        pytest.param(False, HINTS, id="interim, new link"),
        pytest.param(True, HINTS, id="interim, reused link"),
        pytest.param(
            False,
            PIECE,
            id="piece, new link",
        ),
        pytest.param(True, PIECE, id="piece, reused link"),
    ],
)
async def test_a_client_that_leaves_while_its_answer_begins_is_not_waited_for(
    hops: Hops, reused: bool, first: bytes
) -> None:
    await hops.start(upstream={"response_timeout": 60.0})
    client, upstream = await hops.asked(reused=reused)
    await hops.quiet()
    began = trio.current_time()
    upstream.send_at_once(first)
    client.close()
    await upstream.gone()
    assert trio.current_time() == began
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


@pytest.mark.parametrize("reused", [False, True], ids=["new link", "reused link"])
async def test_a_client_that_leaves_while_a_body_comes_is_not_waited_for(
    hops: Hops, reused: bool
) -> None:
    await hops.start(upstream={"body_timeout": 60.0})
    client, upstream = await hops.asked(reused=reused)
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    await client.until(b"ab")
    began = trio.current_time()
    upstream.send_at_once(b"c")
    client.close()
    await upstream.gone()
    assert trio.current_time() == began


async def test_unsolicited_bytes_that_came_with_a_request_are_not_its_answer(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    client.send_at_once(GET)
    upstream.send_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"
    with pytest.raises(ConnectionResetError):  # with its bytes unread, and nothing asked on it
        await upstream.sock.recv(1)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]


@pytest.mark.parametrize("at", [1, 10, len(GET) - 1])
async def test_urgent_data_does_not_hold_up_a_whole_head(tcp_hops: Hops, at: int) -> None:
    origin = await tcp_hops.start(client={"head_timeout": 10.0})
    client = await tcp_hops.client()
    await tcp_hops.quiet()
    with socket.socket(fileno=os.dup(client.sock.fileno())) as raw:
        raw.send(GET[:at], socket.MSG_OOB)
        raw.send(GET[at:])
    start = b""
    with trio.move_on_after(5):
        start = (await (await origin.accept()).message()).start
    await tcp_hops.leave()
    assert start == b"GET / HTTP/1.1"

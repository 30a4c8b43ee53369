"""HTTP/2 clients as others see them, WebSockets in streams, credentials, and TLS."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest
import trio

from hopproxy.link.h2 import H2Link
from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.metrics import Metrics
from hopproxy.observe.snapshot import links_of
from hopproxy.reasons import Hop
from tests.h2_peer import (
    CANCEL,
    DATA,
    END_STREAM,
    GET,
    HTTP_1_1_REQUIRED,
    PROTOCOL_ERROR,
    RST_STREAM,
    H2Peer,
    frame,
    get,
    number,
)
from tests.raw_peers import OK, Peer
from tests.wire_pair import Hops

WEBSOCKET = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    *GET[1:],
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-protocol", b"chat"),
]
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def connected(hops: Hops) -> H2Peer:
    """A worker, and a client whose connection has begun."""
    await hops.start()
    peer = H2Peer(await hops.client())
    await peer.start()
    return peer


async def opened(hops: Hops, h2: H2Peer) -> tuple[int, Peer]:
    """A WebSocket that the origin has accepted."""
    stream = await h2.request(WEBSOCKET, end=False)
    upstream = await hops.origins[0].accept()
    seen = await upstream.message()
    assert seen.start == b"GET / HTTP/1.1"
    assert seen.values(b"connection") == [b"Upgrade"]
    assert seen.values(b"upgrade") == [b"websocket"]
    [key] = seen.values(b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    await upstream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
    while not h2.answers.get(stream):
        await h2.read()
    return stream, upstream


async def test_a_websocket_is_a_stream(hops: Hops) -> None:
    """RFC 8441 section 5, on both hops."""
    h2 = await connected(hops)
    assert h2.settings[8] == 1
    stream, upstream = await opened(hops, h2)
    answer = h2.answers[stream]
    assert answer.heads[0][0] == (b":status", b"200")
    assert answer.values(b"sec-websocket-protocol") == [b"chat"]
    assert answer.values(b"sec-websocket-accept") == []
    assert answer.values(b"upgrade") == []
    await h2.data(stream, b"ping")
    assert await upstream.exactly(4) == b"ping"
    await upstream.send(b"pong" * 50_000)
    while len(answer.body) < 65535:
        await h2.read()
    await h2.send(frame(8, 0, 0, number(1 << 20)), frame(8, 0, stream, number(1 << 20)))
    while len(answer.body) < 200_000:
        await h2.read()
    for _ in range(20):  # more than a window
        await h2.data(stream, b"x" * 8000)
        assert await upstream.exactly(8000) == b"x" * 8000
    rows = await links_of(hops.runtime)
    assert rows["clients"][0]["streams"][0]["state"] == "upgraded"
    await h2.data(stream, b"", end=True)
    assert await upstream.rest() == b""
    upstream.close()
    assert (await h2.answer(stream)).ended
    await hops.quiet()
    assert hops.records.kept[0].upgraded
    assert (hops.records.kept[0].sent, hops.records.kept[0].received) == (200_000, 160_004)
    assert hops.closes(Hop.CLIENT) == []


async def test_a_websocket_ends_with_a_reset_from_either_side(hops: Hops) -> None:
    h2 = await connected(hops)
    stream, upstream = await opened(hops, h2)
    await h2.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
    await upstream.gone()
    stream, upstream = await opened(hops, h2)
    upstream.close()
    assert (await h2.answer(stream)).ended
    await h2.data(stream, b"", end=True)


async def test_a_websocket_that_is_silent_for_too_long_ends(hops: Hops) -> None:
    await hops.start(upstream={"tunnel_timeout": 50.0})
    h2 = H2Peer(await hops.client())
    await h2.start()
    stream, upstream = await opened(hops, h2)
    began = trio.current_time()
    await upstream.gone()
    assert trio.current_time() - began == 50.0
    assert (await h2.answer(stream)).reset is not None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(OK, 502, id="200 would say that there is a tunnel"),
        pytest.param(
            b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n",
            502,
            id="the key of somebody else",
        ),
        pytest.param(b"HTTP/1.1 403 No\r\nDate: x\r\nContent-Length: 0\r\n\r\n", 403, id="refused"),
    ],
)
async def test_a_websocket_that_is_not_accepted_is_answered(
    hops: Hops, answer: bytes, status: int
) -> None:
    h2 = await connected(hops)
    stream = await h2.request(WEBSOCKET, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(answer)
    assert (await h2.answer(stream)).status == status


async def test_credentials_of_a_connection_need_http1(hops: Hops) -> None:
    """Many requests share the connection: browsers ask again over HTTP/1.1."""
    h2 = await connected(hops)
    answer = await h2.ask([*GET, (b"authorization", b"NTLM TlRMTVNTUAAB")])
    assert answer.reset == HTTP_1_1_REQUIRED
    assert not hops.origins[0].waiting()
    assert hops.records.kept[0].cause == "http_request_denied"
    assert hops.records.kept[0].status == 0
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    assert not link.streams


async def test_links_show_streams_and_what_each_uses(hops: Hops) -> None:
    h2 = await connected(hops)
    streams = [await h2.request(get(b"/%d" % place)) for place in range(2)]
    upstreams = [await hops.origins[0].accept() for _ in streams]
    await hops.quiet()
    rows = await links_of(hops.runtime)
    [client] = rows["clients"]
    assert (client["protocol"], client["state"], client["requests"]) == ("h2", "busy", 2)
    used = {row["coupled_to"]: row["stream"] for row in client["streams"]}
    assert sorted(used.values()) == [1, 3]
    for row in rows["upstreams"]:
        assert (row["coupled_to"], row["stream"]) == (client["number"], used[row["number"]])
    text = scrape(hops)
    assert 'hopproxy_client_streams{state="busy"} 2.0' in text
    await h2.send(frame(RST_STREAM, 0, streams[0], number(CANCEL)))
    await hops.quiet()
    for upstream in upstreams:
        await upstream.send(OK)
    await h2.answer(streams[1])
    text = scrape(hops)
    assert 'hopproxy_client_stream_resets_total{by="peer",code="CANCEL"} 1.0' in text
    assert "hopproxy_client_streams_opened_total 2.0" in text
    assert "hopproxy_client_h2_links 1.0" in text
    h2.peer.close()
    await hops.quiet()
    assert 'hopproxy_link_requests_total{hop="client"} 2.0' in scrape(hops)


def scrape(hops: Hops) -> str:
    return Metrics(hops.runtime, None).exposition("")[0].decode()


@pytest.fixture
def lines() -> Iterator[AccessLog]:
    log = AccessLog("json", 1)
    yield log
    log.log_writer.finish()


async def test_the_log_names_the_stream(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request()
    await (await hops.origins[0].accept()).send(OK)
    await h2.answer(1)
    [record] = hops.records.kept
    line = AccessLog("json", 1)._line(record)
    assert (line.client_stream, line.client_request) == (1, 1)
    assert f"link {record.link_number} stream 1" in AccessLog("text", 1)._sentence(record)


async def test_a_small_body_that_is_longer_or_shorter_than_it_said_is_refused(hops: Hops) -> None:
    """RFC 9113 section 8.1.1, whether the body came with its head or later."""
    h2 = await connected(hops)
    sized = [(b":method", b"POST"), *GET[1:], (b"content-length", b"3")]
    for body in (b"ab", b"abcd"):
        stream = h2.next
        await h2.send(h2.head(sized, end=False), frame(DATA, END_STREAM, stream, body))
        answer = await h2.answer(stream)
        assert (answer.statuses, answer.reset) == ([400], PROTOCOL_ERROR)
    assert [record.status for record in hops.records.kept] == [400, 400]
    assert hops.closes(Hop.UPSTREAM) == []
    assert not hops.origins[0].waiting()

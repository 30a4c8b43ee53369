"""WebSockets to origins that speak HTTP/2: an extended CONNECT (RFC 8441), from either protocol."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import trio

from hopproxy.observe.snapshot import links_of
from hopproxy.reasons import CloseReason, Hop
from tests.h2_origin import H2Peer as H2Origin
from tests.h2_origin import Request
from tests.h2_peer import CANCEL, DATA, END_STREAM, RST_STREAM, H2Peer, frame, number
from tests.links.test_alpn import H2, speaking
from tests.links.test_h2_seen import GUID, WEBSOCKET
from tests.raw_peers import GET, OK, Peer
from tests.tls_peers import TlsHops
from tests.wire_pair import Hops, nothing_left

ALLOWED = {8: 1}
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nOrigin: http://a\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
ACCEPTS = [(":status", "200"), ("sec-websocket-protocol", "chat")]


class Client(Protocol):
    """A client of a WebSocket, whatever it speaks."""

    async def ask(self) -> None: ...
    async def status(self) -> int: ...
    async def send(self, data: bytes, *, end: bool = False) -> None: ...
    async def exactly(self, count: int) -> bytes: ...
    async def ended(self) -> bool:
        """Wait for the end; whether it was in order."""

    async def break_off(self) -> None: ...


class Http1:
    """By HTTP/1.1's Upgrade."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def ask(self) -> None:
        await self.peer.send(HANDSHAKE)

    async def status(self) -> int:
        head = await self.peer.until(b"\r\n\r\n")
        if b" 101 " in head:
            accept = base64.b64encode(hashlib.sha1(KEY + GUID).digest())
            lines = head.lower().split(b"\r\n")
            assert b"sec-websocket-accept: " + accept.lower() in lines
            assert b"sec-websocket-protocol: chat" in lines
            assert b"upgrade: websocket" in lines
            assert b"connection: upgrade" in lines
            assert not any(line.startswith((b"content-length", b"transfer")) for line in lines)
        return int(head.split(b" ")[1])

    async def send(self, data: bytes, *, end: bool = False) -> None:
        await self.peer.send(data)
        if end:
            self.peer.finish()

    async def exactly(self, count: int) -> bytes:
        return await self.peer.exactly(count)

    async def ended(self) -> bool:
        try:
            assert await self.peer.rest() == b""
        except OSError:
            return False
        self.peer.close()
        return True

    async def break_off(self) -> None:
        self.peer.reset()


class Http2:
    """By HTTP/2's extended CONNECT."""

    def __init__(self, peer: Peer) -> None:
        self.h2 = H2Peer(peer)
        self.stream = 0
        self._taken = 0

    async def ask(self) -> None:
        await self.h2.start()
        self.stream = await self.h2.request(WEBSOCKET, end=False)
        await self.h2.send(frame(8, 0, 0, number(1 << 24)), frame(8, 0, 1, number(1 << 24)))

    async def status(self) -> int:
        while not self.h2.answers.get(self.stream):
            await self.h2.read()
        answer = self.h2.answers[self.stream]
        if answer.status == 200:
            assert answer.values(b"sec-websocket-protocol") == [b"chat"]
            assert answer.values(b"sec-websocket-accept") == answer.values(b"upgrade") == []
        return answer.status

    async def send(self, data: bytes, *, end: bool = False) -> None:
        await self.h2.send(frame(DATA, END_STREAM if end else 0, self.stream, data))

    async def exactly(self, count: int) -> bytes:
        answer = self.h2.answers[self.stream]
        while len(answer.body) < self._taken + count:
            await self.h2.read()
        self._taken += count
        return answer.body[self._taken - count : self._taken]

    async def ended(self) -> bool:
        answer = await self.h2.answer(self.stream)
        return answer.ended and answer.reset is None

    async def break_off(self) -> None:
        await self.h2.send(frame(RST_STREAM, 0, self.stream, number(CANCEL)))


@pytest.fixture(params=[Http1, Http2])
def kind(request: pytest.FixtureRequest) -> type[Http1 | Http2]:
    return request.param  # type: ignore[no-any-return]


Kind = type[Http1] | type[Http2]


async def asked(hops: Hops, kind: Kind) -> Client:
    """A client that has asked for a WebSocket."""
    client = kind(await hops.client())
    await client.ask()
    return client


async def accept(hops: Hops, settings: dict[int, int] | None = None) -> H2Origin:
    return H2Origin(await hops.origins[0].accept(), settings)


async def opened(hops: Hops, kind: Kind, **upstream: object) -> tuple[Client, H2Origin, Request]:
    """A WebSocket that the origin has accepted."""
    await hops.start(upstream={"protocol": "h2", **upstream})
    client = await asked(hops, kind)
    origin = await accept(hops, ALLOWED)
    request = await origin.request()
    await origin.respond(request.number, b"", ACCEPTS, ended=False)
    assert await client.status() in (101, 200)
    return client, origin, request


async def until(origin: H2Origin, request: Request, size: int) -> bytes:
    while len(request.body) < size:
        await origin.more()
    return request.body


async def test_the_handshake_is_translated(hops: Hops, kind: Kind) -> None:
    _client, _, request = await opened(hops, kind)
    fields = dict(request.fields)
    path = "/chat?x=1" if kind is Http1 else "/"
    assert [fields[name] for name in (":method", ":protocol", ":scheme", ":authority")] == [
        "CONNECT", "websocket", "http", "a",
    ]  # fmt: skip
    assert fields[":path"] == path
    assert fields["sec-websocket-version"] == "13"
    assert fields["sec-websocket-protocol"] == "chat"
    assert not {"sec-websocket-key", "connection", "upgrade", "host"} & set(fields)
    assert not request.ended


async def test_bytes_go_both_ways_and_each_side_ends_by_itself(hops: Hops, kind: Kind) -> None:
    client, origin, request = await opened(hops, kind)
    await client.send(b"ping")
    assert await until(origin, request, 4) == b"ping"
    async with trio.open_nursery() as nursery:  # more than a window, either way
        nursery.start_soon(origin.data, request.number, b"pong" * 50_000)
        assert await client.exactly(200_000) == b"pong" * 50_000
    for _ in range(20):
        await client.send(b"x" * 16_000)
        await origin.catch_up()
        await hops.quiet()
    await client.send(b"last", end=True)
    while not request.ended:
        await origin.more()
    assert request.body == b"ping" + b"x" * 320_000 + b"last"
    await origin.data(request.number, b"bye")
    assert await client.exactly(3) == b"bye"
    origin.h2.end_stream(request.number)
    await origin.send()
    assert await client.ended()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.status, record.upgraded, record.upstream_stream) == (101, True, 1)
    assert (record.sent, record.received) == (200_003, 320_008)
    assert hops.closes(Hop.UPSTREAM) == []
    assert len(hops.runtime.pool.links) == 1


async def test_a_websocket_shares_its_link_with_requests(hops: Hops, kind: Kind) -> None:
    client, origin, request = await opened(hops, kind)
    other = await hops.client()
    await other.send(GET)
    await origin.serve()
    assert (await other.message()).status == 200
    rows = await links_of(hops.runtime)
    assert len(rows["upstreams"]) == 1
    await client.break_off()
    await origin.stay(1)
    assert request.reset == (CANCEL if kind is Http2 else None)
    assert request.ended == (kind is Http1)  # a Unix socket knows no RST
    await other.send(GET)
    await origin.serve()
    assert (await other.message()).status == 200
    assert hops.closes(Hop.UPSTREAM) == []


@pytest.mark.parametrize("how", ["reset", "close", "goaway"])
async def test_an_origin_that_breaks_it_off_cuts_it(hops: Hops, kind: Kind, how: str) -> None:
    client, origin, request = await opened(hops, kind)
    if how == "reset":
        origin.h2.reset_stream(request.number, 2)
    elif how == "goaway":
        origin.h2.close_connection(1)
    await origin.send()
    if how != "reset":
        origin.peer.close()
    in_order = await client.ended()
    assert kind is Http1 or not in_order  # a Unix socket knows no RST
    await hops.quiet()
    assert hops.records.kept[0].upgraded


async def test_a_websocket_that_is_silent_for_too_long_ends(hops: Hops, kind: Kind) -> None:
    client, origin, request = await opened(hops, kind, tunnel_timeout=50.0)
    began = trio.current_time()
    await origin.stay(49)
    assert not hops.records.kept
    await origin.stay(2)
    assert request.reset == CANCEL
    await client.ended()
    assert trio.current_time() - began < 52
    assert hops.closes(Hop.UPSTREAM) == []


async def test_an_answer_other_than_yes_is_passed_on(hops: Hops, kind: Kind) -> None:
    await hops.start(upstream={"protocol": "h2"})
    client = await asked(hops, kind)
    origin = await accept(hops, ALLOWED)
    request = await origin.request()
    await origin.respond(request.number, b"no", [(":status", "403"), ("content-length", "2")])
    assert await client.status() == 403
    await origin.stay(1)
    assert request.reset == CANCEL, "the rest of the stream is not needed"


async def test_an_origin_that_does_not_allow_it_is_not_asked(hops: Hops, kind: Kind) -> None:
    await hops.start(upstream={"protocol": "h2"})
    for _ in range(4):  # it has not failed
        client = await asked(hops, kind)
        if not hops.records.kept:
            origin = await accept(hops)
            await origin.send()
        assert await client.status() == 502
    assert [record.cause for record in hops.records.kept] == ["http_upgrade_failed"] * 4
    assert "RFC 8441" in hops.records.kept[0].detail
    await origin.stay(1)
    assert origin.requests == {}
    other = await hops.client()
    await other.send(GET)
    await origin.serve()
    assert (await other.message()).status == 200
    [member] = hops.runtime.upstreams["app"].balancer.members
    assert member.reach.failures == 0


@pytest.mark.parametrize("key", [b"", b"Sec-WebSocket-Key: short\r\n", b"Sec-WebSocket-Key: %\r\n"])
async def test_a_handshake_without_a_key_is_refused(hops: Hops, key: bytes) -> None:
    await hops.start(upstream={"protocol": "h2"})
    client = await hops.client()
    await client.send(HANDSHAKE.replace(b"Sec-WebSocket-Key: " + KEY + b"\r\n", key))
    origin = await accept(hops, ALLOWED)
    await origin.send()
    assert (await client.message()).status == 400
    assert origin.requests == {}


async def test_another_protocol_is_not_offered_and_the_request_goes_on(hops: Hops) -> None:
    await hops.start(upstream={"protocol": "h2"})
    client = await hops.client()
    await client.send(HANDSHAKE.replace(b"websocket\r\nSec", b"echo\r\nSec"))
    origin = await accept(hops, ALLOWED)
    [request] = await origin.serve()
    assert request[":method"] == "GET"
    assert (await client.message()).status == 200


async def test_a_link_that_ends_before_its_settings_ends_what_waits_for_them(
    hops: Hops, kind: Kind
) -> None:
    await hops.start(upstream={"protocol": "h2"})
    client = await asked(hops, kind)
    (await hops.origins[0].accept()).close()
    assert await client.status() == 502
    client = await asked(hops, kind)
    origin = await accept(hops, ALLOWED)
    request = await origin.request()
    await origin.respond(request.number, b"", ACCEPTS, ended=False)
    assert await client.status() in (101, 200)


async def test_a_drain_waits_for_it_and_then_cuts_it(hops: Hops, kind: Kind) -> None:
    await hops.start(upstream={"protocol": "h2"}, drain_timeout=8.0)
    client = await asked(hops, kind)
    origin = await accept(hops, ALLOWED)
    request = await origin.request()
    await origin.respond(request.number, b"", ACCEPTS, ended=False)
    await client.status()
    hops.worker.stop()
    await origin.stay(7)
    await client.send(b"still")
    assert await until(origin, request, 5) == b"still"
    await hops.ended.wait()
    assert hops.worker.report is not None
    assert hops.worker.report.cut == 1


# -- by ALPN ---------------------------------------------------------------------------------


@pytest.fixture
async def tls_hops(directory: Path) -> AsyncIterator[TlsHops]:
    """Both hops on Unix sockets, TLS towards an origin that chooses HTTP/2."""
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = TlsHops(nursery, directory)
            made.add_origin(context=speaking(H2))
            await made.start(upstream={"protocol": "auto"})
            yield made
            await made.end()


async def test_by_alpn_it_goes_in_http2_where_that_is_allowed(
    tls_hops: TlsHops, kind: Kind
) -> None:
    client = await asked(tls_hops, kind)
    origin = await accept(tls_hops, ALLOWED)
    request = await origin.request()
    assert request[":scheme"] == "https"
    await origin.respond(request.number, b"", ACCEPTS, ended=False)
    assert await client.status() in (101, 200)


async def test_by_alpn_it_goes_in_http11_where_it_is_not(tls_hops: TlsHops, kind: Kind) -> None:
    for count in range(2):
        client = await asked(tls_hops, kind)
        if not count:
            origin = await accept(tls_hops)
            await origin.send()
        peer = await tls_hops.origins[0].accept()
        message = await peer.message()
        assert message.values(b"upgrade") == [b"websocket"]
        await peer.send(OK.replace(b"200", b"403"))
        assert await client.status() == 403
        peer.close()
    assert origin.requests == {}
    assert CloseReason.BAD_RESPONSE not in tls_hops.closes(Hop.UPSTREAM)

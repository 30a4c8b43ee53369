"""How tunnels end: each end has its cause and its reasons, in both protocols on both hops."""

from __future__ import annotations

import socket
from typing import NamedTuple

import pytest
import trio
from h2.settings import SettingCodes

from hopproxy.link.h2_tunnel import accept_of
from hopproxy.reasons import Hop
from hopproxy.record import ExchangeRecord
from tests.h2_origin import H2Peer as H2Origin
from tests.h2_peer import GOAWAY, PING, WINDOW_UPDATE, frame, number
from tests.links.test_h2_websocket import ACCEPTS, ALLOWED, Http1, Http2, Kind, accept, asked
from tests.raw_peers import Peer
from tests.wire_pair import Hops

SWITCH = (
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)
BROKEN = frame(PING, 0, 0, b"short")


class Ends:
    """Both ends of a WebSocket, whatever protocols carry it."""

    def __init__(self, client: Http1 | Http2, origin: H2Origin | Peer) -> None:
        self.client = client.peer if isinstance(client, Http1) else client.h2.peer
        self.stream = number(getattr(client, "stream", 0))
        self.h2 = origin if isinstance(origin, H2Origin) else None
        self.origin = origin.peer if isinstance(origin, H2Origin) else origin

    async def client_resets(self) -> None:
        self.client.reset()

    async def client_leaves_with_goaway(self) -> None:
        await self.client.send(frame(GOAWAY, 0, 0, bytes(8)))
        self.client.close()

    async def client_breaks_a_rule(self) -> None:
        await self.client.send(BROKEN)

    async def client_breaks_a_rule_of_its_stream(self) -> None:
        await self.client.send(frame(WINDOW_UPDATE, 0, int.from_bytes(self.stream), bytes(4)))

    async def client_floods(self) -> None:
        await self.client.send(frame(PING, 0, 0, bytes(8)) * 1500)

    async def origin_resets(self) -> None:
        self.origin.reset()

    async def origin_resets_its_stream(self) -> None:
        assert self.h2 is not None
        self.h2.h2.reset_stream(1, 2)
        await self.h2.send()

    async def origin_closes(self) -> None:
        self.origin.close()

    async def origin_leaves_with_goaway(self) -> None:
        assert self.h2 is not None
        self.h2.h2.close_connection(1, last_stream_id=0)
        await self.h2.send()

    async def origin_breaks_a_rule(self) -> None:
        await self.origin.send(BROKEN)

    async def nobody_speaks(self) -> None:
        with trio.move_on_after(60):
            while self.h2 is not None:
                await self.h2.more()
            await trio.sleep_forever()


class End(NamedTuple):
    """The cause, and why the links end: None if one goes on, or has ended for a later reason."""

    cause: str
    detail: str
    client: str | None
    upstream: str | None


H1, H2 = Http1, Http2
GONE, WRONG = "client_closed", "http_request_error"
ENDED, RULE, SILENT = "connection_terminated", "http_protocol_error", "tunnel_timeout"
LEFT = "inside the tunnel"
ENDS: list[tuple[str, Kind, str, End]] = [
    ("client_resets", H1, "1", End(GONE, LEFT, "peer_reset", "tunnel_ended")),
    ("client_resets", H1, "2", End(GONE, LEFT, "peer_reset", None)),
    ("client_resets", H2, "1", End(GONE, LEFT, "peer_reset", "client_gone")),
    ("client_resets", H2, "2", End(GONE, LEFT, "peer_reset", None)),
    ("client_leaves_with_goaway", H2, "1", End(GONE, LEFT, "peer_closed", "client_gone")),
    ("client_breaks_a_rule", H2, "1", End(WRONG, "9113 section 6.7", None, "client_gone")),
    ("client_breaks_a_rule_of_its_stream", H2, "2", End(WRONG, "6.9", None, None)),
    ("client_floods", H2, "2", End(WRONG, "useless frames", None, None)),
    ("origin_resets", H1, "1", End(ENDED, "reset", "tunnel_ended", "peer_reset")),
    ("origin_resets", H1, "2", End(ENDED, "reset", "tunnel_ended", "peer_reset")),
    ("origin_resets", H2, "1", End(ENDED, "reset", None, "peer_reset")),
    ("origin_resets_its_stream", H1, "2", End(ENDED, "INTERNAL", "tunnel_ended", None)),
    ("origin_resets_its_stream", H2, "2", End(ENDED, "INTERNAL", None, None)),
    ("origin_closes", H1, "2", End(ENDED, "closed", "tunnel_ended", "peer_closed")),
    ("origin_closes", H2, "2", End(ENDED, "closed", None, "peer_closed")),
    ("origin_leaves_with_goaway", H1, "2", End(ENDED, "", "tunnel_ended", "peer_asked")),
    ("origin_leaves_with_goaway", H2, "2", End(ENDED, "", None, "peer_asked")),
    ("origin_breaks_a_rule", H1, "2", End(RULE, "section 6.7", "tunnel_ended", "bad_response")),
    ("origin_breaks_a_rule", H2, "2", End(RULE, "section 6.7", None, "bad_response")),
    ("nobody_speaks", H1, "1", End(SILENT, "no byte", "tunnel_timeout", "tunnel_timeout")),
    ("nobody_speaks", H1, "2", End(SILENT, "no byte", "tunnel_timeout", None)),
    ("nobody_speaks", H2, "1", End(SILENT, "no byte", None, "tunnel_timeout")),
    ("nobody_speaks", H2, "2", End(SILENT, "no byte", None, None)),
]  # fmt: skip


async def opened(hops: Hops, kind: Kind, protocol: str) -> Ends:
    client = await asked(hops, kind)
    origin: H2Origin | Peer
    if protocol == "2":
        origin = await accept(hops, ALLOWED)
        await origin.request()
        await origin.respond(1, b"", ACCEPTS, ended=False)
    else:
        origin = await hops.origins[0].accept()
        [key] = (await origin.message()).values(b"sec-websocket-key")
        await origin.send(SWITCH % accept_of(key))
    assert await client.status() in (101, 200)
    await hops.quiet()
    assert isinstance(client, Http1 | Http2)
    return Ends(client, origin)


def rows(*, silent: bool) -> pytest.MarkDecorator:
    chosen = [row for row in ENDS if (row[0] == "nobody_speaks") is silent]
    ids = [f"{how}-{kind.__name__[-1]}-{protocol}" for how, kind, protocol, _ in chosen]
    return pytest.mark.parametrize(("how", "kind", "protocol", "end"), chosen, ids=ids)


@rows(silent=False)
async def test_each_end_of_a_tunnel_has_a_cause(
    tcp_hops: Hops, how: str, kind: Kind, protocol: str, end: End
) -> None:
    await check(tcp_hops, how, kind, protocol, end)


@rows(silent=True)
async def test_a_silent_tunnel_has_a_cause(
    hops: Hops, how: str, kind: Kind, protocol: str, end: End
) -> None:
    record = await check(hops, how, kind, protocol, end)
    assert record.passed == ("tunnel_timeout", 50.0)


async def check(hops: Hops, how: str, kind: Kind, protocol: str, end: End) -> ExchangeRecord:
    upstream = {"protocol": "h2" if protocol == "2" else "http/1.1", "tunnel_timeout": 50.0}
    await hops.start(upstream=upstream)
    ends = await opened(hops, kind, protocol)
    await getattr(ends, how)()
    await hops.quiet()
    record = hops.records.kept[-1]
    assert (record.cause, record.upgraded) == (end.cause, True)
    assert end.detail in record.detail
    for hop, expected in ((Hop.CLIENT, end.client), (Hop.UPSTREAM, end.upstream)):
        assert [reason.label for reason in hops.closes(hop)] == [expected] * bool(expected)
    tally = hops.runtime.upstreams["app"].tally
    assert end.cause in (tally.aborts if end.cause == GONE else tally.causes)
    return record


async def last_words(hops: Hops) -> H2Origin:
    """Both sides have ended, but the origin's window is closed for the client's last bytes."""
    await hops.start(upstream={"protocol": "h2", "tunnel_timeout": 50.0})
    ends = await opened(hops, Http1, "2")
    origin = ends.h2
    assert origin is not None
    origin.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    await origin.send()
    await hops.quiet()
    await ends.client.send(b"last words")
    ends.client.sock.shutdown(socket.SHUT_WR)
    origin.h2.end_stream(1)
    await origin.send()
    await hops.quiet()
    await origin.catch_up()
    request = origin.requests[1]
    assert (request.body, request.ended, hops.records.kept) == (b"", False, [])
    return origin


async def test_a_tunnel_over_http2_ends_once_all_that_it_accepted_is_sent(hops: Hops) -> None:
    origin = await last_words(hops)
    origin.h2.increment_flow_control_window(100, 1)
    while not origin.requests[1].ended:
        await origin.more()
    await hops.quiet()
    assert origin.requests[1].body == b"last words"
    [record] = hops.records.kept
    assert (record.cause, record.received) == ("", 10)


async def test_a_reset_before_the_last_bytes_are_sent_has_a_cause(hops: Hops) -> None:
    origin = await last_words(hops)
    origin.h2.reset_stream(1, 8)
    await origin.send()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, "CANCEL" in record.detail) == ("connection_terminated", True)


async def test_an_origin_may_end_its_side_and_want_no_more_without_an_error(hops: Hops) -> None:
    """RFC 9113 section 8.1: END_STREAM, then RST_STREAM with NO_ERROR."""
    await hops.start(upstream={"protocol": "h2"})
    ends = await opened(hops, Http1, "2")
    origin = ends.h2
    assert origin is not None
    origin.h2.send_data(1, b"bye", end_stream=True)
    origin.h2.reset_stream(1, 0)
    await origin.send()
    assert await ends.client.rest() == b"bye"
    await ends.client.send(b"too late")
    ends.client.close()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, record.sent) == ("", 3)


async def test_a_tunnel_that_is_reset_together_with_its_head_has_a_cause(hops: Hops) -> None:
    await hops.start(upstream={"protocol": "h2"})
    client = await asked(hops, Http1)
    assert isinstance(client, Http1)
    await client.peer.send(b"first words")
    origin = await accept(hops, ALLOWED)
    await origin.request()
    origin.h2.send_headers(1, ACCEPTS, end_stream=True)
    origin.h2.reset_stream(1, 2)
    await origin.send()
    assert await client.status() == 101
    await client.peer.gone()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, record.upgraded) == ("connection_terminated", True)

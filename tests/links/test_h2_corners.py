"""HTTP/2 where two things meet: windows, endings and errors that come at an awkward moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import hpack
import pytest
import trio

from hopproxy.link.h2 import H2Link
from hopproxy.link.h2_origin_wire import LINK_WINDOW
from hopproxy.link.h2_output import QUEUED
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.route import Route
from hopproxy.wire.h2_output import PIECES
from tests.h2_origin import H2Peer as H2Origin
from tests.h2_peer import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    POST,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    H2Peer,
    frame,
    number,
    setting,
)
from tests.raw_peers import OK, Peer
from tests.wire_pair import Hops

CHUNKED = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"

#: What makes the gateway reset a stream (CVE-2025-8671).
BREAKS: dict[str, Callable[[int], bytes]] = {
    "window_update_by_0": lambda s: frame(WINDOW_UPDATE, 0, s, number(0)),
    "window_overflow": lambda s: frame(WINDOW_UPDATE, 0, s, number(0x7FFFFFFF)),
    "data_after_end": lambda s: frame(DATA, 0, s, b"x"),
    "priority_of_4_bytes": lambda s: frame(PRIORITY, 0, s, b"abcd"),
    "head_after_end": lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x82"),
}


async def begun(hops: Hops, *settings: tuple[int, int]) -> tuple[H2Peer, int, Peer]:
    """A client, its request, and the origin's connection, on which that has arrived."""
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start(*settings)
    stream = await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    return h2, stream, upstream


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
async def test_a_stream_that_its_client_breaks_costs_its_origin_no_link(
    hops: Hops, breaks: Callable[[int], bytes]
) -> None:
    h2, stream, upstream = await begun(hops)
    await h2.send(breaks(stream))
    await hops.quiet()
    await upstream.send(OK)
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == []
    assert (await h2.answer(stream)).reset is not None
    again = await h2.request()
    await upstream.message()
    await upstream.send(OK)
    assert (await h2.answer(again)).status == 200
    assert hops.records.kept[0].cause == "http_request_error"


async def test_a_response_ends_though_its_window_has_become_negative(hops: Hops) -> None:
    """RFC 9113 section 6.9.2; a frame without bytes needs no window."""
    h2, stream, upstream = await begun(hops, (4, 10))
    await upstream.send(CHUNKED + b"a\r\n0123456789\r\n")
    while stream not in h2.answers or len(h2.answers[stream].body) < 10:
        await h2.read()
    await h2.send(frame(SETTINGS, 0, 0, setting(4, 2)))
    await hops.quiet()
    await upstream.send(b"0\r\n\r\n")
    began = trio.current_time()
    assert (await h2.answer(stream)).ended
    assert trio.current_time() == began


async def answer_all(hops: Hops, answer: bytes) -> None:
    """The origin answers each request at once."""

    async def on_link(peer: Peer) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                await peer.message()
                await peer.send(answer)

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(on_link, await hops.origins[0].accept())


async def test_answers_that_are_not_read_are_bounded(hops: Hops) -> None:
    """Heads need no window.  Once the client reads, all its requests are answered."""
    await hops.start()
    h2 = H2Peer(await hops.client(receive_buffer=2304))
    await h2.start()
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    head = b"HTTP/1.1 204 No Content\r\nDate: x\r\nX-Big: %b\r\n\r\n" % (b"y" * 8000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, hops, head)
        held, streams = 0, []
        for _ in range(90):
            streams.append(await h2.request())
            await hops.quiet()
            held = max(held, link.wire.waiting)
        assert held < 2 * QUEUED
        assert len(hops.records.kept) < 60
        for stream in streams:
            assert (await h2.answer(stream)).status == 204
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_is_not_read_until_it_does(hops: Hops) -> None:
    await hops.start()
    h2 = H2Peer(await hops.client(receive_buffer=2304))
    await h2.start()
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    head = b"HTTP/1.1 204 No Content\r\nDate: x\r\nX-Big: %b\r\n\r\n" % (b"y" * 8000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, hops, head)
        while not link.output.crowded:
            await h2.request()
            await hops.quiet()
        before = link.wire.waiting
        for _ in range(20):
            await h2.send(frame(PING, 0, 0, b"12345678") * 40)
            await hops.quiet()
        assert link.wire.waiting == before
        last = await h2.request()
        assert (await h2.answer(last)).status == 204
        assert sum(one.kind == PING for one in h2.frames) == 800
        nursery.cancel_scope.cancel()


async def test_tiny_pieces_of_a_body_cost_what_they_weigh(hops: Hops) -> None:
    """Each object that Python makes of two bytes takes forty."""
    await hops.start(pool={"max_connections": 1, "queue_timeout": 60.0})
    h2 = H2Peer(await hops.client())
    await h2.start()
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    stream = await h2.request(POST, end=False)
    await trio.sleep(1.5)  # it waits for the link now, no longer for its body
    link = next(iter(hops.runtime.clients.links))
    assert isinstance(link, H2Link)
    _, upload = link.streams
    for _ in range(20):
        await h2.send(frame(DATA, 0, stream, b"xy") * 500)
        await hops.quiet()
    assert upload.wire.unclaimed == 20_000
    assert len(upload._content) <= PIECES
    await h2.send(frame(DATA, END_STREAM, stream))
    await upstream.send(OK)
    assert (await upstream.message()).body == b"xy" * 10_000


async def test_more_requests_than_max_total_streams_are_refused_on_any_connection(
    hops: Hops, caplog: pytest.LogCaptureFixture
) -> None:
    await hops.start(client={"max_total_streams": 3})
    first, second = H2Peer(await hops.client()), H2Peer(await hops.client())
    for h2 in (first, second):
        await h2.start()
    streams = [await first.request() for _ in range(2)]
    await hops.quiet()
    streams += [await second.request() for _ in range(3)]
    for stream in streams[3:]:
        assert (await second.answer(stream)).reset == REFUSED_STREAM
    assert "client.max_total_streams: 1 requests refused so far" in caplog.messages
    for _ in range(3):
        upstream = await hops.origins[0].accept()
        await upstream.message()
        await upstream.send(OK)
    assert (await first.answer(streams[0])).status == 200
    await first.send(frame(RST_STREAM, 0, await first.request(), number(CANCEL)))
    second.peer.close()
    await trio.sleep(1.5)  # an exchange whose stream was reset goes on for a second
    assert hops.runtime.clients.streams.open == 0


async def test_a_request_that_is_reset_while_it_waits_is_forgotten_at_once(hops: Hops) -> None:
    await hops.start(client={"max_streams": 2})
    h2 = H2Peer(await hops.client())
    await h2.start()
    for _ in range(2):
        stream = await h2.request()
        await (await hops.origins[0].accept()).message()
        await h2.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    for _ in range(20):
        await h2.send(frame(RST_STREAM, 0, await h2.request(), number(CANCEL)))
        await hops.quiet()
        assert link.parked == []
    assert hops.runtime.clients.streams.open == 2


async def test_responses_that_their_clients_leave_give_the_window_back(hops: Hops) -> None:
    """All streams of the origin's connection share it."""
    await hops.start(upstream={"protocol": "h2"})
    origin: H2Origin | None = None
    for _ in range(3):
        h2 = H2Peer(await hops.client())
        await h2.start((4, 10))
        await h2.request()
        origin = origin or H2Origin(await hops.origins[0].accept())
        request = await origin.whole()
        await origin.respond(request.number, b"x" * 60_000)
        await hops.quiet()
        h2.peer.close()
        await hops.quiet()
    [link] = hops.runtime.pool.links
    assert isinstance(link, H2UpstreamLink)
    assert link.wire.receive_window + link.wire._owed == LINK_WINDOW


@pytest.mark.parametrize("together", [False, True])
async def test_a_table_of_hpack_that_shrinks_and_grows_again_was_emptied(
    hops: Hops, together: bool
) -> None:
    """The smallest size is said (RFC 7541 section 4.2), also if one frame sets both."""
    await hops.start()
    h2 = H2Peer(await hops.client())
    if together:
        await h2.start((1, 0), (1, 4096))
    else:
        await h2.start((1, 0))
        await h2.send(frame(SETTINGS, 0, 0, setting(1, 4096)))
    stream = await h2.request()
    await (await hops.origins[0].accept()).send(OK)
    await h2.answer(stream)
    [head] = [f for f in h2.frames if f.kind == HEADERS]
    assert head.payload[0] == 0x20


async def test_a_websocket_has_no_content_length(hops: Hops) -> None:
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start()
    fields = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")]
    stream = await h2.request([*fields, (b"content-length", b"5")], end=False)
    answer = await h2.answer(stream)
    assert (answer.status, answer.reset) == (400, PROTOCOL_ERROR)
    assert not hops.origins[0].waiting()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_answer_that_comes_together_with_goaway_is_passed_on(
    hops: Hops, method: bytes
) -> None:
    """The origin has answered its last request in full when the gateway reads that it leaves."""
    await hops.start(upstream={"protocol": "h2"})
    client = await hops.client()
    await client.send(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    origin = H2Origin(await hops.origins[0].accept())
    request = await origin.whole()
    await origin.send(
        frame(GOAWAY, 0, 0, number(request.number) + number(NO_ERROR)),
        frame(HEADERS, END_HEADERS, request.number, b"\x88"),
        frame(DATA, END_STREAM, request.number, b"done"),
    )
    answer = await client.message()
    assert (answer.status, answer.body) == (200, b"done")
    await origin.peer.gone()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_ASKED]
    assert not hops.origins[0].waiting()


async def test_a_request_on_its_way_while_an_idle_connection_drains_is_served(hops: Hops) -> None:
    """Until the client has seen the first GOAWAY it may send requests, though it has had none."""
    await hops.start(drain_timeout=5.0)
    h2 = H2Peer(await hops.client())
    await h2.start()
    stream = await h2.request()
    await hops.origins[0].accept_and_answer()
    assert (await h2.answer(stream)).status == 200
    hops.worker.stop()
    await trio.sleep(0.5)
    stream = await h2.request()
    await hops.origins[0].accept_and_answer()
    assert (await h2.answer(stream)).body == b"ok"
    [ping] = [f for f in h2.frames if f.kind == PING]
    await h2.send(frame(PING, ACK, 0, ping.payload))
    await h2.until_end()
    assert [f.last for f in h2.goaways] == [0x7FFFFFFF, 3]
    h2.peer.close()
    await hops.ended.wait()
    assert hops.closes(Hop.CLIENT) == [CloseReason.DRAINING]


ENDS: dict[str, Callable[[H2Peer, int], bytes]] = {
    "reset": lambda _, s: frame(RST_STREAM, 0, s, number(CANCEL)),
    "malformed_trailers": lambda h2, s: h2.head([(b":path", b"/")], stream=s),
}


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
async def test_uploads_that_are_cut_cost_no_more_dials_than_max_streams(
    hops: Hops, ends: Callable[[H2Peer, int], bytes]
) -> None:
    """A call of gRPC takes its link before its body comes, and a body that is cut costs it."""
    await hops.start(client={"max_streams": 3})
    h2 = H2Peer(await hops.client())
    await h2.start()
    dials = 0

    async def accept() -> None:
        nonlocal dials
        while True:
            await hops.origins[0].accept()
            dials += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        for _ in range(5):
            stream = await h2.request([*POST, (b"content-type", b"application/grpc")], end=False)
            await hops.quiet()
            await h2.send(ends(h2, stream))
            await hops.quiet()
        assert dials == 3
        await trio.sleep(1)
        stream = await h2.request()
        await hops.quiet()
        assert dials in (4, 5), "the places are free again"
        nursery.cancel_scope.cancel()


async def test_a_refused_head_request_is_answered_without_a_body(hops: Hops) -> None:
    """RFC 9110 section 9.3.2: a client that asked with HEAD takes DATA for an error."""
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start()
    answer = await h2.ask([(b":method", b"HEAD"), *GET[1:], (b"Bad", b"name")])
    assert (answer.status, answer.body, answer.reset) == (400, b"", PROTOCOL_ERROR)
    assert answer.values(b"content-length") != [b"0"]
    assert hops.records.kept[0].sent == 0


async def test_a_table_that_shrinks_with_what_ends_a_request_is_emptied(hops: Hops) -> None:
    """The answer to a flaw is written before the link has heard of the new settings."""
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start()
    stream = await h2.request([*POST, (b"content-length", b"9")], end=False)
    await hops.origins[0].accept()
    await hops.quiet()
    await h2.send(
        frame(DATA, END_STREAM, stream, b"short"),
        frame(SETTINGS, 0, 0, setting(1, 0)),
        frame(SETTINGS, 0, 0, setting(1, 4096)),
    )
    assert (await h2.answer(stream)).status == 400
    [head] = [f for f in h2.frames if f.kind == HEADERS]
    assert head.payload[0] == 0x20


FLAWS: dict[str, Callable[[H2Peer, int], bytes]] = {
    "malformed_trailers": lambda h2, s: h2.head([(b":path", b"/")], stream=s),
    "less_than_the_length": lambda _, s: frame(DATA, END_STREAM, s, b"x"),
}


@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
@pytest.mark.parametrize("status", [400, 404])
async def test_a_flaw_behind_an_answer_that_waits_for_its_window_is_no_fault_of_ours(
    hops: Hops,
    flaw: Callable[[H2Peer, int], bytes],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await hops.start(routes=(Route(upstream="app", path="/a"),))
    h2 = H2Peer(await hops.client())
    await h2.start((4, 0))
    more = [(b"content-length", b"9"), *([(b"Bad", b"name")] if status == 400 else [])]
    stream = await h2.request([*POST, *more], end=False)
    while stream not in h2.answers:
        await h2.read()
    assert h2.answers[stream].statuses == [status]
    await h2.send(flaw(h2, stream))
    await hops.quiet()
    await h2.send(frame(WINDOW_UPDATE, 0, stream, number(9999)))
    answer = await h2.answer(stream)
    assert answer.ended or answer.reset == PROTOCOL_ERROR
    assert [record.status for record in hops.records.kept] == [status]
    assert not caplog.records
    await h2.send(frame(SETTINGS, 0, 0, setting(4, 65535)))
    assert (await h2.ask()).status == 404
    assert not hops.closes(Hop.CLIENT)


async def test_a_head_of_twice_the_size_is_refused_and_costs_no_other_request(hops: Hops) -> None:
    h2, stream, upstream = await begun(hops)
    large = h2.take_number()
    block = h2.encoder.encode([*GET, (b"cookie", b"y" * 60_000)], huffman=False)
    first, *more = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    await h2.send(
        frame(HEADERS, END_STREAM, large, first),
        *[frame(CONTINUATION, END_HEADERS if p is more[-1] else 0, large, p) for p in more],
    )
    assert (await h2.answer(large)).status == 431
    await upstream.send(OK)
    assert (await h2.answer(stream)).status == 200


@pytest.mark.parametrize("protocol", ["auto", "h2"])
async def test_nothing_follows_the_reset_of_a_client(hops: Hops, protocol: str) -> None:
    """What the origin sends once the reset was read: an interim response, a head, a body."""
    await hops.start(upstream={"protocol": protocol})
    h2 = H2Peer(await hops.client())
    await h2.start()
    stream = await h2.request()
    peer = await hops.origins[0].accept()
    if protocol == "h2":
        origin = H2Origin(peer)
        request = (await origin.whole()).number
        hints, answer = (hpack.Encoder().encode([(b":status", v)]) for v in (b"103", b"200"))
        said = frame(HEADERS, END_HEADERS, request, hints)
        said += frame(HEADERS, END_HEADERS, request, answer) + frame(DATA, 1, request, b"ok")
    else:
        await peer.message()
        said = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    await h2.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
    await hops.quiet()
    for piece in (said[:20], said[20:]):
        await peer.send(piece)
        await hops.quiet()
    h2.take_all()
    await h2.send(frame(PING, 0, 0, b"the last"))
    while not any(one.payload == b"the last" for one in h2.frames):
        await h2.read()
    assert stream not in h2.answers

"""Origins that speak HTTP/2: the bytes on both hops, what is lent, what a death costs."""

from __future__ import annotations

import pytest
import trio

from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.observe.h2_metrics import Streams
from hopproxy.observe.snapshot import links_of
from hopproxy.reasons import CloseReason, Hop
from tests.h2_origin import OK, H2Peer, Request
from tests.h2_peer import GET as ASKED
from tests.h2_peer import INTERNAL_ERROR
from tests.h2_peer import H2Peer as H2Client
from tests.raw_peers import GET, Peer
from tests.wire_pair import Hops

POST = b"POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

(NO_ERROR, PROTOCOL, INTERNAL, _, _, _, _, REFUSED, CANCEL) = range(9)


async def start(hops: Hops, **pool: object) -> None:
    await hops.start(upstream={"protocol": "h2"}, pool=pool)


async def accept(hops: Hops, settings: dict[int, int] | None = None, origin: int = 0) -> H2Peer:
    return H2Peer(await hops.origins[origin].accept(), settings)


async def opened(
    hops: Hops, settings: dict[int, int] | None = None, **pool: object
) -> tuple[Peer, H2Peer]:
    """A client, and an origin's link with one good exchange behind it."""
    await start(hops, **pool)
    client = await hops.client()
    await client.send(GET)
    origin = await accept(hops, settings)
    await origin.serve()
    await client.message()
    await hops.quiet()
    return client, origin


async def ask(hops: Hops, request: bytes = GET) -> Peer:
    client = await hops.client()
    await client.send(request)
    return client


async def test_a_get_becomes_a_stream(hops: Hops) -> None:
    await start(hops)
    client = await ask(
        hops,
        b"GET /a?b HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\nConnection: close, X-Mine\r\n"
        b"X-Mine: 1\r\nTE: trailers\r\nCookie: a=1; b=2\r\n\r\n",
    )
    origin = await accept(hops)
    request = await origin.whole()
    assert request.fields[:4] == [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop.example"),
        (":path", "/a?b"),
    ]
    assert request["te"] == "trailers"
    assert request["cookie"] == "a=1; b=2"
    for gone in ("host", "connection", "x-mine", "transfer-encoding"):
        assert gone not in request
    await origin.respond(request.number, b"hello", [(":status", "203"), ("X-Own".lower(), "1")])
    answer = await client.message()
    assert answer.start == b"HTTP/1.1 203 Non-Authoritative Information"
    assert (answer.body, answer.values(b"x-own")) == (b"hello", [b"1"])
    assert answer.values(b"via") == [b"2.0 hopproxy"]
    await client.gone()


async def test_requests_share_one_link(hops: Hops) -> None:
    _client, origin = await opened(hops)
    clients = [await ask(hops, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n) for n in range(20)]
    await hops.quiet()
    requests = [await origin.whole() for _ in range(20)]
    [share] = hops.runtime.upstreams["app"].balancer.members
    assert (share.streams, share.in_use, len(hops.runtime.pool.links)) == (20, 1, 1)
    assert share.under_way == 20
    for request in reversed(requests):
        await origin.respond(request.number, request[":path"].encode())
    for n, peer in enumerate(clients):
        assert (await peer.message()).body == b"/%d" % n
    kept = hops.records.kept[1:]
    assert sorted(record.upstream_stream for record in kept) == list(range(3, 43, 2))
    assert len({record.upstream_number for record in kept}) == 1
    assert (share.streams, share.in_use, len(share.idle)) == (0, 0, 1)


async def test_a_full_link_makes_the_next_request_dial(hops: Hops) -> None:
    _client, origin = await opened(hops, {3: 2})
    first, second = await ask(hops), await ask(hops)
    requests = [await origin.whole(), await origin.whole()]
    third = await ask(hops)
    another = await accept(hops, {3: 2})
    await another.serve()
    await third.message()
    fourth = await ask(hops)
    await another.serve()
    await fourth.message()
    for request in requests:
        await origin.respond(request.number)
    await first.message()
    await second.message()


async def test_a_burst_at_the_start_costs_one_dial(hops: Hops) -> None:
    await start(hops)
    clients = [await ask(hops) for _ in range(30)]
    origin = await accept(hops)
    await origin.serve(30)
    for client in clients:
        await client.message()
    assert len(hops.runtime.pool.links) == 1


async def test_requests_beyond_a_limit_that_was_not_known_are_repeated(hops: Hops) -> None:
    await start(hops, max_connections=1)
    clients = [await ask(hops, POST) for _ in range(5)]
    origin = await accept(hops)
    requests = [await origin.request() for _ in range(5)]
    await origin.send(raw(4, 0, 0, b"\0\x03" + (2).to_bytes(4, "big")))  # at most two streams
    for request in requests[2:]:
        origin.h2.reset_stream(request.number, REFUSED)
    for request in requests[:2]:
        await origin.respond(request.number)
    served: list[Request] = []
    while len(served) < 3:
        served += await origin.serve()
    for client in clients:
        assert (await client.message()).status == 200
    assert [record.attempts for record in hops.records.kept].count(2) == 3


# -- bodies, trailers, interim responses -----------------------------------------------------


async def test_an_upload_with_trailers_and_a_response_with_trailers(hops: Hops) -> None:
    await start(hops)
    client = await ask(
        hops,
        CHUNKED.replace(
            b"\r\n\r\n", b"\r\nTrailer: x-sum\r\nTE: trailers\r\nConnection: te\r\n\r\n"
        ),
    )
    origin = await accept(hops)
    request = await origin.request()
    await client.send(b"3\r\nabc\r\n")
    await hops.quiet()
    await origin.more()
    assert request.body == b"abc"
    await client.send(b"0\r\nX-Sum: 7\r\n\r\n")
    while not request.ended:
        await origin.more()
    assert request.trailers == [("x-sum", "7")]
    origin.h2.send_headers(request.number, OK)
    origin.h2.send_data(request.number, b"some")
    origin.h2.send_headers(request.number, [("x-total", "9")], end_stream=True)
    await origin.send()
    head = await client.until(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert await client.until(b"0\r\nx-total: 9\r\n\r\n") == b"4\r\nsome\r\n0\r\nx-total: 9\r\n\r\n"


async def test_both_ways_at_once(hops: Hops) -> None:
    await start(hops)
    client = await ask(hops, CHUNKED)
    origin = await accept(hops)
    request = await origin.request()
    await origin.respond(request.number, b"first", ended=False)
    await client.until(b"5\r\nfirst\r\n")
    for n in range(5):
        await client.send(b"1\r\n%d\r\n" % n)
        while len(request.body) <= n:
            await origin.more()
        await origin.data(request.number, b"%d" % n)
        assert await client.until(b"1\r\n%d\r\n" % n)
    await client.send(b"0\r\n\r\n")
    while not request.ended:
        await origin.more()
    await origin.data(request.number, b"end", ended=True)
    await client.until(b"0\r\n\r\n")
    other = await ask(hops)
    await origin.serve()
    assert (await other.message()).body == b"ok"


async def test_interim_responses_pass(hops: Hops) -> None:
    await start(hops)
    client = await ask(hops)
    origin = await accept(hops)
    request = await origin.whole()
    origin.h2.send_headers(request.number, [(":status", "103"), ("link", "</a>")])
    await origin.send()
    assert b"103 Early Hints\r\nlink: </a>\r\n" in await client.until(b"\r\n\r\n")
    await origin.respond(request.number)
    assert (await client.message()).body == b"ok"


async def test_expect_100_continue(hops: Hops) -> None:
    await start(hops)
    client = await ask(hops, POST.replace(b"\r\n\r\nbody", b"\r\nExpect: 100-continue\r\n\r\n"))
    origin = await accept(hops)
    request = await origin.request()
    assert request["expect"] == "100-continue"
    origin.h2.send_headers(request.number, [(":status", "100")])
    await origin.send()
    assert b" 100 " in await client.until(b"\r\n\r\n")
    await client.send(b"body")
    while not request.ended:
        await origin.more()
    assert request.body == b"body"
    await origin.respond(request.number)
    assert (await client.message()).body == b"ok"


async def test_an_early_answer_ends_the_stream_and_not_the_link(hops: Hops) -> None:
    client, origin = await opened(hops)
    uploader = await ask(hops, POST.replace(b": 4", b": 9000"))
    request = await origin.request()
    await origin.respond(request.number, b"no", [(":status", "413")])
    answer = await uploader.message()
    assert (answer.status, answer.body) == (413, b"no")
    await hops.quiet()
    await origin.more()
    assert request.reset is not None
    await client.send(GET)
    await origin.serve()
    await client.message()
    assert len(hops.runtime.pool.links) == 1


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        (b"HEAD", "200", [("content-length", "9")]),
        (b"GET", "204", []),
        (b"GET", "304", [("content-length", "9")]),
        (b"GET", "200", [("content-length", "0")]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_responses_without_a_body(
    hops: Hops, method: bytes, status: str, fields: list[tuple[str, str]], late: bool
) -> None:
    await start(hops)
    client = await ask(hops, GET.replace(b"GET", method))
    origin = await accept(hops)
    request = await origin.whole()
    origin.h2.send_headers(request.number, [(":status", status), *fields], end_stream=not late)
    await origin.send()
    head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status.encode())
    assert (b"content-length: 9" in head.lower()) == (("content-length", "9") in fields)
    if late:
        await origin.data(request.number, b"", ended=True)
        origin.h2.end_stream(request.number)
        await origin.send()
    await client.send(GET)
    await origin.serve()
    assert (await client.message()).body == b"ok"


async def test_a_download_waits_for_its_client_and_for_no_other(hops: Hops) -> None:
    client, origin = await opened(hops)
    slow = await hops.client(receive_buffer=4096)
    await slow.send(GET)
    request = await origin.whole()
    origin.h2.send_headers(request.number, OK)
    sent = 0
    while (room := origin.h2.local_flow_control_window(request.number)) > 0:
        piece = bytes(min(room, 16384))
        origin.h2.send_data(request.number, piece)
        sent += len(piece)
        await origin.send()
        await hops.quiet()
        origin.take(b"")
        if sent > 10_000_000:
            break
    assert 100_000 < sent < 2_000_000, "bounded by the windows and the sockets"
    await client.send(GET)
    while not origin.arrived:
        await origin.more()
    [other] = origin.arrived
    origin.arrived.clear()
    await origin.respond(other.number)
    assert (await client.message()).body == b"ok"
    slow.close()
    await hops.quiet()
    while request.reset is None:
        await origin.more()
    assert request.reset == CANCEL


async def test_an_upload_waits_for_the_origins_window(hops: Hops) -> None:
    await start(hops)
    size = 300_000
    client = await hops.client()
    origin_settings = {4: 20_000}

    async def send() -> None:
        await client.send(POST.replace(b": 4", b": %d" % size)[:-4])
        await client.send(b"x" * size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        origin = await accept(hops, origin_settings)
        origin.credits = False
        request = await origin.request()
        await hops.quiet()
        while len(request.body) < 20_000:
            await origin.more()
        await hops.quiet()
        assert 20_000 <= len(request.body) <= 65_535
        origin.credits = True
        origin.h2.acknowledge_received_data(len(request.body), request.number)
        while not request.ended:
            await origin.more()
    assert len(request.body) == size
    await origin.respond(request.number)
    assert (await client.message()).body == b"ok"


# -- resets and deaths -----------------------------------------------------------------------


async def test_a_client_that_leaves_resets_its_stream_alone(hops: Hops) -> None:
    client, origin = await opened(hops)
    leaver = await ask(hops)
    request = await origin.whole()
    leaver.close()
    await hops.quiet()
    await origin.more()
    assert request.reset == CANCEL
    await client.send(GET)
    await origin.serve()
    await client.message()
    assert len(hops.runtime.pool.links) == 1


async def test_a_reset_before_the_response_is_502(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(GET)
    request = await origin.whole()
    origin.h2.reset_stream(request.number, INTERNAL)
    await origin.send()
    assert (await client.message()).status == 502
    await hops.quiet()
    [_, record] = hops.records.kept
    assert record.upstream_close is CloseReason.STREAM_RESET
    assert "INTERNAL_ERROR" in record.detail
    assert hops.runtime.pool.shared.resets == {INTERNAL: 1}
    await client.send(GET)
    await origin.serve()
    await client.message()


async def test_a_reset_inside_the_response_cuts_it(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(GET)
    request = await origin.whole()
    await origin.respond(request.number, b"some", ended=False)
    await client.until(b"4\r\nsome\r\n")
    origin.h2.reset_stream(request.number, CANCEL)
    await origin.send()
    await client.gone()
    assert b"0\r\n\r\n" not in client.unread


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_refused_request_is_answered_and_seen_once(hops: Hops, request_: bytes) -> None:
    client, origin = await opened(hops)
    await client.send(request_)
    request = await origin.whole()
    origin.h2.reset_stream(request.number, REFUSED)
    await origin.send()
    another = await accept(hops)
    again = await another.whole()
    assert (again[":method"], again.body) == (request[":method"], request.body)
    await another.respond(again.number)
    assert (await client.message()).status == 200
    await hops.quiet()
    assert hops.records.kept[-1].attempts == 2


async def test_a_post_on_a_link_whose_origin_leaves_is_answered_and_seen_once(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(POST)
    request = await origin.whole()
    origin.h2.close_connection(last_stream_id=request.number - 2)
    await origin.send()
    another = await accept(hops)
    again = await another.whole()
    assert again.body == b"body"
    await another.respond(again.number)
    assert (await client.message()).status == 200
    await origin.peer.gone()


@pytest.mark.parametrize("leaves", [False, True])
async def test_what_has_an_interim_response_was_processed_whatever_its_origin_says(
    hops: Hops, leaves: bool
) -> None:
    client, origin = await opened(hops)
    await client.send(POST)
    request = await origin.whole()
    origin.h2.send_headers(request.number, [(":status", "103"), ("link", "</a.css>")])
    await origin.send()
    assert (await client.message()).status == 103
    if leaves:
        origin.h2.close_connection(last_stream_id=request.number - 2)
    else:
        origin.h2.reset_stream(request.number, REFUSED)
    await origin.send()
    assert (await client.message()).status == 502
    [record] = hops.records.kept[1:]
    assert (record.attempts, record.cause) == (1, "connection_terminated")


async def test_requests_that_the_origin_has_taken_end_before_its_link(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(POST)
    request = await origin.whole()
    origin.h2.close_connection(last_stream_id=request.number)
    await origin.send()
    await hops.quiet()
    other = await ask(hops)
    another = await accept(hops)
    await another.serve()
    await other.message()
    # h2 sends nothing after its GOAWAY: by hand.
    block = origin.h2.encoder.encode([(":status", "200"), ("content-length", "0")])
    await origin.peer.send(
        len(block).to_bytes(3, "big") + b"\x01\x05" + request.number.to_bytes(4, "big") + block
    )
    assert (await client.message()).status == 200
    await origin.peer.gone()
    await hops.quiet()
    assert CloseReason.PEER_ASKED in hops.closes(Hop.UPSTREAM)


async def test_a_link_that_dies_is_replaced_for_what_may_be_repeated(hops: Hops) -> None:
    _client, origin = await opened(hops)
    poster = await ask(hops, POST)
    getters = [await ask(hops) for _ in range(5)]
    for _ in range(6):
        await origin.whole()
    origin.peer.close()
    another = await accept(hops)
    await another.serve(5)
    for getter in getters:
        assert (await getter.message()).status == 200
    assert (await poster.message()).status == 502
    assert len(hops.runtime.pool.links) == 1


async def test_the_death_of_an_idle_link_is_noticed_and_learned_from(hops: Hops) -> None:
    client, origin = await opened(hops)
    for _ in range(2):
        await trio.sleep(8)
        origin.h2.close_connection()
        await origin.send()
        origin.peer.close()
        await hops.quiet()
        assert hops.closes(Hop.UPSTREAM)[-1] is CloseReason.PEER_CLOSED
        await client.send(GET)
        origin = await accept(hops)
        await origin.serve()
        await client.message()
        await hops.quiet()
    [share] = hops.runtime.upstreams["app"].balancer.members
    assert share.young < 8


async def test_a_long_idle_link_is_asked_before_a_post(hops: Hops) -> None:
    client, origin = await opened(hops)
    await origin.catch_up()
    await trio.sleep(40)
    client = await ask(hops, POST)
    await hops.quiet()
    origin.events.clear()
    await origin.more()
    assert [type(event).__name__ for event in origin.events] == ["PingReceived"]
    await origin.serve()
    assert (await client.message()).status == 200
    assert len(hops.runtime.pool.links) == 1


async def test_a_post_goes_on_a_fresh_link_if_no_answer_comes(hops: Hops) -> None:
    client, origin = await opened(hops)
    await origin.catch_up()
    await trio.sleep(40)
    began = trio.current_time()
    client = await ask(hops, POST)
    another = await accept(hops)
    await another.serve()
    assert (await client.message()).status == 200
    assert trio.current_time() - began < 1
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PING_TIMEOUT]


async def test_a_get_on_an_idle_link_asks_nothing(hops: Hops) -> None:
    _client, origin = await opened(hops)
    await origin.catch_up()
    await trio.sleep(40)
    getter = await ask(hops)
    origin.events.clear()
    await origin.serve()
    assert "PingReceived" not in [type(event).__name__ for event in origin.events]
    await getter.message()


# -- limits ----------------------------------------------------------------------------------


async def test_max_requests_ends_a_link_after_its_streams(hops: Hops) -> None:
    _client, origin = await opened(hops, max_requests=3)
    first, second = await ask(hops), await ask(hops)
    requests = [await origin.whole(), await origin.whole()]
    third = await ask(hops)
    another = await accept(hops)
    await another.serve()
    await third.message()
    for request in requests:
        await origin.respond(request.number)
    await first.message()
    await second.message()
    await origin.peer.gone()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.REQUEST_LIMIT]


async def test_max_age_ends_a_link_after_its_streams(hops: Hops) -> None:
    _client, origin = await opened(hops, max_age=30.0)
    waits = await ask(hops)
    request = await origin.whole()
    await origin.stay(31)
    other = await ask(hops)
    await origin.serve()  # the one that finds out
    await other.message()
    other = await ask(hops)
    another = await accept(hops)
    await another.serve()
    await other.message()
    await origin.respond(request.number)
    await waits.message()
    await origin.peer.gone()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MAX_AGE]


async def test_an_idle_link_ends_after_the_idle_timeout_with_goaway(hops: Hops) -> None:
    _client, origin = await opened(hops, idle_timeout=20.0)
    await trio.sleep(21)
    while origin.left is None:
        await origin.more()
    await origin.peer.gone()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]


async def test_a_response_that_does_not_come_is_504_and_its_stream_reset(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(GET)
    request = await origin.whole()
    assert (await client.message()).status == 504
    await hops.quiet()
    await origin.more()
    assert request.reset == CANCEL


async def test_a_drain_waits_for_all_streams(hops: Hops) -> None:
    _client, origin = await opened(hops)
    clients = [await ask(hops) for _ in range(10)]
    requests = [await origin.whole() for _ in range(10)]
    hops.worker.stop()
    await hops.quiet()
    for request in requests:
        await origin.respond(request.number)
    for peer in clients:
        assert (await peer.message()).status == 200
    await origin.peer.gone()
    await hops.ended.wait()


async def test_streams_are_seen(hops: Hops) -> None:
    _client, origin = await opened(hops, {3: 50})
    await hops.quiet()
    waiting = await ask(hops)
    refused = await ask(hops)
    await origin.whole()
    request = await origin.whole()
    [row] = (await links_of(hops.runtime))["upstreams"]
    assert (row["protocol"], row["streams"], row["max_streams"]) == ("h2", 2, 50)
    assert (row["state"], row["requests"], row["upstream"]) == ("busy", 3, "app")
    [share] = (await links_of(hops.runtime))["origins"]
    assert (share["streams"], share["lent"]) == (2, 1)
    origin.h2.reset_stream(request.number, INTERNAL)
    await origin.send()
    await refused.message()
    assert hops.records.kept[-1].upstream_stream == request.number
    lent, resets = list(Streams(hops.runtime).of_origins())
    assert list(lent.samples.values()) == [1]
    assert {labels: count for (_, labels), count in resets.samples.items()} == {
        (("code", "INTERNAL_ERROR"),): 1
    }
    waiting.close()


# -- origins that break rules ----------------------------------------------------------------


def raw(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload
    )


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([(":status", "200"), ("content-length", "5")], b"four"),
        ([(":status", "200"), ("content-length", "3")], b"four"),
        ([(":status", "200"), ("connection", "close")], b"four"),
        ([(":status", "200"), ("transfer-encoding", "chunked")], b"four"),
        ([(":status", "200"), ("X-Upper", "1")], b"four"),
        ([(":status", "101")], b"four"),
        ([(":status", "20")], b"four"),
        ([("x", "1")], b"four"),
        ([(":status", "200"), ("content-length", "4"), ("content-length", "5")], b"four"),
        ([(":status", "204")], b"four"),
    ],
)
async def test_a_malformed_response_is_502_and_ends_its_stream_alone(
    hops: Hops, fields: list[tuple[str, str]], body: bytes
) -> None:
    client, origin = await opened(hops)
    await client.send(GET)
    request = await origin.whole()
    block = origin.h2.encoder.encode(fields)
    await origin.send(raw(1, 4, request.number, block) + raw(0, 1, request.number, body))
    assert (await client.message()).status == 502
    client = await ask(hops)
    await origin.serve()
    assert (await client.message()).status == 200
    assert len(hops.runtime.pool.links) == 1


@pytest.mark.parametrize(
    "frames",
    [
        raw(5, 4, 1, (2).to_bytes(4, "big") + b"\x88"),  # PUSH_PROMISE
        raw(4, 0, 0, b"\0\x02" + (1).to_bytes(4, "big")),  # ENABLE_PUSH
        raw(1, 4, 2, b"\x88"),
        raw(1, 5, 3, b"\xff\xff\xff\xff\x0f"),
        raw(0, 1, 99, b"x"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        raw(6, 0, 0, bytes(8)) * 1100,
        raw(4, 0, 0, b"") * 600,
        raw(1, 0, 3, b"") + raw(9, 0, 3, b"") * 1100,
    ],
)
async def test_a_connection_error_ends_the_link(hops: Hops, frames: bytes) -> None:
    client, origin = await opened(hops)
    await client.send(POST)
    await origin.whole()
    await origin.send(frames)
    assert (await client.message()).status == 502
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]


async def test_a_bomb_in_a_head_ends_the_link(hops: Hops) -> None:
    client, origin = await opened(hops)
    await client.send(POST)
    request = await origin.whole()
    # One line of 4,000 bytes into the table, then that line 3,000 times.
    block = b"\x88\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 3000
    await origin.send(raw(1, 4, request.number, block))
    assert (await client.message()).status == 502
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]


async def test_resets_of_all_requests_cost_no_flood_of_dials(hops: Hops) -> None:
    _client, origin = await opened(hops, max_connections=4)
    clients = [await ask(hops) for _ in range(60)]
    answered = 0
    async with trio.open_nursery() as nursery:

        async def refuse(peer: H2Peer) -> None:
            while True:
                request = await peer.request()
                peer.h2.reset_stream(request.number, REFUSED)
                await peer.send()

        async def accept_all() -> None:
            while True:
                nursery.start_soon(refuse, await accept(hops))

        nursery.start_soon(refuse, origin)
        nursery.start_soon(accept_all)
        for client in clients:
            answered += (await client.message()).status == 502
        assert len(hops.runtime.pool.links) <= 4
        nursery.cancel_scope.cancel()
    assert answered == 60
    assert {record.attempts for record in hops.records.kept[1:]} == {4}


WITHOUT_BODY = [
    (b"HEAD", [(":status", "200"), ("content-length", "9")]),
    (b"GET", [(":status", "200"), ("content-length", "0")]),
    (b"GET", [(":status", "204")]),
    (b"GET", [(":status", "304")]),
]


@pytest.mark.parametrize(("method", "fields"), WITHOUT_BODY)
async def test_data_behind_a_head_that_has_no_body_makes_it_malformed(
    hops: Hops, method: bytes, fields: list[tuple[str, str]]
) -> None:
    """RFC 9113 section 8.1.1: it is not passed on, or cut if its head was."""
    _client, origin = await opened(hops)
    first = await ask(hops, GET.replace(b"GET", method))
    second = H2Client(await hops.client())
    await second.start()
    stream = await second.request([(b":method", method), *ASKED[1:]])
    for _ in range(2):
        request = await origin.request()
        origin.h2.send_headers(request.number, fields)
        await origin.send()
        await hops.quiet()
        await origin.send(raw(0, 1, request.number, b"x"))
    assert (await first.rest()).endswith(b"\r\n\r\n"), "a head, and the end of the connection"
    answer = await second.answer(stream)
    assert (answer.body, answer.ended, answer.reset) == (b"", False, INTERNAL_ERROR)
    assert {record.cause for record in hops.records.kept[1:]} == {"http_protocol_error"}
    assert len(hops.runtime.pool.links) == 1


@pytest.mark.parametrize(("method", "fields"), WITHOUT_BODY)
async def test_a_stream_counts_until_its_origin_has_ended_it(
    hops: Hops, method: bytes, fields: list[tuple[str, str]]
) -> None:
    """An origin that allows one at a time takes the next one for an error before that."""
    client, origin = await opened(hops, {3: 1})
    await client.send(GET.replace(b"GET", method))
    request = await origin.request()
    origin.h2.send_headers(request.number, fields)
    await origin.send()
    await client.until(b"\r\n\r\n")
    other = await ask(hops)
    await (await accept(hops, {3: 1})).serve()
    assert (await other.message()).status == 200
    origin.h2.end_stream(request.number)
    await origin.send()
    await hops.quiet()
    await client.send(GET)
    await origin.serve()
    assert (await client.message()).status == 200
    assert request.reset is None


@pytest.mark.parametrize("size", [70_000, 120_000])
async def test_a_large_head_is_502_and_costs_no_other_response(hops: Hops, size: int) -> None:
    client, origin = await opened(hops)
    await client.send(GET)
    request = await origin.whole()
    other = await ask(hops)
    await origin.whole()
    block = origin.h2.encoder.encode([*OK, ("x-large", "y" * size)], huffman=False)
    first, *more = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    frames = [raw(1, 1, request.number, first)]
    frames += [raw(9, 4 if part is more[-1] else 0, request.number, part) for part in more]
    await origin.send(*frames)
    assert (await client.message()).status == 502
    await origin.respond(request.number + 2)
    assert (await other.message()).status == 200


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"OK\n", "SETTINGS is missing"),
    ],
    ids=["HTTP/1.1", "TLS alert", "text"],
)
async def test_an_origin_of_another_protocol_is_named_at_once(
    hops: Hops, said: bytes, named: str
) -> None:
    """It stays connected, and may have sent less than the header of a frame."""
    await start(hops)
    began = trio.current_time()
    client = await ask(hops)
    origin = await hops.origins[0].accept()
    await origin.send(said)
    assert (await client.message()).status == 502
    assert trio.current_time() == began
    await hops.quiet()
    assert named in hops.records.kept[-1].detail


# -- faults of ours --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (H2UpstreamStream, "on_head"),
        (H2UpstreamStream, "on_content"),
        (H2UpstreamStream, "push"),
        (H2UpstreamStream, "write_request"),
        (H2UpstreamStream, "take_content"),
    ],
)
async def test_a_fault_ends_its_link_or_its_request_and_nothing_else(
    hops: Hops,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    name: str,
) -> None:
    client, origin = await opened(hops)

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails)
        await client.send(POST)
        if name not in ("write_request", "push"):
            request = await origin.whole()
            await origin.respond(request.number)
        if name == "on_content":  # the response has begun: it is cut
            await client.gone()
        else:
            assert (await client.message()).status in (500, 502)
    assert any(record.exc_info for record in caplog.records)
    other = await ask(hops)
    if hops.closes(Hop.UPSTREAM):
        origin = await accept(hops)
    served = None
    while served is None or served[":method"] != "GET":
        served = await origin.whole() if name != "push" or served else await origin.request()
    await origin.respond(served.number)
    assert (await other.message()).status == 200

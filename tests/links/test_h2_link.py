"""HTTP/2 on the client's hop: streams, their turns, their windows, and how they end."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from tests.h2_peer import (
    ACK,
    CANCEL,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    POST,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    H2Peer,
    frame,
    get,
    number,
    setting,
)
from tests.raw_peers import OK
from tests.wire_pair import Hops


async def connected(hops: Hops, *settings: tuple[int, int], **client: Any) -> H2Peer:
    """A worker, and a client whose connection has begun."""
    await hops.start(client=client)
    peer = H2Peer(await hops.client())
    await peer.start(*settings)
    return peer


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_many_requests_on_one_connection_each_by_its_own_link(hops: Hops) -> None:
    h2 = await connected(hops)
    streams = [await h2.request(get(b"/%d" % place)) for place in range(5)]
    upstreams = [await hops.origins[0].accept() for _ in streams]
    paths = {}
    for upstream in upstreams:
        paths[(await upstream.message()).start.split(b" ")[1]] = upstream
    for place in (3, 0, 4, 1, 2):  # in any order
        await paths[b"/%d" % place].send(response(b"answer %d" % place))
        answer = await h2.answer(streams[place])
        assert (answer.status, answer.body) == (200, b"answer %d" % place)
    assert [record.stream for record in hops.records.kept] == [7, 1, 9, 3, 5]
    assert [record.link_request for record in hops.records.kept] == [4, 1, 5, 2, 3]


async def test_the_origin_sees_one_clean_message(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request([*GET, (b"cookie", b"a=1"), (b"x-a", b"b"), (b"cookie", b"b=2")])
    upstream = await hops.origins[0].accept()
    seen = await upstream.message()
    assert seen.start == b"GET / HTTP/1.1"
    assert dict(seen.fields)[b"host"] == b"a"
    assert dict(seen.fields)[b"cookie"] == b"a=1; b=2"
    assert dict(seen.fields)[b"via"] == b"2.0 hopproxy"
    assert b"connection" not in dict(seen.fields)
    await upstream.send(OK)
    await h2.answer(1)


async def test_a_small_body_is_sent_with_its_head(hops: Hops) -> None:
    h2 = await connected(hops)
    head = h2.head([*POST, (b"content-length", b"3")], end=False)
    await h2.send(head, frame(DATA, END_STREAM, 1, b"abc"))
    upstream = await hops.origins[0].accept()
    seen = await upstream.message()
    assert seen.body == b"abc"
    assert seen.values(b"content-length") == [b"3"]
    await upstream.send(OK)
    assert (await h2.answer(1)).body == b"ok"


async def test_a_body_of_unknown_length_is_chunked_upstream_with_its_trailers(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request(POST, end=False)
    upstream = await hops.origins[0].accept()
    await h2.data(1, b"one")
    assert await upstream.until(b"one\r\n")
    await h2.data(1, b"two")
    await h2.send(h2.head([(b"x-sum", b"9")], stream=1))
    assert await upstream.until(b"0\r\nx-sum: 9\r\n\r\n")
    await upstream.send(OK)
    assert (await h2.answer(1)).status == 200


async def test_the_client_may_send_as_much_as_the_origin_takes(hops: Hops) -> None:
    """Credit is given when the other hop has taken the bytes, not when they came."""
    h2 = await connected(hops)
    await h2.request(POST, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    sent = 0
    while sent < 65535:  # the whole window: the origin reads nothing
        await h2.data(1, b"x" * 13107)
        sent += 13107
    await hops.quiet()
    held = len(hops.runtime.clients.links)
    assert held == 1
    [link] = hops.runtime.clients.links
    [stream] = link.streams  # type: ignore[attr-defined]
    assert stream.wire.receive_window < 65535
    total = 0
    while total < sent:
        size = int(await upstream.until(b"\r\n"), 16)
        await upstream.exactly(size + 2)
        total += size
    await h2.data(1, b"y", end=True)
    await upstream.until(b"0\r\n\r\n")
    await upstream.send(OK)
    assert (await h2.answer(1)).status == 200
    updates = [f for f in h2.frames if f.kind == WINDOW_UPDATE and f.stream == 1]
    assert 32768 <= sum(int.from_bytes(f.payload, "big") for f in updates) <= sent + 1


async def test_one_upload_that_stalls_stops_no_other(hops: Hops) -> None:
    h2 = await connected(hops)
    for _ in range(20):
        stalled = await h2.request(POST, end=False)
        for _ in range(5):
            await h2.data(stalled, b"x" * 13107)
    other = await h2.request([*POST, (b"content-length", b"1")], end=False)
    await h2.data(other, b"y", end=True)
    upstream = await hops.origins[0].accept()  # those that stall take no link in the first second
    assert (await upstream.message()).body == b"y"
    await upstream.send(OK)
    assert (await h2.answer(other)).body == b"ok"
    for link in [upstream] + [await hops.origins[0].accept() for _ in range(19)]:
        await link.until(b"\r\n\r\n")


async def test_streams_with_long_responses_take_turns(hops: Hops) -> None:
    h2 = await connected(hops, (4, 1 << 20))
    await h2.send(frame(WINDOW_UPDATE, 0, 0, number(1 << 20)))
    streams = [await h2.request() for _ in range(3)]
    bodies = [bytes([97 + place]) * 200_000 for place in range(3)]
    upstreams = [await hops.origins[0].accept() for _ in streams]
    async with trio.open_nursery() as nursery:
        for upstream, body in zip(upstreams, bodies, strict=True):
            nursery.start_soon(upstream.send, response(body))
        answers = [await h2.answer(stream) for stream in streams]
    assert sorted(answer.body for answer in answers) == bodies
    order = [f.stream for f in h2.frames if f.kind == DATA]
    assert order != sorted(order), "one after the other"


async def test_a_response_waits_for_the_window_of_its_stream_alone(hops: Hops) -> None:
    h2 = await connected(hops, (4, 10))
    slow, quick = await h2.request(), await h2.request(get(b"/2"))
    first, second = [await hops.origins[0].accept() for _ in range(2)]
    await first.send(response(b"x" * 25))
    await second.send(response(b"y" * 5))
    assert (await h2.answer(quick)).body == b"y" * 5
    assert h2.answers[slow].body == b"x" * 10
    await h2.send(frame(WINDOW_UPDATE, 0, slow, number(15)))
    answer = await h2.answer(slow)
    assert (answer.body, answer.ended) == (b"x" * 25, True)


async def test_a_window_of_the_connection_that_is_used_up_holds_all(hops: Hops) -> None:
    h2 = await connected(hops, (4, 1 << 20))
    streams = [await h2.request() for _ in range(2)]
    for _ in streams:
        upstream = await hops.origins[0].accept()
        await upstream.send(response(b"x" * 50_000))
    await hops.quiet()
    while sum(len(answer.body) for answer in h2.answers.values()) < 65535:
        await h2.read()
    await h2.send(frame(WINDOW_UPDATE, 0, 0, number(100_000)))
    for stream in streams:
        assert len((await h2.answer(stream)).body) == 50_000


async def test_a_window_that_stays_closed_ends_its_stream_alone(hops: Hops) -> None:
    h2 = await connected(hops, (4, 0), write_timeout=20.0)
    began = trio.current_time()
    stalled = await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(response(b"x" * 100))
    answer = await h2.answer(stalled)
    assert answer.reset == CANCEL
    assert trio.current_time() - began == pytest.approx(20.0)
    other = await h2.request([(b":method", b"HEAD"), *GET[1:]])
    await upstream.message()  # the link came free when its response had been read
    await upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\n\r\n")
    assert (await h2.answer(other)).status == 200
    assert hops.records.kept[0].cause == "client_timeout"
    assert hops.records.kept[0].passed == ("write_timeout", 20.0)


async def test_a_client_that_reads_nothing_is_left(hops: Hops) -> None:
    await hops.start(client={"write_timeout": 20.0})
    h2 = H2Peer(await hops.client(receive_buffer=2304))
    await h2.start((4, 1 << 24))
    await h2.send(frame(WINDOW_UPDATE, 0, 0, number(1 << 24)))
    await h2.request()
    upstream = await hops.origins[0].accept()
    with contextlib.suppress(ConnectionError):
        await upstream.send(response(b"x" * 3_000_000))
    assert hops.closes(Hop.CLIENT) == [CloseReason.WRITE_TIMEOUT]


async def test_an_early_answer_ends_the_stream_and_not_the_connection(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request(POST, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 413 No\r\nDate: x\r\nContent-Length: 2\r\n\r\nno")
    answer = await h2.answer(1)
    assert (answer.status, answer.body, answer.ended) == (413, b"no", True)
    for _ in range(10):  # a client that sends it all before it looks at the answer
        await h2.data(1, b"x" * 15_000)
        await hops.quiet()
    await h2.data(1, b"", end=True)
    await ask_again(hops, h2)
    assert answer.reset is None
    assert hops.closes(Hop.CLIENT) == []


async def test_a_body_that_is_not_needed_is_not_taken_for_ever(hops: Hops) -> None:
    h2 = await connected(hops, linger_size=100_000)
    await h2.request(POST, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 413 No\r\nDate: x\r\nContent-Length: 2\r\n\r\nno")
    answer = await h2.answer(1)
    for _ in range(7):
        await h2.data(1, b"x" * 15_000)
        await hops.quiet()
    while answer.reset is None:
        await h2.read()
    assert answer.reset == NO_ERROR
    await h2.data(1, b"late")  # crossed the reset
    await ask_again(hops, h2)


async def ask_again(hops: Hops, h2: H2Peer) -> Any:
    """One more exchange on a new upstream link."""
    stream = await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(OK)
    assert (await h2.answer(stream)).body == b"ok"
    return upstream


async def test_a_response_that_its_origin_cuts_ends_in_a_reset(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 10\r\n\r\nfive5")
    await hops.quiet()
    upstream.close()
    answer = await h2.answer(1)
    assert (answer.body, answer.ended, answer.reset) == (b"five5", False, INTERNAL_ERROR)
    await ask_again(hops, h2)


async def test_trailers_and_interim_responses_are_passed_on(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request([*GET, (b"te", b"trailers")])
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await upstream.send(
        b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
    )
    answer = await h2.answer(1)
    assert answer.statuses == [103, 200]
    assert answer.heads[0] == [(b":status", b"103"), (b"link", b"</a>")]
    assert (answer.body, answer.trailers) == (b"ok", [(b"x-t", b"1")])
    assert answer.values(b"transfer-encoding") == []


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_response_without_a_body_ends_with_its_head(hops: Hops, status: bytes) -> None:
    h2 = await connected(hops)
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.send(b"HTTP/1.1 %b\r\nDate: x\r\n\r\n" % status)
    answer = await h2.answer(1)
    assert answer.ended
    assert [f.kind for f in h2.frames if f.stream == 1] == [1]


async def test_expect_is_answered_by_the_origin(hops: Hops) -> None:
    h2 = await connected(hops)
    fields = [*POST, (b"expect", b"100-continue"), (b"content-length", b"2")]
    await h2.request(fields, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not h2.answers.get(1):
        await h2.read()
    assert h2.answers[1].statuses == [100]
    await h2.data(1, b"hi", end=True)
    assert await upstream.exactly(2) == b"hi"
    await upstream.send(OK)
    assert (await h2.answer(1)).status == 200


# -- resets ------------------------------------------------------------------------------------


async def test_a_reset_request_costs_its_origin_no_link_if_it_answers_soon(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await h2.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    await hops.quiet()
    await upstream.send(OK)
    await hops.quiet()
    assert hops.records.kept[0].cause == "client_closed"
    stream = await h2.request()
    await upstream.message()  # on the same link
    await upstream.send(OK)
    assert (await h2.answer(stream)).status == 200
    assert [f.stream for f in h2.frames if f.kind in (DATA, 1)] == [3, 3]


async def test_a_reset_request_is_given_up_after_a_moment(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.message()
    began = trio.current_time()
    await h2.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    await upstream.gone()
    assert trio.current_time() - began == 1.0
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]
    assert hops.records.kept[0].status == 499


async def test_a_reset_upload_is_given_up_at_once(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request(POST, end=False)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    began = trio.current_time()
    await h2.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    await upstream.gone()
    assert trio.current_time() == began
    await ask_again(hops, h2)


async def test_a_request_that_is_reset_at_once_reaches_no_one(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.send(h2.head(GET), frame(RST_STREAM, 0, 1, number(CANCEL)))
    await ask_again(hops, h2)
    assert len(hops.origins[0].peers) == 1


async def test_more_requests_than_max_streams_wait_while_reset_ones_go_on(hops: Hops) -> None:
    """What a client has reset counts until its exchange has ended."""
    h2 = await connected(hops, max_streams=2)
    for stream in (await h2.request(), await h2.request()):
        await (await hops.origins[0].accept()).message()
        await h2.send(frame(RST_STREAM, 0, stream, number(CANCEL)))
    third = await h2.request(get(b"/3"))
    await hops.quiet()
    assert not hops.origins[0].waiting()
    await hops.origins[0].peers[0].send(OK)
    assert (await hops.origins[0].peers[0].message()).start == b"GET /3 HTTP/1.1"
    await hops.origins[0].peers[0].send(OK)
    assert (await h2.answer(third)).status == 200
    assert len(hops.origins[0].peers) == 2


# -- the connection ----------------------------------------------------------------------------


async def test_an_idle_connection_says_goodbye(hops: Hops) -> None:
    h2 = await connected(hops, idle_timeout=30.0)
    await ask_again(hops, h2)
    began = trio.current_time()
    await h2.until_end()
    assert trio.current_time() - began == 30.0
    assert [(f.last, f.code) for f in h2.goaways] == [(1, NO_ERROR)]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.IDLE_TIMEOUT]


async def test_max_requests_loses_no_request(hops: Hops) -> None:
    """First a GOAWAY that allows all, then, a round trip later, one with the last request."""
    h2 = await connected(hops, max_requests=2)
    streams = [await h2.request() for _ in range(3)]
    for _ in streams:
        await (await hops.origins[0].accept()).send(OK)
    for stream in streams:
        assert (await h2.answer(stream)).status == 200
    while not h2.goaways:
        await h2.read()
    while not [f for f in h2.frames if f.kind == PING]:
        await h2.read()
    [ping] = [f for f in h2.frames if f.kind == PING]
    await h2.send(frame(PING, ACK, 0, ping.payload))
    await h2.until_end()
    assert [f.last for f in h2.goaways] == [0x7FFFFFFF, 5]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.REQUEST_LIMIT]


async def test_a_broken_rule_ends_the_connection_with_its_section(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.request()
    upstream = await hops.origins[0].accept()
    await h2.send(frame(SETTINGS, 0, 1, b""))
    await h2.until_end()
    assert [(f.code, f.payload[8:]) for f in h2.goaways] == [
        (PROTOCOL_ERROR, b"SETTINGS on a stream")
    ]
    await upstream.gone()
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PROTOCOL_ERROR]
    assert [record.cause for record in hops.records.kept] == ["http_request_error"] * 2
    assert hops.records.kept[0].detail == "SETTINGS on a stream (RFC 9113 section 6.5)"


async def test_a_flood_of_pings_ends_the_connection(hops: Hops) -> None:
    h2 = await connected(hops)
    await h2.send(frame(PING, 0, 0, b"12345678") * 2000)
    await h2.until_end()
    assert [f.code for f in h2.goaways] == [ENHANCE_YOUR_CALM]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.FLOODED]


MALFORMED = [*GET, (b"Upper", b"x")]


@pytest.mark.parametrize("beside", [0, 1])
async def test_a_flood_of_malformed_requests_ends_the_connection(hops: Hops, beside: int) -> None:
    h2 = await connected(hops)
    for _ in range(beside):  # an exchange under way
        await h2.request()
        await hops.origins[0].accept()
    await h2.send(*[h2.head(MALFORMED) for _ in range(200)])
    await h2.until_end()
    assert [f.code for f in h2.goaways] == [ENHANCE_YOUR_CALM]
    assert sum(bool(answer.heads) for answer in h2.answers.values()) < 150
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.FLOODED]
    assert not hops.runtime.clients.streams.open


async def test_a_malformed_request_now_and_then_ends_nothing(hops: Hops) -> None:
    h2 = await connected(hops)
    for _ in range(300):
        answer = await h2.answer(await h2.request(MALFORMED))
        assert (answer.status, answer.reset) == (400, PROTOCOL_ERROR)
        await trio.sleep(0.2)
    assert h2.goaways == []


async def test_a_client_that_closes_ends_all_its_requests(hops: Hops) -> None:
    h2 = await connected(hops)
    for _ in range(3):
        await h2.request()
    upstreams = [await hops.origins[0].accept() for _ in range(3)]
    h2.peer.close()
    for upstream in upstreams:
        await upstream.gone()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]
    assert [record.cause for record in hops.records.kept] == ["client_closed"] * 3


async def test_a_smaller_table_is_acknowledged_in_the_next_block(hops: Hops) -> None:
    """RFC 7541 section 4.2."""
    h2 = await connected(hops, (1, 0))
    h2.decoder.max_allowed_table_size = 0
    await ask_again(hops, h2)
    stream = await h2.request()
    await hops.origins[0].peers[0].send(OK)
    assert (await h2.answer(stream)).status == 200


async def test_a_drain_lets_all_requests_end(hops: Hops) -> None:
    h2 = await connected(hops)
    streams = [await h2.request() for _ in range(3)]
    upstreams = [await hops.origins[0].accept() for _ in streams]
    hops.worker.stop()
    await hops.quiet()
    for upstream in upstreams:
        await upstream.send(OK)
    for stream in streams:
        assert (await h2.answer(stream)).status == 200
    await h2.until_end()
    assert h2.goaways[-1].last == 5
    h2.peer.close()
    await hops.ended.wait()
    assert hops.closes(Hop.CLIENT) == [CloseReason.DRAINING]


async def test_settings_that_change_the_window_change_it_for_streams_under_way(hops: Hops) -> None:
    h2 = await connected(hops, (4, 0))
    await h2.request()
    upstream = await hops.origins[0].accept()
    await upstream.send(response(b"x" * 100))
    await hops.quiet()
    await h2.send(frame(SETTINGS, 0, 0, setting(4, 1000)))
    assert (await h2.answer(1)).body == b"x" * 100

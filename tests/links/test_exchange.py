"""One exchange across both hops: repetition, early answers, interim ones, bodies cut or stalled."""

from __future__ import annotations

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from tests.wire_pair import GET, OK, Hops, Peer

EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def request(method: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """A request with a sized body."""
    if body:
        lines = (*lines, b"Content-Length: %d" % len(body))
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *lines, b"", body])


async def half_closed(hops: Hops, asking: bytes) -> tuple[Peer, bool]:
    """A reused link dies under this request: its client, and whether it was sent once more."""
    client, upstream = await hops.pair()
    await client.send(asking)
    await upstream.message()
    upstream.close()
    await hops.quiet()
    return client, hops.origins[0].waiting()


# -- repetition (RFC 9110 section 9.2.2) -------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
async def test_an_idempotent_request_is_sent_once_more_on_a_fresh_link(
    hops: Hops, method: bytes
) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(method))
    assert repeated
    fresh = hops.origins[0].peers[-1]
    assert (await fresh.message()).start == method + b" / HTTP/1.1"
    await fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await client.message()).status == 200
    await hops.quiet()
    assert hops.records.kept[-1].attempts == 2


async def test_a_put_whose_body_was_at_hand_is_repeated_whole(hops: Hops) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(b"PUT", b"body"))
    assert repeated
    fresh = hops.origins[0].peers[-1]
    assert (await fresh.message()).body == b"body"
    await fresh.send(OK)
    assert (await client.message()).status == 200


async def test_a_post_is_never_sent_twice(hops: Hops) -> None:
    await hops.start()
    client, repeated = await half_closed(hops, request(b"POST", b"body"))
    assert not repeated
    assert (await client.message()).status == 502


async def test_an_idempotency_key_repeats_a_post_where_the_settings_say_so(hops: Hops) -> None:
    await hops.start(upstream={"retry_idempotency_key": True})
    _, repeated = await half_closed(hops, request(b"POST", b"body", b"Idempotency-Key: 1"))
    assert repeated


async def test_a_fresh_link_that_dies_is_not_followed_by_another(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.asked()
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_not_even_a_get_is_repeated_once_a_byte_of_an_answer_came(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    await client.send(GET)
    await upstream.message()
    await upstream.send(b"HTTP")
    await hops.quiet()
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_a_repetition_that_dies_too_is_the_last(hops: Hops) -> None:
    origin = await hops.start()
    client, repeated = await half_closed(hops, GET)
    assert repeated
    await origin.peers[-1].message()
    origin.peers[-1].close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


async def test_a_repetition_leaves_the_other_idle_links_alone(hops: Hops) -> None:
    await hops.start()
    (other, cold), (client, warm) = [await hops.asked() for _ in range(2)]
    for asking, upstream in ((other, cold), (client, warm)):
        await upstream.send(OK)
        await asking.message()
        await hops.quiet()
    await client.send(GET)
    await warm.message()
    warm.close()
    fresh = await hops.origins[0].accept()
    await fresh.message()
    assert cold.pending() == b""
    await fresh.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_short_body_on_its_way_is_repeated_from_its_beginning(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
    await upstream.until(b"123")
    upstream.close()
    fresh = await origin.accept()
    await client.send(b"4567890")
    assert (await fresh.message()).body == b"1234567890"
    await fresh.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_long_body_on_its_way_is_not_repeated(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, head + bytes(1_000_000))
        await upstream.until(b"\r\n\r\n")
        await upstream.exactly(1_000_000)
    upstream.close()
    assert (await client.message()).status == 502
    assert not origin.waiting()


# -- early answers, uploads --------------------------------------------------------------------


async def test_an_answer_during_the_upload_reaches_the_client_and_ends_both_links(
    hops: Hops,
) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(CHUNKED_POST + b"3\r\nabc\r\n")
    upstream = await hops.origins[0].accept()
    await upstream.until(b"abc")
    await upstream.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    answer = await client.message()
    assert (answer.status, answer.body) == (413, b"no")
    assert answer.values(b"connection") == [b"close"]
    assert await client.rest() == b""
    await upstream.rest()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.EARLY_ANSWER]


async def test_request_and_response_bodies_flow_at_the_same_time(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(CHUNKED_POST + b"1\r\na\r\n")
    upstream = await hops.origins[0].accept()
    await upstream.until(b"1\r\na\r\n")
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
    await client.until(b"1\r\nA\r\n")
    await client.send(b"1\r\nb\r\n")
    await upstream.until(b"1\r\nb\r\n")
    await upstream.send(b"1\r\nB\r\n")
    await client.until(b"1\r\nB\r\n")
    await client.send(b"0\r\n\r\n")
    await upstream.until(b"0\r\n\r\n")
    await upstream.send(b"0\r\n\r\n")
    await client.until(b"0\r\n\r\n")


async def test_the_response_timeout_counts_from_the_end_of_the_upload(hops: Hops) -> None:
    await hops.start(upstream={"response_timeout": 10.0}, client={"body_timeout": 60.0})
    client = await hops.client()
    await client.send(CHUNKED_POST)
    upstream = await hops.origins[0].accept()
    for _ in range(3):
        await trio.sleep(9)
        await client.send(b"1\r\na\r\n")
    await client.send(b"0\r\n\r\n")
    await upstream.until(b"0\r\n\r\n")
    began = trio.current_time()
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(10.0)


@pytest.mark.parametrize("first", [HINTS, b"HTTP/1.1 200 OK\r\nX: "], ids=["interim", "piece"])
async def test_after_an_upload_a_first_piece_does_not_lift_the_response_timeout(
    hops: Hops, first: bytes
) -> None:
    await hops.start(upstream={"response_timeout": 10.0})
    client = await hops.client()
    await client.send(CHUNKED_POST)
    upstream = await hops.origins[0].accept()
    await client.send(b"0\r\n\r\n")
    await upstream.until(b"0\r\n\r\n")
    began = trio.current_time()
    await trio.sleep(4)
    await upstream.send(first)
    if first is HINTS:
        assert (await client.message()).status == 103
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(10.0)


async def test_the_end_of_an_upload_does_not_move_the_limit_of_a_body_under_way(
    hops: Hops,
) -> None:
    await hops.start(upstream={"response_timeout": 1000.0, "body_timeout": 10.0})
    client = await hops.client()
    await client.send(CHUNKED_POST)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(b"abc")
    began = trio.current_time()
    await client.send(b"0\r\n\r\n")
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(10.0)


async def test_an_origin_that_answers_and_then_resets_the_upload_is_still_heard(
    tcp_hops: Hops,
) -> None:
    await tcp_hops.start()
    client = await tcp_hops.client()
    await client.send(CHUNKED_POST)
    upstream = await tcp_hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    upstream.close()
    assert (await client.message()).status == 413


# -- Expect, interim responses -----------------------------------------------------------------


async def test_the_origins_100_lets_the_body_go(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(EXPECT)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(CONTINUE)
    assert (await client.message()).status == 100
    await client.send(b"body")
    assert await upstream.exactly(4) == b"body"
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert (await hops.again(client, upstream)).body == b"ok", "both links live on"


async def test_an_origin_that_says_nothing_gets_the_body_after_continue_timeout(
    hops: Hops,
) -> None:
    await hops.start(upstream={"continue_timeout": 2.0})
    client = await hops.client()
    began = trio.current_time()
    await client.send(EXPECT)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    assert (await client.message()).status == 100
    assert trio.current_time() - began == pytest.approx(2.0)
    await client.send(b"body")
    assert await upstream.exactly(4) == b"body"
    await upstream.send(CONTINUE + OK)
    assert (await client.message()).status == 200, "the late 100 is not told twice"


async def test_a_refusal_instead_of_100_is_final_and_the_body_never_asked_for(
    hops: Hops,
) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(EXPECT)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (401, [b"close"])
    assert await upstream.rest() == b""
    assert await client.rest() == b""


async def test_an_old_client_gets_no_interim_response(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    await upstream.send(HINTS + OK)
    assert (await client.message()).status == 200


async def test_interim_responses_past_the_limit_are_a_bad_response(hops: Hops) -> None:
    await hops.start(upstream={"max_interim": 3})
    client, upstream = await hops.asked()
    await upstream.send(HINTS * 4 + OK)
    for _ in range(3):
        assert (await client.message()).status == 103
    assert (await client.message()).status == 502
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]


# -- bodies of responses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
    ids=["HEAD", "204", "304", "empty chunked"],
)
async def test_a_response_without_content_keeps_both_links(
    hops: Hops, method: bytes, response: bytes
) -> None:
    await hops.start()
    client, upstream = await hops.asked(request(method))
    await upstream.send(response)
    await client.until(b"\r\n\r\n")
    if b"chunked" in response:
        assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"
    await hops.quiet()
    assert client.pending() == b""
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_body_delimited_by_close_is_chunked_for_a_client_that_knows_chunks(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nbo")
    await hops.quiet()
    await upstream.send(b"dy")
    upstream.close()
    answer = await client.message()
    assert (answer.body, answer.values(b"transfer-encoding")) == (b"body", [b"chunked"])
    await client.send(GET)
    await (await hops.origins[0].accept()).message()


async def test_a_body_delimited_by_close_ends_the_link_of_an_old_client(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    )
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nbody")
    upstream.close()
    assert (await client.message()).values(b"connection") == [b"close"]
    assert await client.rest() == b"body"


async def test_a_cut_chunked_body_gets_no_last_chunk(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.until(b"\r\n\r\n")
    upstream.close()
    assert await client.rest() == b"3\r\nabc\r\n"
    assert hops.closes(Hop.CLIENT) == [CloseReason.RESPONSE_CUT]


async def test_a_cut_body_whose_end_only_the_close_tells_is_reset(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.until(b"abc")
    upstream.close()
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_a_body_that_stalls_is_cut_at_the_limit(hops: Hops) -> None:
    await hops.start(upstream={"body_timeout": 20.0})
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(b"abc")
    began = trio.current_time()
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(20.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BODY_TIMEOUT]


async def test_a_head_that_does_not_come_is_answered_504(hops: Hops) -> None:
    await hops.start(upstream={"response_timeout": 20.0})
    client, upstream = await hops.asked()
    began = trio.current_time()
    await trio.sleep(15)
    await upstream.send(b"HTTP/1.1 200")
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(20.0)
    assert await upstream.rest() == b""


# -- back-pressure, clients that leave ---------------------------------------------------------


async def test_a_client_that_reads_nothing_stops_an_endless_origin(hops: Hops) -> None:
    await hops.start()
    _, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert await _swallowed(upstream, b"8000\r\n" + bytes(32768) + b"\r\n") < 2_000_000


async def test_an_origin_that_reads_nothing_stops_an_endless_upload(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(CHUNKED_POST)
    await hops.origins[0].accept()
    assert await _swallowed(client, b"8000\r\n" + bytes(32768) + b"\r\n") < 2_000_000


async def _swallowed(peer: Peer, piece: bytes) -> int:
    """How many bytes can be sent before nothing moves for a second."""
    sent = 0
    while sent < 20_000_000:
        with trio.move_on_after(1):
            await peer.send(piece)
            sent += len(piece)
            continue
        break
    return sent


async def test_a_client_that_leaves_ends_the_wait_for_its_response(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    began = trio.current_time()
    client.close()
    assert await upstream.rest() == b""
    assert trio.current_time() == began
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


async def test_a_client_that_leaves_during_a_response_ends_it(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await client.until(b"abc")
    client.close()
    assert await upstream.rest() == b""


# -- links bound to one client -----------------------------------------------------------------

NTLM = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"


async def test_a_link_that_ntlm_has_bound_serves_its_client_alone_and_ends_with_it(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(NTLM)
    await client.message()
    other, _ = await hops.asked()
    assert (await hops.again(client, upstream)).body == b"ok"
    assert (await hops.again(client, upstream)).body == b"ok", "bound for good"
    client.close()
    assert await upstream.rest() == b""
    assert CloseReason.PRIVATE in hops.closes(Hop.UPSTREAM)
    other.close()

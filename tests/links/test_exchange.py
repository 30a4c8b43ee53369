"""One exchange across both hops: early answers, Expect, interim responses, bound links."""

from __future__ import annotations

import pytest
import trio

from hopproxy.record import CloseReason, Hop
from hopproxy.settings.schema import Pool
from tests.raw_peers import OK, Peer, get
from tests.wire_pair import Hops, two_upstreams

EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


async def begun(hops: Hops, request: bytes) -> tuple[Peer, Peer]:
    """A new client, and the link on which the head of its request has come, not yet a body."""
    client = await hops.client()
    await client.send(request)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    return client, upstream


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
    client, upstream = await begun(hops, CHUNKED_POST)
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
    client, upstream = await begun(tcp_hops, CHUNKED_POST)
    await upstream.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    upstream.close()
    assert (await client.message()).status == 413


# -- Expect, interim responses -----------------------------------------------------------------


async def test_the_origins_100_lets_the_body_go(hops: Hops) -> None:
    await hops.start()
    client, upstream = await begun(hops, EXPECT)
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
    began = trio.current_time()
    client, upstream = await begun(hops, EXPECT)
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
    client, upstream = await begun(hops, EXPECT)
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


async def test_a_client_bound_twice_gives_up_the_first_of_its_links(hops: Hops) -> None:
    await two_upstreams(hops, 10, Pool())
    client, first = await hops.asked(get(b"/a"))
    await first.send(NTLM)
    await client.message()
    await client.send(get(b"/b"))
    second = await hops.origins[1].accept()
    await second.message()
    await second.send(NTLM)
    await client.message()
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PRIVATE]
    assert second.pending() == b""
    await hops.quiet()
    hops.check_ledger()

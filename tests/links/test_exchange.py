"""One exchange across both hops: early answers, Expect, interim responses."""

from __future__ import annotations

import pytest
import trio

from hopproxy.pool.expectation import BELIEVED_FOR
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind
from hopproxy.settings.upstream import Pool
from tests.raw_peers import GET, OK, Origin, Peer
from tests.wire_pair import Hops, two_upstreams

EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
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
    patient = {"body_timeout": 60.0, "body_rate": 0}
    await hops.start(upstream={"response_timeout": 10.0}, client=patient)
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


SLOW = 2.0  # of continue_timeout in the tests below


async def uploaded(hops: Hops, waits: float, said: bytes = b"", late: bytes = b"") -> None:
    """An upload whose body is wanted after so many seconds, when the origin has said this much.

    `late` is what it says once it has the body, before its response.
    """
    client = await hops.client()
    began = trio.current_time()
    await client.send(EXPECT)
    upstream = await hops.origins[0].accept()
    assert b"\r\nExpect: 100-continue\r\n" in await upstream.until(b"\r\n\r\n")
    await upstream.send(said)
    assert (await client.message()).status == 100
    assert trio.current_time() - began == pytest.approx(waits)
    await client.send(b"body")
    assert await upstream.exactly(4) == b"body"
    await upstream.send(late + OK.replace(b"Date", b"Connection: close\r\nDate"))
    assert (await client.message()).status == 200
    client.close()
    upstream.close()
    await hops.quiet()


async def test_only_the_first_upload_waits_for_an_origin_that_never_sends_100(hops: Hops) -> None:
    await hops.start(upstream={"continue_timeout": SLOW})
    await uploaded(hops, SLOW)
    for _ in range(3):
        await uploaded(hops, 0)
        await trio.sleep(60)


async def test_an_origin_that_sends_its_100_too_late_is_waited_for_once(hops: Hops) -> None:
    await hops.start(upstream={"continue_timeout": SLOW})
    client, upstream = await begun(hops, EXPECT)
    assert (await client.message()).status == 100
    await trio.sleep(1)
    await upstream.send(CONTINUE)
    await client.send(b"body")
    await upstream.exactly(4)
    await upstream.send(OK)
    assert (await client.message()).status == 200, "the late 100 is not told twice"
    client.close()
    upstream.close()
    await hops.quiet()
    await uploaded(hops, 0)


async def test_an_origin_that_sends_a_100_again_is_waited_for_again(hops: Hops) -> None:
    await hops.start(upstream={"continue_timeout": SLOW})
    await uploaded(hops, SLOW)
    await uploaded(hops, 0, late=CONTINUE)
    await uploaded(hops, 0, said=CONTINUE)
    await uploaded(hops, SLOW)
    await uploaded(hops, 0)


async def test_a_wait_for_a_link_makes_no_100_late(hops: Hops) -> None:
    origin = await hops.start(
        upstream={"continue_timeout": SLOW}, pool={"max_connections": 1, "queue_timeout": 60.0}
    )
    await uploaded(hops, SLOW)
    _, busy = await hops.asked()
    client = await hops.client()
    await client.send(EXPECT)
    await trio.sleep(2 * SLOW)
    await busy.send(OK.replace(b"Date", b"Connection: close\r\nDate"))
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(CONTINUE)
    assert (await client.message()).status == 100
    await client.send(b"body")
    await upstream.exactly(4)
    await upstream.send(OK.replace(b"Date", b"Connection: close\r\nDate"))
    assert (await client.message()).status == 200
    await uploaded(hops, SLOW)


async def test_an_origin_that_was_gone_is_waited_for_again(hops: Hops) -> None:
    origin = await hops.start(upstream={"continue_timeout": SLOW})
    await uploaded(hops, SLOW)
    await uploaded(hops, 0)
    origin.close()
    client = await hops.client()
    await client.send(GET)
    assert (await client.message()).status == 502
    again = open_listener(Bind("unix", path=origin.address.path), 128)
    hops.origins[0] = Origin(again, origin.address)
    await uploaded(hops, SLOW)


async def test_now_and_then_an_upload_waits_again(hops: Hops) -> None:
    await hops.start(upstream={"continue_timeout": SLOW})
    await uploaded(hops, SLOW)
    await trio.sleep(BELIEVED_FOR)
    await uploaded(hops, SLOW)
    await uploaded(hops, 0)


async def test_what_one_origin_leaves_out_another_is_waited_for(hops: Hops) -> None:
    await two_upstreams(hops, 10, Pool())
    for name, origin in zip((b"a", b"b"), hops.origins, strict=True):
        client = await hops.client()
        began = trio.current_time()
        await client.send(EXPECT.replace(b"/ ", b"/%b " % name))
        await origin.accept()
        assert (await client.message()).status == 100
        assert trio.current_time() - began == pytest.approx(1.0)


async def test_the_response_of_an_origin_that_sends_no_100_is_not_taken_for_one(
    hops: Hops,
) -> None:
    await hops.start(upstream={"continue_timeout": SLOW})
    await uploaded(hops, SLOW)
    client, upstream = await begun(hops, EXPECT)
    assert (await client.message()).status == 100
    await upstream.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (413, [b"close"])
    assert await client.rest() == b""
    assert await upstream.rest() == b""


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

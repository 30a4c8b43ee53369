"""Upstream links that are bound to one client by its credentials (NTLM, Negotiate)."""

from __future__ import annotations

import pytest
import trio

from hopproxy.observe.snapshot import origin_row
from hopproxy.pool.pool import GREETING
from hopproxy.reasons import CloseReason, Hop, Unused
from hopproxy.settings.upstream import Pool
from tests.raw_peers import GET, OK, Peer, get
from tests.wire_pair import Hops, two_upstreams

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
CHALLENGE = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
LOGIN = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n"


async def logged_in(hops: Hops, request: bytes = LOGIN, origin: int = 0) -> tuple[Peer, Peer]:
    """A client whose credentials have been accepted, and the link that they have bound."""
    client, upstream = await hops.asked(request, origin)
    await upstream.send(CHALLENGE)
    assert (await client.message()).status == 401
    await client.send(request)
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).status == 200
    await hops.quiet()
    hops.check_ledger()
    return client, upstream


@pytest.mark.parametrize("scheme", [b"NTLM", b"Negotiate"])
async def test_a_challenge_without_credentials_binds_nothing(hops: Hops, scheme: bytes) -> None:
    await hops.start(pool={"max_connections": 4})
    _, upstream = await hops.asked()
    await upstream.send(CHALLENGE.replace(b"NTLM", scheme))
    for _ in range(8):
        client = await hops.client()
        await client.send(GET)
        await upstream.message()
        await upstream.send(CHALLENGE.replace(b"NTLM", scheme))
        assert (await client.message()).status == 401
    assert len(hops.runtime.pool.links) == 1


async def test_a_link_bound_by_credentials_serves_its_client_alone_and_ends_with_it(
    hops: Hops,
) -> None:
    await hops.start()
    client, upstream = await logged_in(hops)
    other, _ = await hops.asked()
    assert (await hops.again(client, upstream)).body == b"ok"
    assert (await hops.again(client, upstream)).body == b"ok", "bound for good"
    client.close()
    assert await upstream.rest() == b""
    assert CloseReason.PRIVATE in hops.closes(Hop.UPSTREAM)
    other.close()


async def test_one_answer_to_credentials_binds_whatever_it_says(hops: Hops) -> None:
    await hops.start()
    login = LOGIN.replace(b"NTLM", b"Negotiate")
    client, upstream = await hops.asked(login)
    await upstream.send(OK)
    await client.message()
    _, other = await hops.asked()
    assert other is not upstream
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_client_bound_twice_gives_up_the_first_of_its_links(hops: Hops) -> None:
    await two_upstreams(hops, 10, Pool())
    client, first = await hops.asked(LOGIN.replace(b"/ ", b"/a "))
    await first.send(CHALLENGE)
    await client.message()
    await client.send(LOGIN.replace(b"/ ", b"/b "))
    second = await hops.origins[1].accept()
    await second.message()
    await second.send(CHALLENGE)
    await client.message()
    assert await first.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PRIVATE]
    assert second.pending() == b""
    await hops.quiet()
    hops.check_ledger()


@pytest.mark.parametrize("answer", [OK, CHALLENGE], ids=["logged in", "during the login"])
async def test_a_bound_link_that_its_origin_closes_is_noticed_at_once(
    hops: Hops, answer: bytes
) -> None:
    await hops.start()
    client, upstream = await hops.asked(LOGIN)
    await upstream.send(answer)
    await client.message()
    await hops.quiet()
    upstream.close()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert not hops.runtime.pool.links
    assert hops.runtime.pool.ledger.total == 0
    await client.send(POST)
    again = await hops.origins[0].accept()
    await again.message()
    await again.send(OK)
    assert (await client.message()).status == 200
    assert hops.records.kept[-1].attempts == 1
    client.close()
    await hops.quiet()
    hops.check_ledger()


async def test_a_bound_link_that_sends_unsolicited_bytes_is_closed(hops: Hops) -> None:
    await hops.start()
    client, upstream = await logged_in(hops)
    await upstream.send(OK)
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]
    assert (await hops.anew(client)).status == 200


async def test_a_bound_link_counts_as_idle_and_is_retired_as_others_are(hops: Hops) -> None:
    await hops.start(pool={"idle_timeout": 30.0}, client={"idle_timeout": 600.0})
    client, upstream = await logged_in(hops)
    [origin] = hops.runtime.upstreams["app"].balancer.members
    row = origin_row("app", origin, trio.current_time())
    assert (row["idle"], row["lent"]) == (1, 0)
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(30.0)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]
    assert (await hops.anew(client)).status == 200


async def test_bound_links_are_given_up_to_make_room(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 2})
    first, one = await logged_in(hops)
    _, two = await logged_in(hops)
    third = await hops.client()
    await third.send(GET)
    assert await one.rest() == b"", "the one that has been idle longest"
    await hops.origins[0].accept_and_answer()
    assert (await third.message()).status == 200
    assert two.pending() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.MADE_ROOM]
    assert hops.records.kept[-1].unused is Unused.PRIVATE
    await first.send(GET)  # it has to log in anew
    await hops.origins[0].peers[-1].message()
    await hops.origins[0].peers[-1].send(CHALLENGE)
    assert (await first.message()).status == 401


async def test_a_bound_link_makes_room_for_another_origin(hops: Hops) -> None:
    await two_upstreams(hops, 1, Pool())
    _, upstream = await logged_in(hops, LOGIN.replace(b"/ ", b"/a "))
    client = await hops.client()
    await client.send(get(b"/b"))
    assert await upstream.rest() == b""
    await hops.origins[1].accept_and_answer()
    assert (await client.message()).status == 200


async def test_a_waiting_request_gets_the_place_of_a_bound_link_that_comes_to_rest(
    hops: Hops,
) -> None:
    await hops.start(pool={"max_connections": 1})
    client, upstream = await hops.asked(LOGIN)
    other = await hops.client()
    await other.send(GET)
    await hops.quiet()
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert await upstream.rest() == b""
    await hops.origins[0].accept_and_answer()
    assert (await other.message()).status == 200


async def test_nobody_takes_a_link_away_in_the_middle_of_a_login(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1, "queue_timeout": 60.0})
    client, upstream = await hops.asked(LOGIN)
    other = await hops.client()
    await other.send(GET)
    await hops.quiet()
    await upstream.send(CHALLENGE)
    assert (await client.message()).status == 401
    await trio.sleep(GREETING - 1)
    await client.send(LOGIN)
    await upstream.message()
    await upstream.send(CHALLENGE)
    assert (await client.message()).status == 401
    began = trio.current_time()
    await hops.origins[0].accept_and_answer()
    assert trio.current_time() - began == pytest.approx(GREETING), "but not for ever"
    assert (await other.message()).status == 200
    assert await upstream.rest() == b""


async def test_a_login_by_another_scheme_is_over_as_well(hops: Hops) -> None:
    """NTLM that is answered with 401, then Basic: from then on the link is idle."""
    await hops.start(pool={"max_connections": 1, "queue_timeout": 60.0})
    client, upstream = await hops.asked(LOGIN)
    await upstream.send(CHALLENGE)
    assert (await client.message()).status == 401
    basic = GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Basic dTpw\r\n\r\n")
    assert (await hops.again(client, upstream, basic)).status == 200
    began = trio.current_time()
    other = await hops.client()
    await other.send(GET)
    assert await upstream.rest() == b""
    await hops.origins[0].accept_and_answer()
    assert (await other.message()).status == 200
    assert trio.current_time() == began


async def test_a_client_that_logs_in_slowly_keeps_its_link_while_nobody_wants_it(
    hops: Hops,
) -> None:
    await hops.start(pool={"max_connections": 1})
    client, upstream = await hops.asked(LOGIN)
    await upstream.send(CHALLENGE)
    assert (await client.message()).status == 401
    await trio.sleep(GREETING + 1)
    assert (await hops.again(client, upstream, LOGIN)).status == 200


@pytest.mark.parametrize("space", [b"\t", b"  "])
async def test_credentials_bind_whatever_space_is_behind_their_scheme(
    hops: Hops, space: bytes
) -> None:
    await hops.start()
    client, _ = await hops.asked(LOGIN.replace(b"NTLM ", b"nTLM" + space))
    await hops.origins[0].peers[0].send(OK)
    assert (await client.message()).status == 200
    await hops.asked()  # another client: by a link of its own


@pytest.mark.parametrize("kept", [0, 1])
async def test_max_idle_counts_bound_links_but_leaves_the_last_one(hops: Hops, kept: int) -> None:
    await hops.start(pool={"max_idle": kept})
    client, upstream = await logged_in(hops)
    assert (await hops.again(client, upstream)).status == 200
    _, second = await logged_in(hops)
    assert await upstream.rest() == b""
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.POOL_FULL]
    assert second.pending() == b""


async def test_bound_links_end_with_a_drain(hops: Hops) -> None:
    await hops.start()
    _, upstream = await logged_in(hops)
    _, greeting = await hops.asked(LOGIN)
    await greeting.send(CHALLENGE)
    await hops.quiet()
    hops.worker.stop()
    assert await upstream.rest() == b""
    assert await greeting.rest() == b""
    await hops.ended.wait()
    hops.check_at_rest()

"""TLS towards origins: everything that holds on TCP holds on it, and its own traps."""

from __future__ import annotations

import ssl
from typing import cast

import pytest
import trio

from hopproxy.link.origin_tls import Secured
from hopproxy.pool.origin import Origin
from hopproxy.reasons import CloseReason, Hop
from tests.authority import certificate
from tests.raw_peers import GET, OK
from tests.tls_peers import NAME, TlsHops, TlsPeer

#: TLS towards the origins.
HOPS = TlsHops


def secured(hops: TlsHops) -> Secured:
    """TLS with the first origin, as the pool sees it."""
    found = cast("Origin", hops.runtime.pool.ledger.shares[0]).secured
    assert found is not None
    return found


def version_of(version: ssl.TLSVersion) -> ssl.SSLContext:
    """An origin that speaks one version only."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(NAME).configure_cert(made)
    made.minimum_version = made.maximum_version = version
    return made


async def test_many_requests_need_one_handshake(hops: TlsHops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    for _ in range(5):
        assert (await hops.again(client, upstream)).status == 200
    assert (secured(hops).full, secured(hops).resumed) == (1, 0)
    assert secured(hops).version == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_next_dials_resume(hops: TlsHops, version: ssl.TLSVersion) -> None:
    hops.add_origin(context=version_of(version))
    origin = await hops.start(pool={"max_idle": 0})
    client = await hops.client()
    resumed = []
    for _ in range(3):
        await client.send(GET)
        upstream = await origin.accept_and_answer()
        resumed.append(upstream.tls.session_reused)
        assert (await client.message()).status == 200
    assert resumed == [False, True, True]
    assert (secured(hops).full, secured(hops).resumed) == (1, 2)


async def test_a_session_that_the_origin_has_forgotten_is_taken_again(hops: TlsHops) -> None:
    origin = await hops.start(pool={"max_idle": 0})
    client = await hops.client()
    resumed = []
    for turn in range(4):
        if turn == 2:
            origin.context = version_of(ssl.TLSVersion.TLSv1_3)  # other ticket keys
        await client.send(GET)
        upstream = await origin.accept_and_answer()
        resumed.append(upstream.tls.session_reused)
        assert (await client.message()).status == 200
    assert resumed == [False, True, False, True]


async def test_the_origin_is_asked_for_its_name_and_for_http(hops: TlsHops) -> None:
    names: list[str | None] = []
    context = version_of(ssl.TLSVersion.TLSv1_3)
    context.sni_callback = lambda _, name, __: names.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    hops.add_origin(context=context)
    await hops.start(upstream={"protocol": "http/1.1"})
    _, upstream = await hops.pair()
    assert isinstance(upstream, TlsPeer)
    assert names == [NAME]
    assert upstream.tls.selected_alpn_protocol() == "http/1.1"


async def test_tickets_on_an_idle_link_do_not_retire_it(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    await upstream.shake(tickets=False)
    tickets = upstream.sealed()
    await upstream.message()
    assert len(tickets) > 100
    answer = upstream.sealed(OK)
    await upstream.send_raw(tickets[:-1])  # in the wait for the response, and not even whole
    await hops.quiet()
    await upstream.send_raw(tickets[-1:] + answer)
    assert (await client.message()).status == 200
    assert (await hops.again(client, upstream)).status == 200
    assert hops.closes(Hop.UPSTREAM) == []


async def test_late_tickets_are_no_answer_and_no_end(hops: TlsHops) -> None:
    """They come seconds after the link was opened for a request that has found another one."""
    origin = await hops.start()
    first, second = await hops.client(), await hops.client()
    await first.send(GET)
    busy = await origin.accept()
    await busy.message()
    await second.send(GET)
    late = await origin.accept_raw()
    await busy.send(OK)  # it serves the second client too
    await first.message()
    await busy.message()
    await busy.send(OK)
    await second.message()
    await late.shake(tickets=False)
    await hops.quiet()
    await trio.sleep(2)
    await late.send_raw(late.sealed())
    await hops.quiet()
    assert len(hops.runtime.pool.links) == 2
    assert hops.closes(Hop.UPSTREAM) == []
    assert (await hops.again(first, late)).status == 200


@pytest.mark.parametrize("reset", [False, True])
async def test_tickets_and_the_end_in_one_event_are_the_end(hops: TlsHops, reset: bool) -> None:
    """What carries no data must not hide the FIN or RST behind it until the response timeout."""
    origin = await hops.start(upstream={"response_timeout": 30.0})
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    await upstream.shake(tickets=False)
    await upstream.message()
    began = trio.current_time()
    upstream.send_at_once(b"")
    if reset:
        upstream.reset()
    else:
        upstream.finish()
    assert (await client.message()).status == 502
    assert trio.current_time() - began < 1


async def test_close_notify_alone_is_a_close_by_the_origin(hops: TlsHops) -> None:
    """The FIN follows half a second later: the link has ended long before, and not by a reset."""
    await hops.start()
    client, upstream = await hops.pair()
    assert isinstance(upstream, TlsPeer)
    await trio.sleep(3)
    upstream.notify()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert await upstream.rest() == b""
    assert upstream.notified
    await trio.sleep(0.5)
    upstream.close()
    await hops.quiet()
    assert (await hops.anew(client)).status == 200
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]


async def test_close_notify_right_behind_a_response_ends_the_link(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    sealed = upstream.sealed(OK)
    try:
        upstream.tls.unwrap()
    except ssl.SSLWantReadError:
        sealed += upstream.sealed()
    await upstream.send_raw(sealed)
    assert (await client.message()).status == 200
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert (await hops.anew(client)).status == 200


@pytest.mark.parametrize("notified", [True, False])
async def test_what_only_the_close_delimits_needs_close_notify(
    hops: TlsHops, notified: bool
) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    upstream = await origin.accept()
    await upstream.message()
    await upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nConnection: close\r\n\r\nhalf")
    await client.until(b"half")
    if notified:
        upstream.notify()
    upstream.close()
    if notified:
        assert await client.rest() == b""
    await client.gone()
    (close,) = [one for one in hops.runtime.closes.last if one.hop is Hop.UPSTREAM]
    expected = CloseReason.CLOSE_DELIMITED if notified else CloseReason.INCOMPLETE
    assert close.reason is expected
    await hops.quiet()
    told = (
        "" if notified else "the body may be cut off: only the close ended it, without close_notify"
    )
    assert hops.records.kept[-1].detail == told


async def test_a_fin_without_close_notify_ends_an_idle_link(hops: TlsHops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    upstream.close()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert (await hops.anew(client)).status == 200


async def test_a_response_in_many_records_of_one_segment_is_read_whole(hops: TlsHops) -> None:
    """All has arrived with one event, and no other comes."""
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    body = bytes(range(256)) * 400
    head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    records = [upstream.sealed(head[:20]), upstream.sealed(head[20:])]
    records += [upstream.sealed(body[at : at + 777]) for at in range(0, len(body), 777)]
    await upstream.send_raw(b"".join(records))
    assert (await client.message()).body == body
    assert (await hops.again(client, upstream)).status == 200


async def test_a_record_in_pieces_is_waited_for(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    for byte in upstream.sealed(OK):
        await upstream.send_raw(bytes([byte]))
        await hops.quiet()
    assert (await client.message()).status == 200


async def test_long_bodies_pass_both_ways(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    body = bytes(range(256)) * 4096
    fields = b"Host: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"POST / HTTP/1.1\r\n" + fields + body)
        upstream = await origin.accept()
        assert (await upstream.message()).body == body
    async with trio.open_nursery() as nursery:
        answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        nursery.start_soon(upstream.send, answer)
        assert (await client.message()).body == body
    assert (await hops.again(client, upstream)).status == 200


async def test_bytes_on_an_idle_link_retire_it(hops: TlsHops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    await upstream.send(OK)
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]
    assert (await hops.anew(client)).status == 200


async def test_garbage_on_an_idle_link_retires_it(hops: TlsHops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    assert isinstance(upstream, TlsPeer)
    await upstream.send_raw(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await hops.quiet()
    assert len(hops.closes(Hop.UPSTREAM)) == 1
    assert (await hops.anew(client)).status == 200


async def test_idle_limits_are_learned_through_tls(hops: TlsHops) -> None:
    """The origin closes after five seconds; from then on no POST takes a link as old as that."""
    await hops.start()
    client, upstream = await hops.pair()
    for _ in range(2):
        await trio.sleep(5)
        assert isinstance(upstream, TlsPeer)
        upstream.notify()
        upstream.close()
        await hops.quiet()
        await client.send(GET)
        upstream = await hops.origins[0].accept_and_answer()
        await client.message()
    learned = cast("Origin", hops.runtime.pool.ledger.shares[0]).learned
    assert learned.told.age == pytest.approx(5, abs=0.01)
    await trio.sleep(4.5)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await hops.origins[0].accept_and_answer()  # by a fresh link: this one may be about to close
    await client.message()


async def test_a_websocket_goes_through(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    upstream = await origin.accept()
    await upstream.message()
    await upstream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
    )
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(2) == b"hi"
    big = b"x" * 300_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, big)
        assert await upstream.exactly(len(big)) == big
    await upstream.send(b"bye")
    upstream.notify()
    assert await client.rest() == b"bye"
    client.close()
    assert await upstream.rest() == b""


async def test_a_stop_in_the_midst_of_a_handshake_leaves_nothing(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    await origin.accept_raw()
    await hops.quiet()
    client.close()
    await hops.quiet()


async def test_a_client_that_leaves_does_not_waste_the_handshake(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    client.close()
    await hops.quiet()
    await upstream.shake()
    await hops.quiet()
    other = await hops.client()
    await other.send(GET)
    await upstream.message()
    await upstream.send(OK)
    assert (await other.message()).status == 200

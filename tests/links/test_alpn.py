"""Origins that choose their protocol by ALPN (RFC 7301, RFC 9113 section 3.2)."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from hopproxy.link.h2_upstream import H2UpstreamLink
from tests.authority import certificate
from tests.h2_origin import H2Peer
from tests.raw_peers import GET, OK
from tests.tls_peers import NAME, TlsHops, TlsPeer

H2, HTTP = ["h2", "http/1.1"], ["http/1.1"]


#: TLS towards the origins.
HOPS = TlsHops


def speaking(protocols: list[str]) -> ssl.SSLContext:
    """An origin that chooses the first of these that we offer."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(NAME).configure_cert(made)
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


async def start(hops: TlsHops, protocols: list[str], protocol: str = "auto") -> None:
    hops.add_origin(context=speaking(protocols))
    await hops.start(upstream={"protocol": protocol})


async def test_an_origin_that_chooses_http2_gets_it(hops: TlsHops) -> None:
    await start(hops, H2)
    clients = [await hops.client() for _ in range(10)]
    for client in clients:
        await client.send(GET)
    peer = await hops.origins[0].accept()
    assert isinstance(peer, TlsPeer)
    assert peer.tls.selected_alpn_protocol() == "h2"
    origin = H2Peer(peer)
    for request in await origin.serve(10):
        assert request[":scheme"] == "https"
    for client in clients:
        assert (await client.message()).body == b"ok"
    assert [type(link) for link in hops.runtime.pool.links] == [H2UpstreamLink]


@pytest.mark.parametrize("protocols", [HTTP, []])
async def test_an_origin_that_does_not_gets_http11(hops: TlsHops, protocols: list[str]) -> None:
    await start(hops, protocols)
    clients = [await hops.client() for _ in range(3)]
    for client in clients:
        await client.send(GET)
    # Once that is known, each request gets a link of its own.
    peers = [await hops.origins[0].accept() for _ in clients]
    for peer in peers:
        await peer.message()
    for peer in peers:
        await peer.send(OK)
    for client in clients:
        assert (await client.message()).body == b"ok"
    assert not any(isinstance(link, H2UpstreamLink) for link in hops.runtime.pool.links)


async def test_sessions_are_resumed_with_http2_too(hops: TlsHops) -> None:
    await start(hops, H2)
    client = await hops.client()
    resumed = []
    for _ in range(2):
        await client.send(GET)
        peer = await hops.origins[0].accept()
        assert isinstance(peer, TlsPeer)
        await H2Peer(peer).serve()
        await client.message()
        resumed.append(peer.tls.session_reused)
        peer.close()
        await hops.quiet()
    assert resumed == [False, True]


async def test_an_origin_that_must_speak_http2_and_does_not_is_reported(hops: TlsHops) -> None:
    await start(hops, [], "h2")
    client = await hops.client()
    await client.send(GET)
    peer = await hops.origins[0].accept_raw()  # type: ignore[attr-defined]
    with suppress(OSError):  # it closes before our tickets have come
        await peer.shake()
    assert (await client.message()).status == 502
    assert "does not speak HTTP/2" in hops.records.kept[-1].detail
    await peer.gone()


UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
NTLM = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM abc\r\n\r\n"


async def opened(hops: TlsHops) -> H2Peer:
    """An origin of HTTP/2 with one good exchange behind it."""
    await start(hops, H2)
    client = await hops.client()
    await client.send(GET)
    origin = H2Peer(await hops.origins[0].accept())
    await origin.serve()
    await client.message()
    return origin


@pytest.mark.parametrize("first", [False, True])
async def test_an_upgrade_goes_in_http11(hops: TlsHops, first: bool) -> None:
    if first:
        await start(hops, H2)
    else:
        await opened(hops)
    client = await hops.client()
    await client.send(UPGRADE)
    peer = await hops.origins[0].accept()
    assert isinstance(peer, TlsPeer)
    assert peer.tls.selected_alpn_protocol() == "http/1.1"
    await peer.message()
    await peer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello"
    )
    await client.until(b"\r\n\r\n")
    assert await client.exactly(5) == b"hello"
    client.close()
    await peer.gone()


async def test_credentials_for_a_connection_go_in_http11_and_stay_there(hops: TlsHops) -> None:
    origin = await opened(hops)
    client = await hops.client()
    peer = None
    for _ in range(3):
        await client.send(NTLM)
        peer = peer or await hops.origins[0].accept()
        await peer.message()
        await peer.send(OK)
        assert (await client.message()).status == 200
    other = await hops.client()
    await other.send(GET)
    await origin.serve()
    assert (await other.message()).body == b"ok"


async def test_what_the_origin_wants_in_http11_is_sent_so(hops: TlsHops) -> None:
    origin = await opened(hops)
    client = await hops.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    request = await origin.whole()
    origin.h2.reset_stream(request.number, 13)
    await origin.send()
    peer = await hops.origins[0].accept()
    assert (await peer.message()).body == b"body"
    await peer.send(OK)
    assert (await client.message()).status == 200


async def test_the_twin_of_a_removed_origin_goes_with_it(hops: TlsHops) -> None:
    hops.add_origin(context=speaking(H2))
    origin = await opened(hops)
    upstream = hops.runtime.upstreams["app"]
    client = await hops.client()
    await client.send(NTLM)
    peers = [await one.accept() for one in hops.origins[1:]]
    for peer in peers:
        await peer.message()
        await peer.send(OK)
    await client.message()
    assert len(list(upstream.twins)) == 1
    upstream.remove(upstream.balancer.members[1])
    await hops.quiet()
    assert list(upstream.twins) == []
    for peer in peers:
        await peer.gone()
    upstream.renew()
    assert origin.left is None

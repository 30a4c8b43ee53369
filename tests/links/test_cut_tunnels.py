"""A tunnel over TLS on both hops: an end that one side did not say is none for the other side."""

from __future__ import annotations

from pathlib import Path

import pytest

from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import Listener
from tests.authority import TlsPeer as TlsClient
from tests.authority import client_context, listener_tls
from tests.tls_peers import TlsHops, TlsPeer
from tests.wire_pair import Hops

HOPS = TlsHops
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)


async def tunnel(hops: Hops, directory: Path) -> tuple[TlsClient, TlsPeer]:
    """Both ends of a tunnel through which bytes have gone in both directions."""
    assert isinstance(hops, TlsHops)
    origin = await hops.start(listeners=(Listener(tls=listener_tls(directory)),))
    client = TlsClient(await hops.client(), client_context())
    await client.shake()
    await client.send(UPGRADE)
    upstream = await origin.accept()
    await upstream.until(b"\r\n\r\n")
    await upstream.send(SWITCH + b"hello")
    await client.until(b"hello")
    await client.send(b"hello")
    assert await upstream.exactly(5) == b"hello"
    return client, upstream


async def test_what_an_origin_cuts_is_not_whole_for_the_client(hops: Hops, directory: Path) -> None:
    client, upstream = await tunnel(hops, directory)
    await upstream.send(b"half of")
    upstream.sock.shutdown(1)  # FIN, and no close_notify
    assert await client.exactly(7) == b"half of"
    with pytest.raises(EOFError):  # FIN, and no close_notify
        await client.rest()
    await client.send(b"still heard")
    assert await upstream.exactly(11) == b"still heard"
    await client.say_goodbye()
    assert await upstream.rest() == b""
    assert upstream.notified


async def test_what_a_client_cuts_is_not_whole_for_the_origin(hops: Hops, directory: Path) -> None:
    client, upstream = await tunnel(hops, directory)
    await client.send(b"half of")
    client.sock.shutdown(1)
    assert await upstream.rest() == b"half of"
    assert not upstream.notified


async def test_a_side_that_breaks_ends_nothing_in_order(hops: Hops, directory: Path) -> None:
    client, upstream = await tunnel(hops, directory)
    await upstream.sock.send(GARBAGE)
    with pytest.raises(EOFError):
        await client.rest()
    await hops.quiet()
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET]
    assert hops.closes(Hop.CLIENT) == [CloseReason.TUNNEL_ENDED]


async def test_a_client_that_breaks_ends_nothing_in_order(hops: Hops, directory: Path) -> None:
    client, upstream = await tunnel(hops, directory)
    await client.sock.send(GARBAGE)
    assert await upstream.rest() == b""
    assert not upstream.notified
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_RESET]

"""A listener behind a balancer that sends PROXY headers: who the client is, and who may connect."""

from __future__ import annotations

import struct

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import Listener
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import UNIX
from hopproxy.wire.proxy_protocol import V2
from tests.raw_peers import GET, OK, Origin
from tests.wire_pair import Hops

V1_LINE = b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n"
V2_INET = V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 9, 198, 51, 100, 1])
V2_INET += struct.pack(">HH", 4711, 80)
V2_LOCAL = V2 + b"\x20\x00\x00\x00"


async def start(hops: Hops, trusted: str = UNIX) -> Origin:
    """Start the worker with a plain listener that reads PROXY headers."""
    return await hops.start(
        listeners=(Listener(proxy_protocol=True),), trusted_proxies=(parse_network(trusted),)
    )


@pytest.mark.parametrize("header", [V1_LINE, V2_INET], ids=["v1", "v2"])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_the_client_is_the_one_in_the_header(
    hops: Hops, header: bytes, in_pieces: bool
) -> None:
    origin = await start(hops)
    client = await hops.client()
    if in_pieces:
        for byte in header:
            await client.send(bytes([byte]))
            await hops.quiet()
        header = b""
    await client.send(header + GET)
    upstream = await origin.accept()
    message = await upstream.message()
    assert message.values(b"x-forwarded-for") == [b"192.0.2.9"]
    assert message.values(b"x-forwarded-proto") == [b"http"]
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    await hops.quiet()
    assert (await hops.again(client, upstream)).body == b"ok"
    assert {record.peer for record in hops.records.kept} == {"192.0.2.9:4711"}


async def test_what_the_client_claims_is_not_believed_since_it_is_not_the_balancer(
    hops: Hops,
) -> None:
    origin = await start(hops)
    client = await hops.client()
    await client.send(V1_LINE + GET[:-2] + b"X-Forwarded-For: 10.0.0.1\r\n\r\n")
    upstream = await origin.accept()
    assert (await upstream.message()).values(b"x-forwarded-for") == [b"192.0.2.9"]


@pytest.mark.parametrize("header", [V2_LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_a_header_without_a_client_means_the_balancer_itself(
    hops: Hops, header: bytes
) -> None:
    origin = await start(hops)
    client = await hops.client()
    await client.send(header + GET)
    await origin.accept_and_answer()
    assert (await client.message()).body == b"ok"
    assert hops.records.kept[0].peer == "unix"


@pytest.mark.parametrize("data", [GET, V1_LINE.lower(), V2[:-1] + b"X", V2_INET[:12] + b"\x31"])
async def test_a_connection_without_a_good_header_is_closed_without_an_answer(
    hops: Hops, data: bytes
) -> None:
    await start(hops)
    client = await hops.client()
    await client.send(data + bytes(4))
    await client.gone()
    assert client.unread == b""
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PROXY_HEADER]
    assert hops.runtime.closes.last[-1].detail


async def test_nobody_else_may_connect(hops: Hops) -> None:
    await start(hops, "192.0.2.0/24")
    client = await hops.client()
    await client.send(V1_LINE + GET)
    await client.gone()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.UNTRUSTED_PROXY]


async def test_a_header_that_does_not_come_is_not_waited_for(hops: Hops) -> None:
    await start(hops)
    client = await hops.client()
    await client.send(V1_LINE[:-1])
    began = trio.current_time()
    await client.gone()
    assert trio.current_time() - began == 10.0
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_TIMEOUT]

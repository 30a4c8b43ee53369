"""`hopproxy probe` and `check --probe` of origins that speak HTTP/2."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from hopproxy.errors import HopError
from hopproxy.probe.asker import Target
from hopproxy.probe.h2 import told
from hopproxy.probe.report import Findings
from hopproxy.probe.run import probe
from hopproxy.settings.units import OriginAddress
from hopproxy.wire.h2 import Settings
from tests.h2_origin import OK, H2Peer
from tests.wire_pair import Hops


async def serve(hops: Hops, limit: float) -> None:
    """An origin whose idle connections get a GOAWAY after `limit` seconds."""

    async def one(peer: H2Peer) -> None:
        while True:
            with trio.move_on_after(limit) as idle:
                try:
                    request = await peer.whole()
                except EOFError:
                    return
            if idle.cancelled_caught:
                peer.h2.close_connection()
                await peer.send()
                return
            await peer.respond(request.number, b"hi", [*OK, ("server", "nginx/1.22")])

    async with trio.open_nursery() as nursery:
        while True:
            peer = await hops.origins[0].accept()
            nursery.start_soon(one, H2Peer(peer, {3: 77, 8: 1}))


def address_of(hops: Hops) -> OriginAddress:
    return replace(hops.add_origin().address, scheme="h2c")


async def found(hops: Hops, target: Target, *, limit: float, most: float) -> Findings:
    hops.origins.reverse()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, hops, limit)
        findings = await probe(target, most=most)
        nursery.cancel_scope.cancel()
    return findings


async def test_the_findings_of_an_origin_of_http2(hops: Hops) -> None:
    await hops.start()
    target = Target(address_of(hops))
    findings = await found(hops, target, limit=20.0, most=60.0)
    table = findings.table()
    assert "server      nginx/1.22 (known as nginx)" in table
    assert "idle limit  20.0 s, then GOAWAY" in table
    assert "HTTP/2      up to 77 streams, windows of 64KiB" in table or "77 streams" in table
    assert "WebSockets (RFC 8441)" in table
    assert "PING        answered after" in table
    assert "at a time" not in table
    assert "idle_timeout: " in findings.settings()


async def test_an_origin_that_keeps_connections(hops: Hops) -> None:
    await hops.start()
    target = Target(address_of(hops))
    findings = await found(hops, target, limit=200.0, most=30.0)
    assert "idle limit  more than 30 s" in findings.table()


async def test_an_origin_of_http11_is_reported(hops: Hops) -> None:
    await hops.start()
    target = Target(address_of(hops))

    async def answer() -> None:
        peer = await hops.origins[1].accept()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    hops.nursery.start_soon(answer)
    with pytest.raises(HopError, match=r"it speaks HTTP/1\.1"):
        await probe(target, most=30.0)


def test_settings_in_words() -> None:
    settings = Settings()
    assert told(settings).startswith("any number of streams, windows of 65535")
    settings.max_head_size = 16384
    assert "heads up to 16KiB" in told(settings)

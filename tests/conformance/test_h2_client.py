"""HTTP/2 on the client's hop, rule by rule: what a client sends, and what both hops see."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.conformance.h2_rows import TABLE, Row
from tests.h2_peer import NO_ERROR, PING, PREFACE, PROTOCOL_ERROR, SETTINGS, H2Peer, frame
from tests.raw_peers import OK, Message, Peer
from tests.wire_pair import Hops, virtual_time


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(TABLE) >= 150


# -- running a row -----------------------------------------------------------------------------


@pytest.fixture
async def hops() -> AsyncIterator[Hops]:
    with tempfile.TemporaryDirectory(prefix="hops") as directory:
        async with trio.open_nursery() as nursery:
            made = Hops(nursery, Path(directory))
            yield made
            await made.end()


async def serve(hops: Hops, seen: list[Message]) -> None:
    """The origin: it answers everything, and keeps what it has seen."""

    async def on_link(peer: Peer) -> None:
        try:
            while True:
                seen.append(await peer.message())
                head = seen[-1].start.startswith(b"HEAD ")
                await peer.send(OK[: -len(b"ok")] if head else OK)
        except (EOFError, OSError, ValueError):
            return

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(on_link, await hops.origins[0].accept())


@pytest.mark.trio(run=virtual_time)
@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in TABLE.items()])
async def test_a_rule_of_http2(hops: Hops, row: Row) -> None:
    seen: list[Message] = []
    await hops.start()
    h2 = H2Peer(await hops.client())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, hops, seen)
        await h2.start()
        await h2.send(row.send(h2))
        ended = await read_until_quiet(h2, hops)
        answer = h2.answers.get(1)
        assert [f.code for f in h2.goaways] == ([] if row.goaway is None else [row.goaway])
        assert ended == (row.goaway is not None), "the connection lives, or does not"
        if row.reset is not None:
            assert h2.reset_codes(1) == [row.reset]
        assert tuple(answer.statuses if answer else ()) == row.statuses
        assert len(seen) == row.asked, [message.start for message in seen]
        if row.check is not None:
            assert row.check(h2, seen)
        if not ended:
            await h2.send(frame(PING, 0, 0, b"are you?"))
            while not any(f.kind == PING and f.payload == b"are you?" for f in h2.frames):
                await h2.read()
        h2.peer.close()
        await hops.quiet()
        nursery.cancel_scope.cancel()


async def read_until_quiet(h2: H2Peer, hops: Hops) -> bool:
    """Read what comes until nothing does any more; True if the connection has ended."""
    while True:
        await hops.quiet()
        try:
            found = h2.peer.receive_at_once()
        except ConnectionError:
            return True
        if not found:
            return found is not None
        h2.take_all()


@pytest.mark.trio(run=virtual_time)
async def test_a_preface_that_is_not_valid_is_refused(hops: Hops) -> None:
    """RFC 9113 section 3.4."""
    await hops.start()
    for sent in (PREFACE[:-2] + b"xx", b"PRI * HTTP/2.0\r\n\r\n\r\n\r\nSM"):
        peer = await hops.client()
        await peer.send(sent)
        assert (await peer.message()).status == 505
    h2 = H2Peer(await hops.client())
    await h2.send(PREFACE, frame(PING, 0, 0, b"12345678"))
    await h2.until_end()
    assert [f.code for f in h2.goaways] == [PROTOCOL_ERROR]
    for sent in (PREFACE, PREFACE[:10]):
        whole = H2Peer(await hops.client())
        for byte in PREFACE + frame(SETTINGS, 0, 0) if sent is PREFACE else sent:
            await whole.send(bytes([byte]))
            await hops.quiet()
        if sent is PREFACE:
            assert (await whole.read()).kind == SETTINGS
    assert NO_ERROR == 0

"""What an idle HTTP/2 connection of a client takes in memory."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
import trio

import hopproxy
from hopproxy.link.h2 import H2Link
from hopproxy.reasons import CloseReason, Hop
from tests import drivers
from tests.h2_peer import GET, NO_ERROR, PING, PROTOCOL_ERROR, H2Peer, frame
from tests.raw_peers import OK
from tests.wire_pair import Hops

CONNECTIONS = 40
#: Bytes of one connection; those of its socket object and of dicts that grow are not counted.
MOST = 1350
PACKAGE = str(Path(hopproxy.__file__).parent / "*")


async def served(hops: Hops) -> H2Peer:
    """A client that has had one answer, and acknowledges the settings only then."""
    h2 = H2Peer(await hops.client())
    await h2.start()
    await h2.request(GET)
    assert (await h2.answer(1)).status == 200
    await hops.quiet()
    return h2


def taken() -> int:
    """Bytes that the gateway's own code has allocated, without the records that the test keeps."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, PACKAGE)])
    return sum(
        trace.size for trace in snapshot.traces if "exchange.py" not in trace.traceback[0].filename
    )


@pytest.mark.skipif(drivers.DRIVER != "events", reason="a task takes memory of its own")
async def test_an_idle_connection_takes_little_memory(hops: Hops) -> None:
    await hops.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, hops)
        kept = [await served(hops) for _ in range(4)]
        await trio.sleep(3)
        tracemalloc.start(1)
        try:
            before = taken()
            kept += [await served(hops) for _ in range(CONNECTIONS)]
            await trio.sleep(3)
            each = (taken() - before) / CONNECTIONS
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()
    assert each < MOST


async def answer_all(hops: Hops) -> None:
    upstream = await hops.origins[0].accept()
    while await upstream.message():
        await upstream.send(OK)


async def quiet(hops: Hops) -> tuple[H2Peer, H2Link]:
    """A client whose connection has kept only what it needs."""
    await hops.start(client={"idle_timeout": 60.0}, drain_timeout=5.0)
    hops.nursery.start_soon(answer_one, hops)
    h2 = await served(hops)
    [link] = hops.runtime.clients.links
    assert isinstance(link, H2Link)
    await trio.sleep(3)
    assert not hasattr(link, "wire")
    return h2, link


async def answer_one(hops: Hops) -> None:
    await hops.origins[0].accept_and_answer()


async def test_a_quiet_connection_goes_on_where_it_was(hops: Hops) -> None:
    """Its HPACK table, its windows and the numbers of its streams are those of before."""
    h2, link = await quiet(hops)
    upstream = hops.origins[0].peers[0]
    for count in (2, 3):
        block = h2.head(GET)
        assert len(block) < 15  # indexed fields: what the table holds
        await h2.send(block)
        assert (await upstream.message()).start == b"GET / HTTP/1.1"
        await upstream.send(OK)
        assert (await h2.answer(2 * count - 1)).body == b"ok"
        assert link.wire.send_window == 65535 - 2 * count
        assert link.served == count
        await trio.sleep(3)
        assert not hasattr(link, "wire")


async def test_a_quiet_connection_answers_a_ping_and_is_quiet_again(hops: Hops) -> None:
    h2, link = await quiet(hops)
    await h2.send(frame(PING, 0, 0, b"12345678"))
    while not [f for f in h2.frames if f.kind == PING]:
        await h2.read()
    assert hasattr(link, "wire")
    await trio.sleep(3)
    assert not hasattr(link, "wire")


async def test_a_quiet_connection_says_goodbye_at_its_timeout(hops: Hops) -> None:
    h2, _ = await quiet(hops)
    await h2.until_end()
    assert [(f.last, f.code) for f in h2.goaways] == [(1, NO_ERROR)]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.IDLE_TIMEOUT]


async def test_a_quiet_connection_drains_like_any_other(hops: Hops) -> None:
    h2, _ = await quiet(hops)
    hops.worker.stop()
    await h2.until_end()
    assert [f.last for f in h2.goaways] == [0x7FFFFFFF, 1]
    h2.peer.close()
    await hops.ended.wait()
    assert hops.closes(Hop.CLIENT) == [CloseReason.DRAINING]


async def test_a_quiet_connection_may_break_a_rule_or_close(hops: Hops) -> None:
    h2, _ = await quiet(hops)
    await h2.send(frame(PING, 0, 1, b"12345678"))
    await h2.until_end()
    assert [f.code for f in h2.goaways] == [PROTOCOL_ERROR]
    h2.peer.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PROTOCOL_ERROR]


async def test_a_connection_with_a_request_under_way_is_never_quiet(hops: Hops) -> None:
    await hops.start()
    h2 = H2Peer(await hops.client())
    await h2.start()
    stream = await h2.request()
    upstream = await hops.origins[0].accept()
    await trio.sleep(20)
    await upstream.send(OK)
    assert (await h2.answer(stream)).status == 200

"""What an idle HTTP/2 connection of a client takes in memory."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import trio

import hopproxy
from tests.h2_peer import GET, H2Peer
from tests.raw_peers import OK
from tests.wire_pair import Hops

CONNECTIONS = 40
#: Bytes of one connection; those of its socket object and of dicts that grow are not counted.
MOST = 1750
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


async def test_an_idle_connection_takes_no_memory_for_streams(hops: Hops) -> None:
    await hops.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, hops)
        kept = [await served(hops) for _ in range(4)]
        tracemalloc.start(1)
        try:
            before = taken()
            kept += [await served(hops) for _ in range(CONNECTIONS)]
            each = (taken() - before) / CONNECTIONS
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()
    assert each < MOST


async def answer_all(hops: Hops) -> None:
    upstream = await hops.origins[0].accept()
    while await upstream.message():
        await upstream.send(OK)

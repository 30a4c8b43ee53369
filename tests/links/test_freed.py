"""A link that has ended is freed at once: nothing is left for Python to stop and search for."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.raw_peers import GET, OK, Origin
from tests.wire_pair import Hops

CLOSING = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
LAST = OK.replace(b"Date: x", b"Connection: close")

LEAVING = ["client asks", "client closes", "client resets", "origin closes", "idle"]


@contextmanager
def no_garbage() -> Iterator[None]:
    """Nothing of ours is garbage after the block that only a search for rings can find."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        kinds = Counter(
            type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("hopproxy")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not kinds


@pytest.mark.parametrize("leaving", LEAVING)
async def test_links_of_plain_exchanges_are_freed_as_they_end(tcp_hops: Hops, leaving: str) -> None:
    hops = tcp_hops
    origin: Origin = await hops.start()
    await hops.pair()  # what is made once and kept is there
    with no_garbage():
        client, upstream = await hops.client(), origin.peers[0]
        if leaving == "client asks":
            assert (await hops.again(client, upstream, CLOSING)).status == 200
            assert await client.rest() == b""
        elif leaving == "origin closes":
            await client.send(GET)
            await upstream.message()
            await upstream.send(LAST)
            assert (await client.message()).status == 200
            assert await upstream.rest() == b""
        else:
            assert (await hops.again(client, upstream)).status == 200
        if leaving == "client resets":
            client.reset()
        elif leaving != "idle":
            client.close()
        await trio.sleep(100)  # past every deadline: the watch holds who has one to come
        assert not hops.runtime.clients.links

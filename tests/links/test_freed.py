"""A link that has ended is freed at once: nothing is left for Python to stop and search for."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

CLOSING = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
LAST = OK.replace(b"Date: x", b"Connection: close")
CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"

Course = Callable[[Hops], Awaitable[None]]


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


async def freed(hops: Hops, course: Course) -> None:
    """Run it, and let every deadline pass, since the watch refers to objects with a deadline."""
    with no_garbage():
        await course(hops)
        await trio.sleep(100)
        assert not hops.runtime.clients.links


# -- exchanges that end well -------------------------------------------------------------------


async def client_asks(hops: Hops) -> None:
    client = await hops.client()
    assert (await hops.again(client, hops.origins[0].peers[0], CLOSING)).status == 200
    assert await client.rest() == b""
    client.close()


async def client_closes(hops: Hops) -> None:
    client = await hops.client()
    assert (await hops.again(client, hops.origins[0].peers[0])).status == 200
    client.close()


async def client_resets(hops: Hops) -> None:
    client = await hops.client()
    assert (await hops.again(client, hops.origins[0].peers[0])).status == 200
    client.reset()


async def client_idles(hops: Hops) -> None:
    client = await hops.client()
    assert (await hops.again(client, hops.origins[0].peers[0])).status == 200


async def origin_closes(hops: Hops) -> None:
    client, upstream = await hops.client(), hops.origins[0].peers[0]
    await client.send(GET)
    await upstream.message()
    await upstream.send(LAST)
    assert (await client.message()).status == 200
    assert (await hops.anew(client)).status == 200
    client.close()


@pytest.mark.parametrize(
    "course", [client_asks, client_closes, client_resets, client_idles, origin_closes]
)
async def test_links_of_plain_exchanges_are_freed_as_they_end(
    tcp_hops: Hops, course: Course
) -> None:
    await tcp_hops.start()
    await tcp_hops.pair()  # what is made once and kept is there
    await freed(tcp_hops, course)


# -- exchanges that fail -----------------------------------------------------------------------


async def refused(hops: Hops) -> None:
    hops.origins[0].close()
    client = await hops.client()
    await client.send(CLOSING)
    assert (await client.message()).status == 502
    await client.rest()
    client.close()


async def no_answer(hops: Hops) -> None:
    client, upstream = await hops.asked(CLOSING)
    assert (await client.message()).status == 504
    await client.rest()
    client.close()
    upstream.close()


async def no_link_in_time(hops: Hops) -> None:
    await hops.asked()
    client = await hops.client()
    await client.send(CLOSING)
    assert (await client.message()).status == 503
    await client.rest()
    for peer in hops.clients:
        peer.close()


async def gone_while_it_waits(hops: Hops) -> None:
    await hops.asked()
    client = await hops.client()
    await client.send(GET)
    await hops.quiet()
    for peer in reversed(hops.clients):
        peer.close()


async def bad_chunk(hops: Hops) -> None:
    client = await hops.client()
    await client.send(CHUNKS)
    upstream = await hops.origins[0].accept()
    await client.send(b"zz\r\n")
    assert (await client.message()).status == 400
    client.close()
    upstream.close()


async def gone_in_its_body(hops: Hops) -> None:
    client = await hops.client()
    await client.send(CHUNKS)
    upstream = await hops.origins[0].accept()
    await client.send(b"3\r\nabc\r\n")
    await hops.quiet()
    client.close()
    await hops.quiet()
    upstream.close()


async def response_cut(hops: Hops) -> None:
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    upstream.close()
    await client.rest()
    client.close()


@pytest.mark.parametrize(
    "course",
    [
        refused,
        no_answer,
        no_link_in_time,
        gone_while_it_waits,
        bad_chunk,
        gone_in_its_body,
        response_cut,
    ],
)
async def test_links_of_failed_exchanges_are_freed_as_they_end(hops: Hops, course: Course) -> None:
    await hops.start(
        pool={"max_connections": 1, "queue_timeout": 5.0}, upstream={"response_timeout": 20.0}
    )
    await freed(hops, course)

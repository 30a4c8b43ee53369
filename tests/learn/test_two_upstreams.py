"""Two upstreams that name one origin share what is learned of it, and not what is set."""

from __future__ import annotations

import pytest
import trio

from hopproxy.observe.snapshot import links_of
from hopproxy.reasons import CloseReason, Hop, Source
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import Pool, UpstreamSettings
from tests.raw_peers import OK, Peer, get
from tests.wire_pair import Hops


async def start(hops: Hops, first: Pool, second: Pool) -> None:
    """/a and /b lead to the same address."""
    address = hops.add_origin().address
    pools = {"a": first, "b": second}
    await hops.start(
        client={"idle_timeout": 600.0},
        upstreams={
            name: UpstreamSettings(origins=(address,), pool=pool) for name, pool in pools.items()
        },
        routes=tuple(Route(upstream=name, path=f"/{name}") for name in pools),
    )


async def served(hops: Hops, path: bytes) -> tuple[Peer, Peer]:
    """One exchange by a new link, which is idle afterwards."""
    client, upstream = await hops.asked(get(path))
    await upstream.send(OK)
    await client.message()
    await hops.quiet()
    return client, upstream


@pytest.mark.parametrize("swapped", [False, True])
async def test_each_keeps_to_its_own_idle_timeout(hops: Hops, swapped: bool) -> None:
    pools = [Pool(idle_timeout=1.0, learn=False), Pool(idle_timeout=50.0)]
    await start(hops, *(reversed(pools) if swapped else pools))
    short, long = (b"/b", b"/a") if swapped else (b"/a", b"/b")
    for path, seconds in ((short, 1.0), (long, 50.0)):
        _, upstream = await served(hops, path)
        began = trio.current_time()
        assert await upstream.rest() == b""
        assert trio.current_time() - began == pytest.approx(seconds)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT] * 2
    rows = (await links_of(hops.runtime))["origins"]
    assert sorted(row["learned"]["idle_limit"] for row in rows) == [1.0, 50.0]


async def test_what_one_learns_the_other_knows(hops: Hops) -> None:
    await start(hops, Pool(idle_timeout=50.0), Pool(idle_timeout=40.0, young_share=1.0))
    _, upstream = await served(hops, b"/a")
    await trio.sleep(10)
    upstream.close()
    await hops.quiet()
    first, second = (app.balancer.members[0] for app in hops.runtime.upstreams.values())
    assert (first.young, second.young) == (4.5, 9.0)


async def test_what_one_is_told_holds_for_idle_links_of_the_other(hops: Hops) -> None:
    await start(hops, Pool(idle_timeout=50.0), Pool(idle_timeout=40.0))
    _, waiting = await served(hops, b"/a")
    client, upstream = await hops.asked(get(b"/b"))
    await upstream.send(OK.replace(b"Date: x", b"Keep-Alive: timeout=5"))
    await client.message()
    began = trio.current_time()
    assert await waiting.rest() == b""
    assert trio.current_time() - began == pytest.approx(4.0)


async def test_one_that_does_not_learn_neither_teaches_nor_obeys(hops: Hops) -> None:
    await start(hops, Pool(idle_timeout=50.0), Pool(idle_timeout=40.0, learn=False))
    for path in (b"/a", b"/b"):
        _, upstream = await served(hops, path)
        await trio.sleep(10)
        upstream.close()
        await hops.quiet()
    first, second = (app.balancer.members[0] for app in hops.runtime.upstreams.values())
    assert (first.young, second.young) == (4.5, 20.0)
    assert first.learned.told.certain is False
    assert second.limit.source is Source.SETTING

"""Closes right behind the first answer: were they a limit of requests, no link would be reused."""

from __future__ import annotations

import pytest
import trio

from hopproxy.pool.idle_timeout import COUNTED, IdleTimeout
from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops


async def closed_behind(hops: Hops, served: int) -> None:
    """One link that the origin closes right behind its `served`th answer."""
    client, upstream = await hops.asked()
    for turn in range(served):
        if turn:
            await client.send(GET)
            await upstream.message()
        await upstream.send(OK)
        await client.message()
    await hops.quiet()
    upstream.close()
    await hops.quiet()
    client.close()
    await trio.sleep(5)


@pytest.mark.parametrize("times", [COUNTED, 10])
async def test_closes_behind_the_first_answer_do_not_end_reuse(hops: Hops, times: int) -> None:
    await hops.start()
    for _ in range(times):
        await closed_behind(hops, 1)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED] * times
    client, upstream = await hops.pair()
    for _ in range(5):
        assert (await hops.again(client, upstream)).body == b"ok"
    assert not hops.origins[0].waiting()


async def test_closes_behind_the_second_answer_are_a_limit(hops: Hops) -> None:
    await hops.start()
    for _ in range(COUNTED):
        await closed_behind(hops, 2)
    client, upstream = await hops.pair()
    assert (await hops.again(client, upstream)).body == b"ok"
    assert await upstream.rest() == b"", "we close it behind its last answer"


@pytest.mark.parametrize(("count", "limit"), [(0, None), (1, None), (2, 2), (100, 100)])
def test_from_two_requests_on_a_count_is_a_limit(count: int, limit: int | None) -> None:
    learner = IdleTimeout(60.0)
    for turn in range(COUNTED + 1):
        learner.closed_by_count(count, 10.0 * turn)
    assert learner.requests(100.0) == limit

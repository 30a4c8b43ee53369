"""What one worker learns about an origin, the others learn too."""

from __future__ import annotations

import pytest
import trio

from hopproxy.pool.known import Found
from hopproxy.server.siblings import Siblings
from tests.wire_pair import Hops


async def test_a_close_that_teaches_is_told_and_teaches_another_worker(hops: Hops) -> None:
    await hops.start()
    told: list[tuple[str, Found]] = []
    pool = hops.runtime.pool
    pool.news.tell = lambda origin, found: told.append((origin, found))
    _, upstream = await hops.pair()
    await trio.sleep(5.0)
    upstream.close()
    await hops.quiet()
    ((label, found),) = told
    assert found[0] == pytest.approx(5.0)
    (member,) = hops.runtime.upstreams["app"].balancer.members
    assert label == member.label
    seen = member.learned.told.age
    assert seen == pytest.approx(5.0)
    # Another worker, which has seen nothing, hears the same.
    member.learned.restarted()
    member.known.refresh(trio.current_time())
    pool.hear("http://elsewhere", found)
    assert member.learned.told.age is None
    pool.hear(label, found)
    assert member.learned.told.age == seen
    assert member.young < 5.0
    assert len(told) == 1, "what was heard is not told again"


def test_what_is_heard_before_anybody_can_learn_is_learned_later() -> None:
    siblings = object.__new__(Siblings)
    siblings._learned, siblings._learn = [("a", 1)], None
    learned: list[tuple[str, int]] = []
    siblings.teach(lambda origin, found: learned.append((origin, found)))
    assert learned == [("a", 1)]

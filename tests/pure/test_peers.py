"""What the origins of one upstream know of each other."""

from __future__ import annotations

from hopproxy.pool.peers import Peers
from hopproxy.rules.retry import Budget
from tests.pure.test_balancer import Member


def test_another_chance_needs_another_origin_and_a_budget() -> None:
    one, two = Member(), Member()
    peers = Peers([one, two], lambda: 0)
    assert peers.has_another(one, 0.0)
    assert peers.chances(one, 0.0) == Budget.RESERVE
    taken = [peers.take(one, 0.0) for _ in range(int(Budget.RESERVE) + 1)]
    assert taken == [True] * int(Budget.RESERVE) + [False]
    two.reach.check_failed()
    assert not peers.has_another(one, 0.0)
    assert peers.chances(one, 0.0) == 0
    assert not peers.take(one, 0.0)


def test_requests_under_way_count_for_the_budget() -> None:
    peers = Peers([Member(), Member()], lambda: 100)
    assert peers.chances(peers.members[0], 0.0) == Budget.RESERVE + 20

"""Which origin is next."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from hopproxy.pool.reach import LEAST_SHARE, PATIENCE, Reach
from hopproxy.routing.balancer import Balancer, Search
from hopproxy.routing.latency import Latency


class Member:
    """An origin, as little of it as the balancer needs."""

    def __init__(
        self,
        failed_at: float | None = None,
        *,
        weight: int = 1,
        priority: int = 0,
        load: int = 0,
        waiting: int = 0,
    ) -> None:
        self.reach = Reach(lambda: 0.0, most=3, slow_start=10.0)
        self.weight, self.priority = weight, priority
        self.under_way = load
        self.waiters = range(waiting)
        self.share, self.turn, self.credit = 1.0, 0.0, 0.0
        self.latency = Latency()
        if failed_at is not None:
            self.reach.failed(self.reach.begin(failed_at), failed_at)

    def goes_out(self, now: float) -> Member:
        for _ in range(3):
            self.reach.request_failed("timeout", now, may_go=True)
        assert self.reach.is_out
        return self


def picks(members: list[Member], now: float, times: int) -> list[int]:
    """Which of the members are picked, one after another."""
    balancer = Balancer(members)
    return [members.index(balancer.pick(now)) for _ in range(times)]


# -- the fewest requests, and turns ------------------------------------------------------------


def test_origins_without_requests_are_taken_in_turn() -> None:
    assert picks([Member(), Member(), Member()], 0.0, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_the_one_with_the_fewest_requests_is_next_and_those_that_wait_count() -> None:
    assert picks([Member(load=3), Member(load=1), Member(load=2)], 0.0, 3) == [1, 1, 1]
    assert picks([Member(load=1, waiting=2), Member(load=2)], 0.0, 2) == [1, 1]


def test_round_robin_ignores_how_many_requests_there_are() -> None:
    members = [Member(load=9), Member(), Member(load=4)]
    balancer = Balancer(members)
    balancer.ignores_load = True
    assert [members.index(balancer.pick(0.0)) for _ in range(4)] == [0, 1, 2, 0]


def shares(
    weights: list[int], at_once: int, *, in_turn: bool = False, seconds: list[float] | None = None
) -> list[float]:
    """What each origin got of its share, from clients that each wait for their responses."""
    chance = random.Random(1)
    members = [Member(weight=weight) for weight in weights]
    balancer = Balancer(members)
    balancer.ignores_load = in_turn
    ends: list[tuple[float, int, Member]] = []
    got: Counter[Member] = Counter()
    now = 0.0
    for number in range(4000):
        if number >= at_once:
            now, _, done = heapq.heappop(ends)
            done.under_way -= 1
        member = balancer.pick(now)
        got[member] += 1
        member.under_way += 1
        mean = seconds[members.index(member)] if seconds else 1.0
        heapq.heappush(ends, (now + chance.expovariate(1 / mean), number, member))
    every = sum(weights) / 4000
    return [got[member] * every / member.weight for member in members]


@pytest.mark.parametrize("at_once", [1, 2, 3, 8, 16, 64])
@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [3, 2, 1], [5, 1], [100, 50], [10, 3, 1]])
@pytest.mark.parametrize("in_turn", [False, True])
def test_weights_are_kept_to_five_in_a_hundred(
    weights: list[int], at_once: int, in_turn: bool
) -> None:
    assert shares(weights, at_once, in_turn=in_turn) == pytest.approx(
        [1.0] * len(weights), abs=0.05
    )


def test_a_slow_origin_does_not_hold_up_the_fast_one() -> None:
    slow, fast = shares([1, 1], 32, seconds=[0.5, 0.005])
    assert fast / (slow + fast) > 0.97


# -- origins that get nothing ------------------------------------------------------------------


@pytest.mark.parametrize("later", [0.0, 2.0, 3600.0])
def test_one_that_is_down_is_passed_over_until_a_dial_succeeds(later: float) -> None:
    members = [Member(), Member(10.0), Member()]
    now = 10.0 + later
    assert picks(members, now, 4) == [0, 2, 0, 2]
    members[1].reach.succeeded(now)
    assert 1 in picks(members, now + 10.0, 4)


def test_one_whose_dial_is_under_way_for_too_long_is_passed_over() -> None:
    members = [Member(), Member()]
    members[0].reach.begin(10.0)
    assert picks(members, 10.0 + PATIENCE / 2, 2) == [0, 1]
    assert picks(members, 10.0 + PATIENCE, 2) == [1, 1]


def test_where_all_are_down_the_one_that_failed_first_is_tried() -> None:
    assert picks([Member(11.0), Member(10.0), Member(10.5)], 11.0, 3) == [1, 1, 1]


def test_one_that_failed_is_tried_before_one_whose_dial_is_not_answered() -> None:
    members = [Member(), Member(10.0)]
    members[0].reach.begin(10.0)
    assert picks(members, 11.0, 2) == [1, 1]


def test_one_that_is_out_gets_one_request_once_its_time_has_come() -> None:
    members = [Member(), Member().goes_out(10.0), Member()]
    assert picks(members, 14.9, 4) == [0, 2, 0, 2]
    balancer = Balancer(members)
    assert balancer.pick(15.0) is members[1]
    members[1].reach.asked(16.0)
    assert {balancer.pick(15.0) for _ in range(4)} == {members[0], members[2]}
    assert balancer.pick(16.0) is members[1], "nothing was heard of the trial"


def test_a_request_that_may_not_be_the_trial_leaves_it_to_others_for_a_while() -> None:
    members = [Member(), Member().goes_out(10.0)]
    balancer = Balancer(members)
    assert balancer.pick(16.0, due=11.0) is members[0]
    assert balancer.pick(20.0, due=15.0) is members[1]


def test_a_silent_one_is_tried_at_once_by_one_request() -> None:
    members = [Member(), Member()]
    members[0].reach.silent(10.0)
    balancer = Balancer(members)
    assert balancer.pick(10.0) is members[0]
    members[0].reach.asked(11.0)
    assert [balancer.pick(10.5) for _ in range(2)] == [members[1]] * 2


def test_one_that_its_checks_say_is_down_gets_nothing() -> None:
    members = [Member(), Member()]
    members[0].reach.check_failed()
    assert picks(members, 3600.0, 2) == [1, 1]


def test_if_more_than_half_are_out_all_are_used_but_those_that_are_down() -> None:
    members = [Member(), Member().goes_out(10.0), Member().goes_out(10.0)]
    assert sorted(picks(members, 11.0, 3)) == [0, 1, 2]
    assert picks([Member(), Member().goes_out(10.0)], 11.0, 2) == [0, 0], "half is not more"
    assert picks([Member(), Member(10.0), Member(10.0)], 11.0, 2) == [0, 0]
    both = [Member().goes_out(10.0), Member().goes_out(10.0)]
    assert sorted(picks(both, 11.0, 2)) == [0, 1]


def test_one_that_is_back_gets_little_first_and_its_share_in_the_end() -> None:
    members = [Member(), Member().goes_out(0.0)]
    members[1].reach.answered(100.0)
    balancer = Balancer(members)

    def part(now: float) -> float:
        return [balancer.pick(now) for _ in range(400)].count(members[1]) / 200

    assert part(100.0) == pytest.approx(LEAST_SHARE, abs=0.02)
    assert part(105.0) == pytest.approx(0.5, abs=0.02)
    assert part(110.0) == pytest.approx(1.0, abs=0.05)
    assert members[1].reach.clear


def test_one_that_starts_slowly_gets_everything_if_there_is_no_other() -> None:
    members = [Member(0.0), Member().goes_out(0.0)]
    members[1].reach.answered(100.0)
    assert picks(members, 100.0, 3) == [1, 1, 1]


# -- priorities --------------------------------------------------------------------------------


def test_a_backup_is_used_only_while_no_other_may_get_requests() -> None:
    members = [Member(), Member(priority=1), Member(priority=2)]
    assert picks(members, 0.0, 3) == [0, 0, 0]
    members[0].goes_out(10.0)
    assert picks(members, 11.0, 2) == [1, 1]
    assert picks(members, 15.0, 1) == [0], "the trial"
    members[1].reach.failed(members[1].reach.begin(11.0), 11.0)
    assert picks(members, 11.0, 2) == [2, 2]
    members[2].reach.failed(members[2].reach.begin(11.0), 11.0)
    assert picks(members, 11.0, 2) == [0, 0], "the only one that accepts connections"


# -- members -----------------------------------------------------------------------------------


@pytest.mark.parametrize("failed_at", [None, 10.0])
def test_a_single_origin_is_always_taken(failed_at: float | None) -> None:
    member = Member(failed_at)
    assert picks([member], 10.0, 2) == [0, 0]
    assert Balancer([member]).only is member


def test_of_several_origins_none_is_the_only_one() -> None:
    assert Balancer([Member(), Member()]).only is None


def test_the_origins_can_be_looked_at() -> None:
    members = [Member(), Member()]
    assert Balancer(members).members == members


# -- the search of one request -----------------------------------------------------------------


def test_a_request_tries_each_origin_once_those_that_answer_first() -> None:
    members = [Member(), Member(10.0), Member(), Member(9.0)]
    turn = Balancer(members)
    search = Search(turn, turn.pick(11.0))
    order = [members.index(search.origin)]
    assert not search.begun
    while search.goes_on(11.0, slow=False):
        order.append(members.index(search.origin))
    assert order == [0, 2, 3, 1]
    assert search.begun


def test_an_origin_that_was_only_slow_is_tried_again_when_no_other_is_left() -> None:
    members = [Member(), Member()]
    search = Search(Balancer(members), members[0])
    assert search.may_leave(0.0)
    assert search.goes_on(0.0, slow=True)
    assert search.origin is members[1]
    assert not search.may_leave(0.0)  # it was left before
    assert search.goes_on(0.0, slow=False)
    assert search.origin is members[0]
    assert not search.may_leave(0.0)
    assert not search.goes_on(0.0, slow=False)


def test_no_request_leaves_a_slow_origin_for_one_that_does_not_answer() -> None:
    members = [Member(), Member(10.0)]
    assert not Search(Balancer(members), members[0]).may_leave(11.0)
    assert not Search(Balancer(members[:1]), members[0]).may_leave(11.0)


def picked(turn: Balancer[Member], count: int) -> list[Member]:
    return [turn.pick(0.0) for _ in range(count)]


def test_one_that_is_added_comes_after_all_others() -> None:
    first, second, third = Member(), Member(), Member()
    turn = Balancer([first])
    assert turn.pick(0.0) is first
    turn.add(second)
    assert turn.only is None
    turn.add(third)
    assert picked(turn, 3) == [first, second, third]


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("gone", range(3))
def test_nobody_else_loses_a_turn_by_a_removal(taken: int, gone: int) -> None:
    members = [Member(), Member(), Member()]
    turn = Balancer(members)
    picked(turn, taken)
    turn.remove(members[gone])
    coming = [members[at % 3] for at in range(taken, taken + 3)]
    coming.remove(members[gone])
    assert picked(turn, 2) == coming


def test_the_last_one_cannot_be_removed() -> None:
    first, second = Member(), Member()
    turn = Balancer([first, second])
    turn.remove(first)
    assert turn.only is second
    with pytest.raises(ValueError, match="one origin"):
        turn.remove(second)
    assert turn.pick(0.0) is second


def test_a_second_attempt_goes_to_another_origin_and_comes_back_only_where_it_may() -> None:
    members = [Member(), Member()]
    turn = Balancer(members)
    elsewhere = Search(turn, members[1], avoided=members[0], returns=False)
    assert not elsewhere.may_leave(0.0)
    assert not elsewhere.goes_on(0.0, slow=False)
    anywhere = Search(turn, members[1], avoided=members[0])
    assert anywhere.goes_on(0.0, slow=False)
    assert anywhere.origin is members[0]
    assert not anywhere.goes_on(0.0, slow=False)


def test_the_others_are_those_that_take_requests_by_their_priority() -> None:
    members = [Member(priority=1), Member(), Member(10.0), Member().goes_out(10.0), Member()]
    turn = Balancer(members)
    assert turn.others([members[4]], 11.0) == [members[1]]
    assert turn.others([members[4], members[1]], 11.0) == [members[0]]
    assert turn.others(members, 11.0) == []

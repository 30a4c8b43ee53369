"""Which origin is next."""

import pytest

from hopproxy.pool.reach import PATIENCE, Reach
from hopproxy.routing.balancer import RoundRobin, Search


class Member:
    """An origin, as little of it as the balancer needs."""

    def __init__(self, failed_at: float | None = None) -> None:
        self.reach = Reach(lambda: 0.0)
        if failed_at is not None:
            self.reach.failed(self.reach.begin(failed_at), failed_at)


def picks(members: list[Member], now: float, times: int) -> list[int]:
    """Which of the members are picked, one after another."""
    turn = RoundRobin(members)
    return [members.index(turn.pick(now)) for _ in range(times)]


def test_origins_are_taken_in_turn() -> None:
    assert picks([Member(), Member(), Member()], 0.0, 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("later", [0.0, 2.0, 3600.0])
def test_one_that_failed_is_passed_over_until_a_dial_succeeds(later: float) -> None:
    members = [Member(), Member(10.0), Member()]
    assert picks(members, 10.0 + later, 4) == [0, 2, 0, 2]
    members[1].reach.succeeded()
    assert picks(members, 10.0 + later, 4) == [0, 1, 2, 0]


def test_one_whose_dial_is_under_way_for_too_long_is_passed_over() -> None:
    members = [Member(), Member()]
    members[0].reach.begin(10.0)
    assert picks(members, 10.0 + PATIENCE / 2, 2) == [0, 1]
    assert picks(members, 10.0 + PATIENCE, 2) == [1, 1]


def test_where_all_have_failed_the_one_that_failed_first_is_tried() -> None:
    assert picks([Member(11.0), Member(10.0), Member(10.5)], 11.0, 3) == [1, 1, 1]


def test_one_that_failed_is_tried_before_one_that_is_silent() -> None:
    members = [Member(), Member(10.0)]
    members[0].reach.begin(10.0)
    assert picks(members, 11.0, 2) == [1, 1]


@pytest.mark.parametrize("failed_at", [None, 10.0])
def test_a_single_origin_is_always_taken(failed_at: float | None) -> None:
    member = Member(failed_at)
    assert picks([member], 10.0, 2) == [0, 0]
    assert RoundRobin([member]).only is member


def test_of_several_origins_none_is_the_only_one() -> None:
    assert RoundRobin([Member(), Member()]).only is None


def test_the_origins_can_be_looked_at() -> None:
    members = [Member(), Member()]
    assert RoundRobin(members).members == members


def test_a_look_takes_no_turn() -> None:
    members = [Member(), Member(10.0), Member()]
    turn = RoundRobin(members)
    for expected in (0, 2, 0):
        assert turn.look(10.0) is turn.look(10.0) is members[expected]
        assert turn.pick(10.0) is members[expected]


# -- the search of one request -----------------------------------------------------------------


def test_a_request_tries_each_origin_once_those_that_answer_first() -> None:
    members = [Member(), Member(10.0), Member(), Member(9.0)]
    turn = RoundRobin(members)
    search = Search(turn, turn.pick(11.0))
    order = [members.index(search.origin)]
    assert not search.begun
    while search.goes_on(11.0, slow=False):
        order.append(members.index(search.origin))
    assert order == [0, 2, 3, 1]
    assert search.begun


def test_an_origin_that_was_only_slow_is_tried_again_when_no_other_is_left() -> None:
    members = [Member(), Member()]
    search = Search(RoundRobin(members), members[0])
    assert search.may_leave(0.0)
    assert search.goes_on(0.0, slow=True)
    assert search.origin is members[1]
    assert not search.may_leave(0.0)  # it was left before
    assert search.goes_on(0.0, slow=False)
    assert search.origin is members[0]
    assert not search.may_leave(0.0)
    assert not search.goes_on(0.0, slow=False)


def test_nobody_leaves_a_slow_origin_for_one_that_does_not_answer() -> None:
    members = [Member(), Member(10.0)]
    assert not Search(RoundRobin(members), members[0]).may_leave(11.0)
    assert not Search(RoundRobin(members[:1]), members[0]).may_leave(11.0)


def picked(turn: RoundRobin[Member], count: int) -> list[Member]:
    return [turn.pick(0.0) for _ in range(count)]


def test_one_that_is_added_comes_after_all_others() -> None:
    first, second, third = Member(), Member(), Member()
    turn = RoundRobin([first])
    assert turn.pick(0.0) is first
    turn.add(second)
    assert turn.only is None
    turn.add(third)
    assert picked(turn, 3) == [first, second, third]


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("gone", range(3))
def test_nobody_else_loses_a_turn_by_a_removal(taken: int, gone: int) -> None:
    members = [Member(), Member(), Member()]
    turn = RoundRobin(members)
    picked(turn, taken)
    turn.remove(members[gone])
    coming = [members[at % 3] for at in range(taken, taken + 3)]
    coming.remove(members[gone])
    assert picked(turn, 2) == coming


def test_the_last_one_cannot_be_removed() -> None:
    first, second = Member(), Member()
    turn = RoundRobin([first, second])
    turn.remove(first)
    assert turn.only is second
    with pytest.raises(ValueError, match="one origin"):
        turn.remove(second)
    assert turn.pick(0.0) is second


def test_one_that_left_a_request_unanswered_gets_one_at_a_time() -> None:
    members = [Member(), Member(), Member()]
    members[1].reach.silent(10.0, 1.0)
    assert picks(members, 11.0, 4) == [0, 2, 0, 2]
    turn = RoundRobin(members)
    seen = [members.index(turn.pick(12.0)) for _ in range(5)]
    assert seen == [0, 1, 2, 0, 2]
    members[1].reach.answered()
    assert picks(members, 12.0, 3) == [0, 1, 2]


def test_a_look_does_not_use_up_the_trial_of_a_silent_one() -> None:
    members = [Member(), Member()]
    members[0].reach.silent(10.0, 1.0)
    turn = RoundRobin(members)
    assert turn.look(12.0) is members[0]
    assert turn.pick(12.0) is members[0]
    assert turn.look(12.0) is members[1]


def test_a_silent_one_is_asked_before_one_that_cannot_be_reached() -> None:
    members = [Member(10.0), Member(), Member()]
    members[1].reach.silent(11.0, 1.0)
    members[2].reach.silent(10.5, 1.0)
    assert picks(members, 11.0, 1) == [2]

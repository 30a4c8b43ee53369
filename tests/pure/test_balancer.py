"""Which origin is next."""

import pytest

from hopproxy.routing.balancer import PASSED_OVER, RoundRobin


class Member:
    """An origin, as little of it as the balancer needs."""

    def __init__(self, failed_at: float | None = None) -> None:
        self.failed_at = failed_at


def picks(members: list[Member], now: float, times: int) -> list[int]:
    """Which of the members are picked, one after another."""
    turn = RoundRobin(members)
    return [members.index(turn.pick(now)) for _ in range(times)]


def test_origins_are_taken_in_turn() -> None:
    assert picks([Member(), Member(), Member()], 0.0, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_one_that_failed_lately_is_passed_over() -> None:
    members = [Member(), Member(10.0), Member()]
    assert picks(members, 10.0, 4) == [0, 2, 0, 2]
    assert picks(members, 10.0 + PASSED_OVER, 4) == [0, 1, 2, 0]


def test_where_all_have_failed_the_one_that_failed_first_is_tried() -> None:
    assert picks([Member(11.0), Member(10.0), Member(10.5)], 11.0, 3) == [1, 1, 1]


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

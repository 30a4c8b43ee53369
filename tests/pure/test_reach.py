"""Whether an origin can be reached, and when it is tried again."""

from __future__ import annotations

import math

import pytest

from hopproxy.pool.reach import ALONE, FIRST, LONGEST, PATIENCE, SPREAD, Reach


def reach(chance: float = 0.0) -> Reach:
    return Reach(lambda: chance)


def fail(one: Reach, now: float) -> None:
    """A dial that fails in the moment it begins."""
    one.failed(one.begin(now), now)


def test_before_the_first_dial_nothing_is_known_and_nobody_goes_elsewhere() -> None:
    one = reach()
    assert (one.reached, one.failed_at, one.away_from) == (False, None, math.inf)
    assert one.trial_at(alone=True) == math.inf


def test_one_that_is_sought_is_tried_at_once() -> None:
    one = reach()
    one.sought = True
    assert one.trial_at(alone=True) == one.trial_at(alone=False) == -math.inf


def test_a_success_ends_everything_and_only_a_failure_undoes_it() -> None:
    one = reach()
    one.begin(1.0)
    one.succeeded()
    assert (one.reached, one.failed_at, one.away_from) == (True, None, math.inf)
    assert one.trial_at(alone=True) == math.inf
    fail(one, 5.0)
    assert not one.reached
    assert (one.failed_at, one.away_from) == (5.0, -math.inf)


def test_a_dial_under_way_sends_others_elsewhere_after_a_while() -> None:
    one = reach()
    first, second = one.begin(1.0), one.begin(1.2)
    assert one.away_from == 1.0 + PATIENCE
    one.untold(first, 1.3)
    assert one.away_from == 1.2 + PATIENCE
    one.untold(second, 1.4)
    assert one.away_from == math.inf


def test_a_dial_that_began_before_another_succeeded_is_no_news_when_it_fails() -> None:
    one = reach()
    slow = one.begin(1.0)
    one.begin(3.9)
    one.succeeded()
    one.failed(slow, 4.0)
    assert (one.reached, one.failed_at, one.away_from) == (True, None, math.inf)


def test_a_dial_under_way_is_trial_enough() -> None:
    one = reach()
    fail(one, 1.0)
    number = one.begin(1.5)
    assert one.trial_at(alone=True) == one.trial_at(alone=False) == math.inf
    one.failed(number, 4.5)
    assert one.trial_at(alone=True) == 1.5 + ALONE


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_pause_between_trials_doubles_up_to_a_bound(chance: float) -> None:
    one, now, pauses = reach(chance), 0.0, []
    for _ in range(8):
        fail(one, now)
        pauses.append(one.trial_at(alone=False) - now)
        now = one.trial_at(alone=False)
    longer = 1 + SPREAD * chance
    assert pauses[:4] == pytest.approx([FIRST * longer * 2**n for n in range(4)])
    assert pauses[-1] == pytest.approx(pauses[-2])
    assert pauses[-1] == pytest.approx(LONGEST / (1 + SPREAD) * longer)


def test_failures_at_the_same_time_are_one() -> None:
    one = reach()
    dials = [one.begin(1.0) for _ in range(20)]
    for number in dials:
        one.failed(number, 1.0)
    assert one.trial_at(alone=False) == 1.0 + FIRST


def test_the_pause_begins_anew_after_a_success() -> None:
    one = reach()
    fail(one, 0.0)
    fail(one, 2.0)
    one.begin(6.0)
    one.succeeded()
    fail(one, 10.0)
    assert one.trial_at(alone=False) == 10.0 + FIRST


def test_where_none_answers_each_is_tried_every_second() -> None:
    one = reach()
    for now in (0.0, 1.0, 2.0, 3.0):
        fail(one, now)
        assert one.trial_at(alone=True) == now + ALONE


def test_a_trial_that_told_nothing_is_made_again_a_second_later() -> None:
    one = reach()
    fail(one, 0.0)
    one.untold(one.begin(2.0), 2.0)
    assert one.trial_at(alone=True) == one.trial_at(alone=False) == 3.0
    one.untold(0, 2.5)  # it could not begin: that puts off no other trial
    assert one.trial_at(alone=False) == 3.0


def test_silence_is_waited_out_for_longer_each_time_and_an_answer_ends_it() -> None:
    one = reach()
    one.silent(0.0, 1.0)
    one.silent(0.5, 1.0)  # those sent before
    assert one.passed_until == FIRST
    one.asked(10.0)
    one.silent(11.0, 1.0)
    assert one.passed_until == 11.0 + 2 * FIRST
    for _ in range(9):
        one.asked(100.0)
    assert one.passed_until <= 101.0 + LONGEST
    one.answered()
    assert one.passed_until == -math.inf
    one.silent(200.0, 1.0)
    assert one.passed_until == 200.0 + FIRST
    fail(one, 201.0)
    assert one.passed_until == -math.inf

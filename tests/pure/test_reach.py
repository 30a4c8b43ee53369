"""Whether an origin can be reached, and when it is tried again."""

from __future__ import annotations

import math

import pytest

from hopproxy.pool.reach import (
    ALONE,
    FIRST,
    LEAST_SHARE,
    LONGEST,
    NO_STATUS,
    PATIENCE,
    SPREAD,
    Out,
    Reach,
)


def reach(chance: float = 0.0) -> Reach:
    return Reach(lambda: chance)


def fail(one: Reach, now: float) -> None:
    """A dial that fails at once."""
    one.failed(one.begin(now), now)


def test_before_the_first_dial_nothing_is_known_and_no_request_goes_elsewhere() -> None:
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
    one.succeeded(5.0)
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
    one.succeeded(5.0)
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


def test_the_pause_begins_again_after_a_success() -> None:
    one = reach()
    fail(one, 0.0)
    fail(one, 2.0)
    one.begin(6.0)
    one.succeeded(5.0)
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


# -- requests ----------------------------------------------------------------------------------


def out_after(one: Reach, now: float, times: int, kind: str = "timeout") -> Out | None:
    """So many failures at once; what the last of them does."""
    last = None
    for _ in range(times):
        last = one.request_failed(kind, now, may_go=True)
    return last


def judged(slow_start: float = 0.0) -> Reach:
    one = Reach(lambda: 0.0, most=3, slow_start=slow_start)
    one.succeeded(0.0)
    return one


def test_so_many_failures_in_a_row_put_it_out_and_say_why() -> None:
    one = judged()
    assert out_after(one, 1.0, 2) is None
    assert one.takes(1.0)
    assert one.request_failed("reset", 1.5, may_go=True) == (5.0, "2 timeouts, 1 reset")
    assert (one.is_out, one.times_out, one.passed_until) == (True, 1, 6.5)
    assert not one.takes(1.5)
    assert [one.is_due(now) for now in (6.4, 6.5)] == [False, True]


def test_a_response_between_them_begins_the_row_again() -> None:
    one = judged()
    assert out_after(one, 1.0, 2) is None
    assert one.judges_from == 0
    assert not one.answered(1.1)
    assert one.judges_from == NO_STATUS
    assert out_after(one, 1.2, 2) is None
    assert one.takes(1.2)


def test_one_more_failure_after_its_time_puts_it_out_for_longer_up_to_a_bound() -> None:
    one, now, seconds = judged(), 0.0, []
    out_after(one, now, 3)
    for _ in range(8):
        now = one.passed_until
        one.asked(now + 1.0)
        out = one.request_failed("timeout", now + 0.5, may_go=True)
        assert out is not None
        seconds.append(out.seconds)
    assert seconds == [10.0, 15.0, 20.0, 25.0, 30.0, 30.0, 30.0, 30.0]


def test_requests_that_were_sent_before_do_not_make_it_longer() -> None:
    one = judged()
    out_after(one, 1.0, 3)
    assert out_after(one, 2.0, 20) is None
    assert one.passed_until == 6.0


def test_the_last_one_is_never_out_nor_one_that_is_not_judged() -> None:
    one = judged()
    for _ in range(9):
        assert one.request_failed("timeout", 1.0, may_go=False) is None
    assert one.takes(1.0)
    free = reach()
    assert out_after(free, 1.0, 9) is None
    assert free.takes(1.0)


def test_a_response_brings_it_back_slowly_and_its_outs_are_forgotten() -> None:
    one = judged(slow_start=10.0)
    out_after(one, 0.0, 3)
    assert one.answered(now=7.0)
    assert (one.is_out, one.clear, one.takes(7.0)) == (False, False, True)
    assert [one.share(now) for now in (7.0, 9.0, 12.0, 30.0)] == [LEAST_SHARE, 0.2, 0.5, 1.0]
    assert one.takes(17.0)
    assert one.clear
    out = out_after(one, 20.0, 3)
    assert out is not None
    assert out.seconds == 5.0


def test_a_silent_one_is_tried_by_one_at_a_time_until_it_is_out_or_answers() -> None:
    one = judged()
    one.silent(10.0)
    one.silent(10.2)  # still
    assert one.is_due(10.0)
    assert not one.takes(10.0)
    for now in (10.5, 11.0):
        one.asked(now + 1.0)
        assert not one.is_due(now)
        assert one.request_failed("timeout", now, may_go=True) is None
        assert one.is_due(now), "the next one may try it"
    assert one.request_failed("timeout", 11.5, may_go=True) == (5.0, "3 timeouts")
    other = judged()
    other.silent(10.0)
    assert not other.answered(10.1), "it was not out"
    assert other.clear


def test_a_failed_dial_ends_it_and_one_that_is_down_is_not_tried_by_requests() -> None:
    one = judged()
    out_after(one, 0.0, 3)
    fail(one, 1.0)
    assert one.passed_until == -math.inf
    assert not one.takes(1.0)
    assert not one.is_reachable(1.0)
    one.silent(2.0)
    assert not one.is_due(2.0)


def test_one_that_was_down_starts_slowly_and_so_does_one_that_joins() -> None:
    one = judged(slow_start=10.0)
    fail(one, 1.0)
    one.succeeded(5.0)
    assert one.share(6.0) == LEAST_SHARE
    new = judged(slow_start=10.0)
    assert new.share(0.0) == 1.0
    new.joined(3.0)
    assert new.share(8.0) == 0.5


def test_checks_that_fail_keep_requests_away_until_they_pass() -> None:
    one = judged(slow_start=10.0)
    one.check_failed()
    assert (one.is_out, one.takes(1.0), one.is_due(1.0)) == (True, False, False)
    one.check_passed(5.0)
    assert (one.is_out, one.takes(5.0), one.share(10.0)) == (False, True, 0.5)


def test_the_news_of_a_failed_dial_is_reported_once() -> None:
    one = judged()
    assert one.failed(one.begin(1.0), 1.0)
    assert not one.failed(one.begin(2.0), 2.0)
    assert not one.failed(99, 2.0)


def test_one_status_is_reported_as_one() -> None:
    one = Reach(lambda: 0.0, most=1)
    out = one.request_failed("status 503", 0.0, may_go=True)
    assert out is not None
    assert out.why == "status 503"
    again = Reach(lambda: 0.0, most=2)
    assert again.request_failed("status 503", 0.0, may_go=True) is None
    twice = again.request_failed("status 503", 0.0, may_go=True)
    assert twice is not None
    assert twice.why == "2 times status 503"

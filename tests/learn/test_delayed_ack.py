"""When an origin's responses are acknowledged at once, out of how long their second pieces took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.pool.delayed_ack import (
    ENOUGH,
    FIRST_TRIAL,
    FUTILE,
    LAST_TRIAL,
    LEAST,
    MOST,
    MOST_ENOUGH,
    UNNEEDED,
    WHOLE,
    DelayedAck,
)

HELD, AT_ONCE = 0.044, 0.0003


def answered(learner: DelayedAck, pauses: float, count: int = 1, *, recent: bool = True) -> int:
    """So many responses in two pieces; how many of them were acknowledged at once."""
    acknowledged = 0
    for _ in range(count):
        at_once = learner.at_once
        acknowledged += at_once
        learner.paused(pauses, acknowledged=at_once, recent=recent)
    return acknowledged


def waiting(count: int, learner: DelayedAck) -> int:
    """So many responses that wait for our ACK; how many of them had to."""
    return count - sum(
        answered(learner, AT_ONCE if learner.at_once else HELD) for _ in range(count)
    )


@pytest.fixture
def needed() -> DelayedAck:
    """An origin that is known to wait."""
    learner = DelayedAck()
    waiting(ENOUGH, learner)
    assert (learner.known, learner.at_once) == (True, True)
    return learner


def test_two_long_pauses_are_enough() -> None:
    learner = DelayedAck()
    assert waiting(FIRST_TRIAL, learner) == ENOUGH


@pytest.mark.parametrize("pause", [0.0, AT_ONCE, LEAST / 2, MOST * 2, 3.0])
def test_other_pauses_are_none_of_an_ack(pause: float) -> None:
    learner = DelayedAck()
    assert answered(learner, pause, 1000) == 0
    assert not learner.known


def test_a_long_pause_now_and_then_is_none_of_an_ack() -> None:
    learner = DelayedAck()
    for _ in range(100):
        assert answered(learner, HELD) + answered(learner, AT_ONCE) == 0


def test_the_round_trip_is_no_part_of_a_delay() -> None:
    learner = DelayedAck()
    learner.rtt = 0.05
    assert answered(learner, 0.05, 100) == 0
    answered(learner, 0.094, ENOUGH)
    assert learner.at_once
    assert answered(learner, 0.05, FIRST_TRIAL) == FIRST_TRIAL


def test_an_origin_that_takes_its_time_is_not_acknowledged_for_long() -> None:
    learner = DelayedAck()
    assert answered(learner, HELD, 20) <= 2 * FUTILE
    assert answered(learner, HELD, 20_000) < 20_000 / 50
    assert learner._enough == MOST_ENOUGH


def test_a_trial_goes_without_ever_more_seldom(needed: DelayedAck) -> None:
    assert waiting(10 * LAST_TRIAL, needed) <= 16
    assert needed.known


def test_it_ends_once_a_trial_has_no_long_pause(needed: DelayedAck) -> None:
    assert answered(needed, AT_ONCE, 10 * LAST_TRIAL) == FIRST_TRIAL
    assert not needed.known


def test_a_trial_on_links_that_were_idle_proves_nothing(needed: DelayedAck) -> None:
    assert answered(needed, AT_ONCE, 100, recent=False) == FIRST_TRIAL
    assert needed.known
    answered(needed, HELD)
    assert needed.at_once


def test_it_ends_once_responses_come_whole(needed: DelayedAck) -> None:
    for _ in range(WHOLE - 1):
        needed.whole()
    assert needed.known
    answered(needed, AT_ONCE)
    for _ in range(WHOLE):
        assert needed.known
        needed.whole()
    assert (needed.known, needed.at_once) == (False, False)


def test_what_began_before_a_change_says_nothing_of_it(needed: DelayedAck) -> None:
    for _ in range(UNNEEDED):
        needed.paused(HELD, acknowledged=False, recent=True)
    assert needed.at_once
    answered(needed, AT_ONCE, FIRST_TRIAL)
    assert (needed.known, needed.at_once) == (True, False)
    for _ in range(FUTILE):
        needed.paused(HELD, acknowledged=True, recent=True)
    assert needed.known


def test_a_restart_forgets(needed: DelayedAck) -> None:
    needed.restarted()
    assert (needed.known, needed.at_once) == (False, False)
    assert waiting(FIRST_TRIAL, needed) == ENOUGH


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans(), st.booleans())))
def test_immediate_acks_are_for_origins_that_are_known(
    events: list[tuple[float, bool, bool, bool]],
) -> None:
    learner = DelayedAck()
    for pause, acknowledged, recent, whole in events:
        if whole and learner.known:
            learner.whole()
        else:
            learner.paused(pause, acknowledged=acknowledged, recent=recent)
        assert learner.known or not learner.at_once

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
        at_once = learner.at_once and not learner.take_trial()
        acknowledged += at_once
        learner.paused(pauses, acknowledged=at_once, recent=recent)
    return acknowledged


def waiting(count: int, learner: DelayedAck) -> int:
    """So many responses that wait for our ACK; how many of them had to."""
    waited = 0
    for _ in range(count):
        at_once = learner.at_once and not learner.take_trial()
        learner.paused(AT_ONCE if at_once else HELD, acknowledged=at_once, recent=True)
        waited += not at_once
    return waited


@pytest.fixture
def needed() -> DelayedAck:
    """An origin that is known to wait."""
    learner = DelayedAck()
    waiting(ENOUGH, learner)
    assert learner.at_once
    return learner


def test_two_long_pauses_are_enough() -> None:
    learner = DelayedAck()
    assert waiting(FIRST_TRIAL, learner) == ENOUGH


@pytest.mark.parametrize("pause", [0.0, AT_ONCE, LEAST / 2, MOST * 2, 3.0])
def test_other_pauses_are_none_of_an_ack(pause: float) -> None:
    learner = DelayedAck()
    assert answered(learner, pause, 1000) == 0
    assert not learner.at_once


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
    assert needed.at_once


def test_it_ends_once_a_trial_has_no_long_pause(needed: DelayedAck) -> None:
    assert answered(needed, AT_ONCE, 10 * LAST_TRIAL) == FIRST_TRIAL
    assert not needed.at_once


def test_a_trial_on_links_that_were_idle_proves_nothing(needed: DelayedAck) -> None:
    assert answered(needed, AT_ONCE, 100, recent=False) == FIRST_TRIAL
    assert needed.at_once
    answered(needed, HELD)
    assert answered(needed, AT_ONCE, FIRST_TRIAL) == FIRST_TRIAL


@pytest.mark.parametrize("end", ["gave up", "nothing to send"])
def test_one_response_at_a_time_is_a_trial(needed: DelayedAck, end: str) -> None:
    answered(needed, AT_ONCE, FIRST_TRIAL)
    assert [needed.take_trial() for _ in range(3)] == [True, False, False]
    needed.paused(2 * MOST, acknowledged=True, recent=True)
    assert not needed.take_trial(), "another response ends no trial"
    if end == "gave up":
        needed.gave_up()
    else:
        needed.paused(2 * MOST, acknowledged=False, recent=True)
    assert needed.take_trial()


def test_it_ends_once_responses_come_whole(needed: DelayedAck) -> None:
    for _ in range(WHOLE - 1):
        needed.whole()
    assert needed.at_once
    answered(needed, AT_ONCE)
    for _ in range(WHOLE):
        assert needed.at_once
        needed.whole()
    assert not needed.at_once


def test_what_began_before_a_change_says_nothing_of_it(needed: DelayedAck) -> None:
    for _ in range(UNNEEDED + ENOUGH):
        needed.paused(HELD, acknowledged=False, recent=True)
        needed.paused(AT_ONCE, acknowledged=False, recent=True)
    assert answered(needed, AT_ONCE, FIRST_TRIAL) == FIRST_TRIAL


def test_what_was_acknowledged_before_it_ended_says_nothing_either(needed: DelayedAck) -> None:
    needed.restarted()
    for _ in range(FUTILE):
        needed.paused(HELD, acknowledged=True, recent=True)
    assert waiting(FIRST_TRIAL, needed) == ENOUGH


def test_a_restart_forgets(needed: DelayedAck) -> None:
    needed.restarted()
    assert not needed.at_once
    assert waiting(FIRST_TRIAL, needed) == ENOUGH


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans())))
def test_no_acks_at_once_before_enough_long_pauses(
    events: list[tuple[float, bool, bool]],
) -> None:
    learner, long = DelayedAck(), 0
    for pause, recent, whole in events:
        if learner.at_once:
            if whole:
                learner.whole()
            else:
                answered(learner, pause, recent=recent)
            continue
        answered(learner, pause, recent=recent)
        long += LEAST <= pause <= MOST
        assert long >= ENOUGH or not learner.at_once

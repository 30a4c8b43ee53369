"""How many connections an origin serves at a time, out of closes that helped and did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.pool.width import BOUND, FIRST, FREE, KNOWN, LONGER, LONGEST, TIMES, Width


def tight() -> Width:
    """An origin that is known to serve one connection at a time."""
    width = Width()
    width.heard()
    for _ in range(TIMES):
        width.closed()
        width.judge(helped=True)
        width.heard()
    assert width.tight
    return width


def test_at_first_nothing_is_known() -> None:
    width = Width()
    assert (width.patience, width.tight, width.at_once) == (FIRST, False, 1)


def test_each_close_doubles_the_silence_for_the_next() -> None:
    for helped in (False, True):
        width = Width()
        seen = []
        for _ in range(TIMES - 1):
            seen.append(width.patience)
            width.judge(helped=helped)
        assert seen == [FIRST, 2 * FIRST]
    for _ in range(10):
        width.judge(helped=False)
    assert (width.patience, width.tight) == (LONGEST, False)


def test_closes_that_help_again_and_again_prove_that_it_serves_no_more() -> None:
    width = tight()
    assert (width.patience, width.at_once, width.proven) == (KNOWN, 1, 1)


def test_one_that_does_not_help_between_starts_again() -> None:
    width = Width()
    width.judge(helped=True)
    width.judge(helped=True)
    width.judge(helped=False)
    width.judge(helped=True)
    width.judge(helped=True)
    assert not width.tight


def test_a_link_that_answers_beside_the_others_proves_the_contrary() -> None:
    width = tight()
    width.heard()
    assert (width.tight, width.proven, width.patience) == (False, 2, FIRST)


def test_closes_that_no_longer_help_take_it_back() -> None:
    width = tight()
    for _ in range(TIMES):
        assert width.tight
        width.judge(helped=False)
    assert (width.tight, width.patience) == (False, FIRST)


def test_one_that_helps_between_keeps_it() -> None:
    width = tight()
    for _ in range(TIMES):
        width.judge(helped=False)
        width.judge(helped=True)
    assert width.tight


def test_an_origin_with_connections_to_spare_is_given_more_time() -> None:
    width = Width()
    for _ in range(4):
        width.heard()
    width.closed()
    assert width.patience == FREE
    width.heard()
    assert width.patience == FIRST


def test_fewer_than_were_proven_once_can_be_all_there_are() -> None:
    width = Width()
    for _ in range(4):
        width.heard()
    for _ in range(3):
        width.closed()
    for _ in range(TIMES):
        width.closed()
        width.judge(helped=True)
        width.heard()
    assert (width.tight, width.proven, width.patience) == (True, 1, KNOWN)


def test_the_silence_must_be_longer_than_a_response_takes() -> None:
    width = Width()
    width.took(1.0)
    assert width.patience == width.within == pytest.approx(LONGER)
    width.took(0.1)
    assert width.patience == pytest.approx(LONGER / 2)
    width.took(1000.0)
    assert width.patience == BOUND


def test_what_helped_slowly_may_help_slowly() -> None:
    width = Width()
    width.heard()
    width.took(2.0)
    for _ in range(TIMES):
        width.closed()
        width.judge(helped=True)
        width.heard()
    assert width.within == pytest.approx(2.0 * LONGER)


def test_two_workers_may_be_freed_at_once() -> None:
    width = Width()
    width.heard()
    width.heard()
    for _ in range(TIMES):
        width.closed()
        width.judge(helped=True)
        width.heard()
    assert (width.tight, width.at_once) == (True, 2)


def test_another_process_is_another_origin() -> None:
    width = tight()
    width.restarted()
    assert (width.tight, width.patience, width.proven) == (False, FIRST, 1)


@given(st.lists(st.sampled_from(["heard", "closed", "helped", "failed", "slow", "restarted"])))
def test_whatever_happens_the_numbers_stay_within_bounds(story: list[str]) -> None:
    width = Width()
    for event in story:
        match event:
            case "heard":
                width.heard()
            case "closed" if width.open:
                width.closed()
            case "helped" | "failed":
                width.judge(helped=event == "helped")
            case "slow":
                width.took(3.0)
            case "restarted":
                width.restarted()
        assert KNOWN <= width.patience <= BOUND
        assert FIRST <= width.within <= BOUND
        assert width.at_once >= 1
        assert width.proven >= 0

"""Whether an origin sends 100: what is learned from silence, and when it is forgotten."""

import pytest

from hopproxy.pool.expectation import BELIEVED_FOR, Expectation


@pytest.fixture
def silent() -> Expectation:
    """Of an origin that has stayed silent at 100 s."""
    made = Expectation()
    made.stayed_silent(100.0)
    return made


def test_nothing_is_known_of_a_new_origin() -> None:
    assert not Expectation().is_silent(0.0)


def test_silence_is_believed_for_a_while(silent: Expectation) -> None:
    assert silent.is_silent(100.0)
    assert silent.is_silent(99.0 + BELIEVED_FOR)
    assert not silent.is_silent(100.0 + BELIEVED_FOR)


def test_a_100_in_time_ends_it(silent: Expectation) -> None:
    silent.answered(0.9, 1.0)
    assert not silent.is_silent(101.0)


def test_a_100_that_comes_too_late_changes_nothing(silent: Expectation) -> None:
    silent.answered(1.0, 1.0)
    assert silent.is_silent(101.0)


def test_a_new_process_is_asked_again(silent: Expectation) -> None:
    silent.restarted()
    assert not silent.is_silent(101.0)

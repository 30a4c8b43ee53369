"""Checks of an origin by several workers: whose turn it is, and what all of them know."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from hopproxy.pool.checked import LATE, STEP, Checked, State, Turns

INTERVAL, PATIENCE = 5.0, 3.0
FALL, RISE = 3, 2


def checked(turns: Turns, now: float = 0.0) -> Checked:
    return Checked(turns, now, interval=INTERVAL, patience=PATIENCE, fall=FALL, rise=RISE)


class Workers:
    """Workers that check one origin, in steps of ten milliseconds.

    What one tells, the others have heard a step later, in this order; those in `stopped` later.
    """

    def __init__(self, count: int, took: float = 0.2) -> None:
        self.now = 0.0
        self.took = took
        self.passes: Callable[[], bool] = lambda: True
        self.begun: list[tuple[float, int]] = []
        self.stopped: set[int] = set()
        self._last: tuple[object, ...] | None = None
        self._heard: dict[int, list[tuple[object, ...]]] = {}
        self._ends: dict[int, float] = {}
        self.all: dict[int, Checked] = {}
        for place in range(count):
            self.join(place)

    def join(self, place: int) -> None:
        """A worker starts at this place, with the last message."""
        turns = Turns()
        turns.join(place, lambda _, state: self._tell(place, state))
        self.all[place] = checked(turns, self.now)
        self._heard[place] = []
        if self._last is not None:
            self.all[place].heard(State(*self._last))  # type: ignore[arg-type]
        self._ends.pop(place, None)

    def end(self, place: int) -> None:
        """A worker ends."""
        del self.all[place], self._heard[place]

    def _tell(self, place: int, state: tuple[object, ...]) -> None:
        self._last = state
        for other, heard in self._heard.items():
            if other != place:
                heard.append(state)

    def run(self, seconds: float) -> list[float]:
        """Returns the seconds between the checks that begin."""
        until, first = self.now + seconds, len(self.begun)
        while self.now < until:
            for place, one in self.all.items():
                if place not in self.stopped:
                    self._step(place, one)
            self.now += 0.01
        begun = [at for at, _ in self.begun[max(0, first - 1) :]]
        return [after - before for before, after in pairwise(begun)]

    def _step(self, place: int, one: Checked) -> None:
        turns = one._turns
        assert turns.tell is not None
        if one.takes_turn(self.now):
            self.begun.append((self.now, place))
            self._ends[place] = self.now + self.took
            turns.tell(("app", "origin"), tuple(one.state))
        if self._ends.get(place, math.inf) <= self.now:
            del self._ends[place]
            one.ended(self.now, passed=self.passes())
            turns.tell(("app", "origin"), tuple(one.state))
        for state in self._heard[place]:
            one.heard(State(*state))  # type: ignore[arg-type]
        self._heard[place].clear()

    def agree(self) -> bool:
        return len({one.state.down for one in self.all.values()}) == 1


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("took", [0.0, 0.2, PATIENCE])
def test_an_origin_sees_one_check_in_each_interval(count: int, took: float) -> None:
    workers = Workers(count, took)
    assert workers.run(100) == pytest.approx([INTERVAL] * 19, abs=0.02)
    assert {place for _, place in workers.begun} == {0}


def test_all_workers_know_what_one_has_found() -> None:
    workers = Workers(3)
    workers.run(20)
    workers.passes = lambda: False
    workers.run(INTERVAL * FALL + 1)
    assert workers.agree()
    assert workers.all[2].state.down
    workers.join(3)
    workers.run(1)
    assert workers.all[3].state.down, "a worker that starts later is told"
    workers.passes = lambda: True
    workers.run(INTERVAL * RISE + 1)
    assert workers.agree()
    assert not workers.all[2].state.down


@pytest.mark.parametrize("during", [0.1, 1.0], ids=["in a check", "between two"])
@pytest.mark.parametrize("how", ["stopped", "ended"])
def test_the_next_worker_goes_on_in_the_place_of_one_that_does_not(how: str, during: float) -> None:
    workers = Workers(3)
    workers.run(20 + during)
    if how == "stopped":
        workers.stopped.add(0)
    else:
        workers.end(0)
    gaps = workers.run(100)
    assert max(gaps) <= INTERVAL + PATIENCE + LATE + 2 * STEP
    assert sorted(gaps)[-2] <= INTERVAL + 2 * STEP
    assert {place for _, place in workers.begun[5:]} == {1}
    if how == "stopped":
        workers.stopped.clear()
    else:
        workers.join(0)
    gaps = workers.run(100)
    assert min(gaps) >= INTERVAL - 2 * STEP, "no check too many by the one that is back"
    assert workers.begun[-1][1] == 0
    assert workers.agree()


def test_what_a_worker_finds_that_was_stopped_meanwhile_counts_for_nothing() -> None:
    workers = Workers(2)
    workers.passes = lambda: False
    workers.run(0.1)
    workers.stopped.add(0)
    workers.passes = lambda: True
    workers.run(60)
    workers.stopped.clear()
    workers.passes = lambda: False
    workers.run(0.02)
    assert workers.all[0].state.row >= 0


def test_a_worker_that_cannot_check_leaves_it_to_the_next() -> None:
    """All of its links are in use, for example."""
    one = checked(Turns())
    assert one.takes_turn(0.0)
    assert not one.takes_turn(7.0), "one at a time"
    assert not one.ended(7.0, passed=None)
    assert one.due == 7.0 + PATIENCE + LATE
    assert one.state == State(0.0, False, 0, False)


def test_a_worker_alone_checks_however_late_it_is() -> None:
    one = checked(Turns())
    assert one.takes_turn(100.0)
    assert not one.ended(100.1, passed=True)
    assert one.due == 100.0 + INTERVAL


def test_an_old_message_changes_nothing() -> None:
    one = checked(Turns())
    one.takes_turn(10.0)
    one.ended(10.1, passed=True)
    before = one.state
    assert not one.heard(State(9.0, False, -FALL, True))
    assert (one.state, one.due) == (before, 15.0)
    assert one.heard(State(11.0, False, -FALL, True))
    assert one.state.down

"""What checks of an origin have found, and which worker makes the next one.

Workers tell each other when a check begins, and its result.  Each expects the next check an
interval later, and makes it itself if no other worker reports it: the first worker at once, later
ones a little later.  So one worker checks; if it is stopped, has ended or does not know the origin,
the next one does.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

#: Seconds that each worker waits longer than the one before it; at most a tenth of the interval.
STEP = 0.1
#: Seconds that a check may be late, in addition to its timeouts.
LATE = 1.0

#: Tells the other workers what one of them has found about an origin.
Tell = Callable[[tuple[str, str], tuple[object, ...]], object]


class Turns:
    """The place of this worker among all.  `tell` is None if it is alone."""

    def __init__(self) -> None:
        self.place = 0
        self.tell: Tell | None = None

    def join(self, place: int, tell: Tell) -> None:
        """There are other workers; `tell` reaches them."""
        self.place, self.tell = place, tell


class State(NamedTuple):
    """What the other workers are told: when the last check began, whether it runs, its outcome.

    `row` counts passes in a row, or failures if it is negative.  `down` if the origin gets no
    requests.
    """

    began: float
    running: bool
    row: int
    down: bool


class Checked:
    """The checks of one origin.  Times are seconds of a clock that all workers share.

    `patience` is the longest that a check may take.
    """

    __slots__ = ("_fall", "_interval", "_patience", "_rise", "_turns", "due", "state")

    def __init__(
        self, turns: Turns, now: float, *, interval: float, patience: float, fall: int, rise: int
    ) -> None:
        self._turns = turns
        self._interval = interval
        self._patience = patience + LATE
        self._fall = fall
        self._rise = rise
        self.state = State(-math.inf, False, 0, False)
        self.due = now + self._behind

    @property
    def _behind(self) -> float:
        """Seconds that this worker waits longer than the first one."""
        return self._turns.place * min(STEP, self._interval / 10)

    def takes_turn(self, now: float) -> bool:
        """Whether this worker has to check now; then its check has begun."""
        if now < self.due or self.state.running:
            return False
        if self._turns.tell is not None and now > self.due + self._interval / 2:
            self.due = now + STEP + self._behind  # it was stopped: it will hear what was found
            return False
        self.state = self.state._replace(began=now, running=True)
        self.due = now + self._interval + self._behind
        return True

    def ended(self, now: float, *, passed: bool | None) -> bool:
        """The check of this worker has ended; None if it says nothing about the origin.

        Returns whether `down` has changed.
        """
        state = self.state
        self.state = state._replace(running=False)
        if passed is None or now > state.began + self._patience:
            self.due = max(self.due, now + self._patience + self._behind)  # others may succeed
            return False
        row = max(state.row, 0) + 1 if passed else min(state.row, 0) - 1
        down = state.down
        if down and row >= self._rise:
            down = False
        elif not down and -row >= self._fall:
            down = True
        self.state = State(state.began, False, row, down)
        return down is not state.down

    def heard(self, told: State) -> bool:
        """Another worker has sent this state.  Returns as `ended`."""
        before = self.state
        if told.began < before.began:
            return False
        wait = max(self._interval, self._patience) if told.running else self._interval
        self.due = told.began + wait + self._behind
        self.state = told._replace(running=before.running)
        return told.down is not before.down

"""Whether an origin can be reached, as its dials tell, and when to try it again.

An origin whose dial failed is down until a dial succeeds, however long that takes: what picks
origins, the readiness probe and the metrics all ask here.  While others of its upstream answer it
is tried again by itself after 2 to 30 seconds, longer each time; while none answers, each second.
"""

import math
from collections.abc import Callable

#: Seconds a dial may be under way before requests go elsewhere.
PATIENCE = 0.5
#: Seconds until an origin is tried again: the first time, at most, and where no other answers.
FIRST, LONGEST, ALONE = 2.0, 30.0, 1.0
#: The part of them that is added by chance, so that many proxies do not try together.
SPREAD = 0.25


class Reach:
    """What the dials to one origin have told.  Times are seconds of one clock.

    `reached` while the last dial that ended succeeded, `failed_at` when it failed; both are unset
    before the first.  `number` is that of the last dial that began.  From `away_from` on requests
    go elsewhere if they can: since a dial failed, or has been under way for too long.  `sought`
    while somebody wants to know: before a first failure nobody need.  `chance` gives a number from
    0 to 1.
    """

    __slots__ = (
        "_again",
        "_began",
        "_chance",
        "_dials",
        "_pause",
        "away_from",
        "failed_at",
        "number",
        "reached",
        "sought",
    )

    def __init__(self, chance: Callable[[], float]) -> None:
        self.reached = False
        self.failed_at: float | None = None
        self.away_from = math.inf
        self.sought = False
        self._chance = chance
        self._dials: dict[int, float] = {}  # under way, and begun since one succeeded
        self.number = 0
        self._pause = FIRST
        self._began = self._again = -math.inf

    def begin(self, now: float) -> int:
        """A dial begins; its number, by which its end is told."""
        self.number += 1
        self._dials[self.number] = self._began = now
        self._refresh()
        return self.number

    def succeeded(self) -> None:
        """A dial has succeeded: whatever those begun before it come to is no longer news."""
        self.reached = True
        self.failed_at = None
        self._pause = FIRST
        self._dials.clear()
        self._refresh()

    def failed(self, number: int, now: float) -> None:
        """A dial has failed."""
        if self._dials.pop(number, None) is None:
            return
        self.reached = False
        self.sought = True
        if self.failed_at is None or now >= self._again:
            self._again = now + self._pause * (1 + SPREAD * self._chance())
            self._pause = min(self._pause * 2, LONGEST / (1 + SPREAD))
        self.failed_at = now
        self._refresh()

    def untold(self, number: int, now: float) -> None:
        """A dial has ended, or could not begin (0), and says nothing of the origin."""
        self._dials.pop(number, None)
        self._began = now
        if self._again <= now:
            self._again = now + ALONE
        self._refresh()

    def trial_at(self, alone: bool) -> float:
        """When to try again, for its own sake; inf while there is no need.

        `alone` where no other origin of the upstream can be reached either.
        """
        if self.reached or self._dials or not self.sought:
            return math.inf
        return self._began + ALONE if alone else self._again

    def _refresh(self) -> None:
        if self.failed_at is not None:
            self.away_from = -math.inf
        elif self._dials:
            self.away_from = next(iter(self._dials.values())) + PATIENCE
        else:
            self.away_from = math.inf

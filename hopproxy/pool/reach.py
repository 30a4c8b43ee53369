"""Whether an origin can be reached, judged by its dials, and when to try it again.

An origin whose dial failed is down until a dial succeeds.  The balancer, the readiness probe and
the metrics all use this.  A trial dial follows after 2 to 30 seconds, longer each time; or every
second while no other origin of the upstream can be reached.
"""

import math
from collections.abc import Callable

#: Seconds without an answer to a dial before requests go elsewhere.
PATIENCE = 0.5
#: Seconds until a trial: the first, the longest, and while no other origin can be reached.
FIRST, LONGEST, ALONE = 2.0, 30.0, 1.0
#: Random share added to them, so that many proxies do not try at the same time.
SPREAD = 0.25


class Reach:
    """What is known from the dials to one origin.  Times are seconds of one clock.

    `reached` if the last dial that ended succeeded; otherwise `failed_at` is when it failed.  Both
    are unset before the first dial has ended.  `number` is the number of the last dial that began.
    From `away_from` on requests go elsewhere if they can: a dial has failed, or has not been
    answered for too long.  `passed_until` is when the next request may go to an origin that accepts
    connections but left a request without a response; -inf for all others.  `sought` if trials are
    wanted; a failure turns them on.  `chance` returns a random number from 0 to 1.
    """

    __slots__ = (
        "_again",
        "_began",
        "_chance",
        "_dials",
        "_pause",
        "_silence",
        "_waited",
        "away_from",
        "failed_at",
        "number",
        "passed_until",
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
        self._pause = self._silence = FIRST
        self._began = self._again = -math.inf
        self.passed_until = -math.inf
        self._waited = 0.0

    def begin(self, now: float) -> int:
        """A dial begins.  Returns its number, for `failed` and `untold`."""
        self.number += 1
        self._dials[self.number] = self._began = now
        self._refresh()
        return self.number

    def succeeded(self) -> None:
        """A dial has succeeded.  Dials that began before it no longer count."""
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
        self.answered()  # another process will take its place
        self._refresh()

    def silent(self, now: float, waited: float) -> None:
        """A request got no response within `waited`, although a connection was made."""
        self._waited = waited
        if now >= self.passed_until:
            self.passed_until = now + self._longer()

    def asked(self, now: float) -> None:
        """A request goes to an origin that was silent; others wait until its outcome is known."""
        self.passed_until = now + self._waited + self._longer()

    def answered(self) -> None:
        """A response has come."""
        self.passed_until = -math.inf
        self._silence = FIRST

    def _longer(self) -> float:
        pause = self._silence * (1 + SPREAD * self._chance())
        self._silence = min(self._silence * 2, LONGEST / (1 + SPREAD))
        return pause

    def untold(self, number: int, now: float) -> None:
        """A dial has ended, or could not begin (0), without saying anything about the origin."""
        self._dials.pop(number, None)
        self._began = now
        if self._again <= now:
            self._again = now + ALONE
        self._refresh()

    def trial_at(self, alone: bool) -> float:
        """When to make a trial dial; inf if none is needed.

        `alone` if no other origin of the upstream can be reached either.
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

"""When a worker that has ended is started again."""

import math

#: Seconds until the next try if a worker ends soon after it was started, and at most.
FIRST, MOST = 0.1, 10.0
#: A worker that has served for so many seconds is started again at once.
STEADY = 10.0
#: After this many workers in a row that ended before they served, no other is started.
HOPELESS = 6


class BackOff:
    """The pauses before the workers of one place are started again."""

    def __init__(self) -> None:
        self.failures = 0
        self._stillborn = 0

    def ended(self, served_for: float | None) -> float:
        """A worker has ended, `served_for` seconds after it began to serve (None: it never did).

        Returns the seconds until the next one is started; infinity for never.
        """
        self._stillborn = self._stillborn + 1 if served_for is None else 0
        if self._stillborn >= HOPELESS:
            return math.inf
        if served_for is not None and served_for >= STEADY:
            self.failures = 0
            return 0.0
        self.failures += 1
        return float(min(MOST, FIRST * 2 ** min(self.failures - 1, 10)))

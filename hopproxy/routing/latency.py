"""How long requests take at each of several origins, and how much requests to slow ones count.

The mean time of a request is the mean number of requests under way, divided by the rate at which
they arrive (Little's law).  So it is enough to look at the origins now and then, and a request
costs one count.

A request to a slow origin counts as many times as it takes longer than one to the fastest.  So the
slow origin is used once the others have so many requests under way that they are no faster.  Now
and then it gets one request as if it were not slow, to see whether it still is.  Failed requests do
not count: an origin that fails at once is not fast.
"""

import math
from collections.abc import Sequence
from typing import Protocol

#: Seconds after which an observation counts half.
HALF = 1.5
#: An origin is slow if it takes this many times as long as the fastest one, and this many seconds
#: longer.
TIMES, LONGER = 2.0, 0.05
#: Most times that a request to a slow origin counts, and the shortest response time, in seconds,
#: that others are compared with.
MOST, FAST = 100.0, 0.001
#: Seconds between two trials of a slow origin: this multiple of its response time, and at least
#: this long.
REST, SHORTEST = 10.0, 1.0
#: Requests that must still count for a result; so observations are forgotten in 15 seconds.
LEAST = 0.001


class Latency:
    """What is known about one origin.

    `times` is how often a request to it counts, `on_trial` if the next one counts once.  `picked`
    and `failed` count requests since the last look.  `seconds` is the mean time of a request; None
    if it is unknown.
    """

    __slots__ = (
        "_load", "_requests", "failed", "on_trial", "picked", "seconds", "times", "tried_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.picked = self.failed = 0
        self.times = 1.0
        self.on_trial = False
        self.seconds: float | None = None
        self.tried_at = -math.inf
        self._load = self._requests = 0.0

    def look(self, under_way: int, for_seconds: float, fade: float) -> None:
        """Note the requests under way; earlier observations are multiplied by `fade`."""
        self._load = self._load * fade + under_way * for_seconds
        self._requests = self._requests * fade + self.picked - self.failed
        self.picked = self.failed = 0
        self.seconds = self._load / self._requests if self._requests >= LEAST else None


class Timed(Protocol):
    """One of the origins."""

    latency: Latency

    @property
    def under_way(self) -> int: ...


class Latencies:
    """What is known about the `members` of one upstream."""

    def __init__(self, members: Sequence[Timed]) -> None:
        self._members = members
        self._at = -math.inf

    def look(self, now: float, tick: float) -> None:
        """Look at all origins; called every `tick` seconds while there are requests."""
        passed, self._at = now - self._at, now
        for member in self._members:
            member.latency.look(member.under_way, min(passed, tick), 0.5 ** (passed / HALF))
        known = [one.latency.seconds for one in self._members if one.latency.seconds is not None]
        fastest = min(known, default=math.inf)
        for member in self._members:
            self._compare(member.latency, fastest, now)

    @staticmethod
    def _compare(one: Latency, fastest: float, now: float) -> None:
        """Set `times` and `on_trial` of one origin until the next look."""
        took = one.seconds or 0.0
        if took < max(TIMES * fastest, fastest + LONGER):
            one.times, one.on_trial, one.tried_at = 1.0, False, now
            return
        one.times = min(MOST, took / max(fastest, FAST))
        if now >= one.tried_at + max(REST * took, SHORTEST):
            one.on_trial, one.tried_at = True, now

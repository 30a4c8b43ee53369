"""How long requests take at each of several origins, and how far slow ones stay behind.

The mean time of a request is the mean number of requests under way, divided by the rate at which
they come (Little's law).  So the origins are only looked at now and then, and a request costs
nothing but a count.

An origin that is slow gets a request only while each of the others has so many more under way.
Now and then it is treated like the others for a moment, which shows whether it still is slow.
Requests that fail say nothing: an origin that fails at once is not fast.
"""

import math
from collections.abc import Sequence
from typing import Protocol

#: Seconds in which what was seen counts half.
HALF = 1.5
#: A slow origin takes so many times as long as the fastest one, and so many seconds longer.
TIMES, LONGER = 2.0, 0.05
#: Most requests by which a slow origin stays behind.
MOST = 8
#: Seconds from one trial of a slow origin to the next: so many of its requests, and at least so
#: many seconds.
REST, SHORTEST = 10.0, 1.0
#: Requests that must be left of what was seen to say anything: so it is forgotten in 15 seconds.
LEAST = 0.001


class Latency:
    """What is known about one origin.

    `behind` is by how many requests it stays behind the others, `picked` and `failed` count
    requests since the last look.  `seconds` is the mean time of a request; None if it is unknown.
    """

    __slots__ = ("_load", "_requests", "behind", "failed", "picked", "seconds", "tried_at")

    def __init__(self) -> None:
        self.behind = self.picked = self.failed = 0
        self.seconds: float | None = None
        self.tried_at = -math.inf
        self._load = self._requests = 0.0

    def look(self, under_way: int, for_seconds: float, fade: float) -> None:
        """So many requests are under way; what was seen before counts less by `fade`."""
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
        """Look at all of them; while there are requests this is called every `tick` seconds."""
        passed, self._at = now - self._at, now
        for member in self._members:
            member.latency.look(member.under_way, min(passed, tick), 0.5 ** (passed / HALF))
        known = [one.latency.seconds for one in self._members if one.latency.seconds is not None]
        fastest = min(known, default=math.inf)
        for member in self._members:
            self._compare(member.latency, fastest, now)

    @staticmethod
    def _compare(one: Latency, fastest: float, now: float) -> None:
        """How far one stays behind, until the next look."""
        took = one.seconds or 0.0
        slow = took >= max(TIMES * fastest, fastest + LONGER)
        if slow and now < one.tried_at + max(REST * took, SHORTEST):
            one.behind = min(MOST, int(took / max(fastest, LONGER)))
        else:
            one.behind = 0
            one.tried_at = now

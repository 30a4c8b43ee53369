"""The counters of origins that were removed, so that no counter falls."""

from collections.abc import Iterable
from typing import NamedTuple

from hopproxy.pool.origin import Origin
from hopproxy.reasons import Unused

#: Most removed origins whose counts are kept separately; earlier ones are only in the sums.
MOST = 1000


class Counts(NamedTuple):
    """The counters of one origin."""

    opened: int
    reused: int
    times_out: int
    unused: dict[Unused, int]


class Former:
    """The removed origins of one upstream: the sums of their links, and the counts of each."""

    def __init__(self) -> None:
        self.opened = self.reused = 0
        self._counts: dict[str, Counts] = {}

    def keep(self, origin: Origin) -> None:
        """This origin was removed."""
        self.opened += origin.opened
        self.reused += origin.reused
        reach = origin.reach
        counts = Counts(origin.opened, origin.reused, reach.times_out, dict(origin.unused))
        self._counts[origin.label] = counts
        if len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]

    def give_back(self, origin: Origin) -> None:
        """This origin was added, perhaps again."""
        counts = self._counts.pop(origin.label, None)
        if counts is None:
            return
        self.opened -= counts.opened
        self.reused -= counts.reused
        origin.opened += counts.opened
        origin.reused += counts.reused
        origin.reach.times_out += counts.times_out
        for why, count in counts.unused.items():
            origin.unused[why] = origin.unused.get(why, 0) + count

    def succeed(self, before: "Former", left: Iterable[Origin], come: Iterable[Origin]) -> None:
        """Go on with the counts of the upstream before this one."""
        self.opened, self.reused, self._counts = before.opened, before.reused, before._counts
        for origin in left:
            self.keep(origin)
        for origin in come:
            self.give_back(origin)

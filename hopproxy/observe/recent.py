"""The results of the last minute's requests: statuses and failures, by upstream.

The tallies only grow.  A copy of them is made each second and kept for a minute; the difference
between the oldest copy and now is the last minute.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import trio

#: Seconds between two copies, and how many are kept.
APART, KEPT = 1.0, 60


class Counted(Protocol):
    """Counters of the exchanges of one upstream since the worker started."""

    @property
    def statuses(self) -> Mapping[int, int]: ...
    @property
    def causes(self) -> Mapping[str, int]: ...


class Look(NamedTuple):
    """A copy of the counters of every upstream, with the time of trio's clock."""

    at: float
    statuses: dict[str, dict[int, int]]
    causes: dict[str, dict[str, int]]


class Recent:
    """The last minute of these tallies, by upstream name."""

    def __init__(self, tallies: Mapping[str, Counted]) -> None:
        self._tallies = tallies
        self._looks: deque[Look] = deque(maxlen=KEPT)
        self.look()

    async def run(self) -> None:
        """Make a copy each second, until cancelled."""
        while True:
            await trio.sleep(APART)
            self.look()

    def look(self) -> None:
        """Make a copy now."""
        statuses = {name: dict(tally.statuses) for name, tally in self._tallies.items()}
        causes = {name: dict(tally.causes) for name, tally in self._tallies.items()}
        self._looks.append(Look(trio.current_time(), statuses, causes))

    def row(self) -> dict[str, Any]:
        """The `seconds` covered, and the results for each upstream."""
        then = self._looks[0]
        upstreams = [
            {
                "upstream": name,
                "statuses": _more(tally.statuses, then.statuses.get(name, {})),
                "causes": _more(tally.causes, then.causes.get(name, {})),
            }
            for name, tally in self._tallies.items()
        ]
        return {"seconds": round(trio.current_time() - then.at, 3), "upstreams": upstreams}


def _more(now: Mapping[Any, int], then: Mapping[Any, int]) -> dict[str, int]:
    """The increase of each count; none if it started again meanwhile."""
    added = {str(key): count - then.get(key, 0) for key, count in now.items()}
    return {key: count for key, count in added.items() if count > 0}

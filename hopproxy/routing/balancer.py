"""Which origin is next, of those that may get requests.

Of several origins the one with the fewest requests is taken, or each in turn, or the one that the
hash of a key leads to (`routing.ring`).  An origin of a higher priority number is a backup: it is
used while none of a lower number may get requests.

*Slow origins.*  A request to an origin that takes much longer than the others counts as several
(`routing.latency`).

*Turns.*  Each pick increases an origin's turn by one over its weight, and the lowest turn is next.
An origin that had no requests for a while catches up by a few turns only.
"""

import math
from collections.abc import Sequence, Sized
from typing import Generic, Protocol, TypeVar

from hopproxy.pool.reach import Reach
from hopproxy.routing.latency import Latency

#: Most turns by which an origin may be behind the others, and catch up.
BEHIND = 4.0
#: Most turns that an origin can save up during its slow start.
SAVED = 1.0


class Member(Protocol):
    """What the balancer needs of an origin.

    `under_way` is its number of requests, `waiters` those that wait.  `weight` is its share of the
    requests, `priority` its rank, `latency` how long it takes.  `turn` and `credit` belong to the
    balancer; `share` is its weight divided by the lowest of all.
    """

    reach: Reach
    latency: Latency
    weight: int
    priority: int
    share: float
    turn: float
    credit: float

    @property
    def under_way(self) -> int: ...
    @property
    def waiters(self) -> Sized: ...


M = TypeVar("M", bound=Member)


class Balancer(Generic[M]):
    """The origins of one upstream.

    `only` is the single member, which is taken without a choice; None if there are several.
    """

    def __init__(self, members: Sequence[M] = ()) -> None:
        self.members: list[M] = []
        self.only: M | None = None
        self._levels: list[list[M]] = []
        self._turn = 0.0
        #: Round robin: each in turn, however many requests it has.
        self.ignores_load = False
        for member in members:
            self.add(member)

    def add(self, member: M) -> None:
        """Add a member; its turn comes after that of the others."""
        member.turn = max((one.turn for one in self.members), default=0.0)
        member.credit = 0.0
        self.members.append(member)
        self.settle()

    def remove(self, member: M) -> None:
        """Remove a member.  Raises ValueError for the last one."""
        if self.only is not None:
            raise ValueError("an upstream needs one origin at least")
        self.members.remove(member)
        self.settle()

    def settle(self) -> None:
        """Update after members, weights or priorities have changed."""
        self.only = self.members[0] if len(self.members) == 1 else None
        lowest = min(member.weight for member in self.members)
        levels: dict[int, list[M]] = {}
        for member in self.members:
            member.share = member.weight / lowest
            levels.setdefault(member.priority, []).append(member)
        self._levels = [levels[number] for number in sorted(levels)]
        self.changed()

    def changed(self) -> None:
        """The set of members has changed: for policies that keep a table of it."""

    # -- picking -----------------------------------------------------------------------------

    def pick(self, now: float, key: int = 0, due: float = math.inf) -> M:
        """The next origin.  `key` is for a hash.

        An origin that is out gets one request if its time had come at `due` (inf: now); then the
        caller must call `reach.asked`.
        """
        members: Sequence[M] = self._levels[0]
        for member in members:
            if not member.reach.clear:
                members = self._candidates(now, min(now, due))
                break
        picked = self.choose(members, key)
        picked.credit = 0.0
        return picked

    def others(self, tried: Sequence[M], now: float) -> list[M]:
        """The members that are not in `tried` and take requests, of one priority."""
        for level in self._levels:
            taking = [one for one in level if one not in tried and one.reach.takes(now)]
            if taking:
                return taking
        return []

    def _candidates(self, now: float, due: float) -> Sequence[M]:
        """The members to choose from: all of one level that take requests, or one that is tried.

        If more than half of the last level is out, all that can be reached are used, since the
        others could not bear the load.
        """
        fallen: list[M] = []
        for level in self._levels:
            for member in level:
                if member.reach.is_due(due):
                    return [member]
            up = [member for member in level if member.reach.takes(now)]
            fallen += [one for one in level if one not in up and one.reach.is_reachable(now)]
            if up:
                gone = [one for one in fallen if one.priority == level[0].priority]
                if level is self._levels[-1] and 2 * len(gone) > len(level):
                    return up + gone
                return self._started(up, now)
        return fallen or [longest_away(self.members, now)]

    def _started(self, up: list[M], now: float) -> list[M]:
        """Leave out those whose slow start gives them no request now."""
        every = sum(member.share for member in up)
        taken = []
        for member in up:
            part = member.reach.share(now)
            if part < 1.0:
                member.credit = min(member.credit + part * member.share / every, SAVED)
                if member.credit < SAVED:
                    continue
            taken.append(member)
        return taken or up

    def choose(self, members: Sequence[M], key: int) -> M:
        """The member with the fewest requests for its weight; among equals the next in turn."""
        at, best, lowest, earliest = self._turn, members[0], math.inf, math.inf
        counts = not self.ignores_load
        for member in members:
            load = 0.0
            if counts:
                load = (member.under_way + len(member.waiters)) // member.share
                latency = member.latency
                if latency.times != 1.0 and not latency.on_trial:
                    load = (load + 1.0) * latency.times - 1.0
                if load > lowest:
                    continue
            turn = member.turn
            if turn < at:
                turn = at
            if load < lowest or turn < earliest:
                best, lowest, earliest = member, load, turn
        best.latency.picked += 1
        best.latency.on_trial = False
        best.turn = earliest + 1.0 / best.share
        if best.turn - BEHIND > at:
            self._turn = best.turn - BEHIND
        return best


class Search(Generic[M]):
    """The origins that one request tries until one can be reached.

    Each is tried once.  An origin that was left because it was slow to accept is tried again after
    all others.  `avoided` is where an earlier attempt failed: it comes last, or never.
    """

    def __init__(
        self,
        among: Balancer[M],
        first: M,
        *,
        avoided: M | None = None,
        returns: bool = True,
    ) -> None:
        self.origin = first
        self.begun = False
        self._among = among
        self._tried: list[M] = [] if avoided is None else [avoided]
        self._slow: list[M] = [avoided] if avoided is not None and returns else []

    def may_leave(self, now: float) -> bool:
        """Whether there is another origin to try if this one is slow to accept."""
        return any(one is not self.origin for one in self._among.others(self._tried, now))

    def goes_on(self, now: float, *, slow: bool) -> bool:
        """Go to the next `origin`; False if all were tried.  `slow`: this one was slow."""
        self.begun = True
        if slow:
            self._slow.append(self.origin)
        if self.origin not in self._tried:
            self._tried.append(self.origin)
        left = [member for member in self._among.members if member not in self._tried]
        if left:
            others = self._among.others(self._tried, now)
            self.origin = self._among.choose(others, 0) if others else longest_away(left, now)
        elif self._slow:
            self.origin = self._slow.pop(0)
        else:
            return False
        return True


def longest_away(members: Sequence[M], now: float) -> M:
    """A member that can be reached, else the one that failed first, since it may be back."""

    def order(member: M) -> tuple[bool, bool, float, float]:
        reach = member.reach
        failed_at = now if reach.failed_at is None else reach.failed_at
        return reach.checked_down, now >= reach.away_from, reach.passed_until, failed_at

    return min(members, key=order)

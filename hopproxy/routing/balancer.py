"""Which origin is next: round robin over those that are up."""

import math
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from hopproxy.pool.reach import Reach


class Member(Protocol):
    """An origin; `reach` says whether it is up."""

    reach: Reach


NEVER = -math.inf

M = TypeVar("M", bound=Member)


class RoundRobin(Generic[M]):
    """The origins of one upstream, taken in turn."""

    def __init__(self, members: Sequence[M]) -> None:
        self.members = list(members)
        self._next = 0
        self._settle()

    def _settle(self) -> None:
        #: The only member, which is picked without looking at the clock.
        self.only = self.members[0] if len(self.members) == 1 else None

    def add(self, member: M) -> None:
        """Add a member; its turn comes last."""
        self.members.append(member)
        self._settle()

    def remove(self, member: M) -> None:
        """Remove a member; the order of the others stays.  Raises ValueError for the last one."""
        if self.only is not None:
            raise ValueError("an upstream needs one origin at least")
        at = self.members.index(member)
        self._next %= len(self.members)
        self._next -= at < self._next
        del self.members[at]
        self._settle()

    def look(self, now: float) -> M:
        """The origin that `pick` would return, without taking its turn."""
        turn = self._next
        member = self._following(now)
        self._next = turn
        return member

    def pick(self, now: float) -> M:
        """The next origin that is up; if none is, the one that failed first.

        An origin that left a request without a response gets one request at a time.
        """
        member = self._following(now)
        if member.reach.passed_until > NEVER:
            member.reach.asked(now)
        return member

    def _following(self, now: float) -> M:
        members = self.members
        for _ in members:
            member = members[self._next % len(members)]
            self._next = (self._next + 1) % len(members)
            if member.reach.passed_until <= now < member.reach.away_from:
                return member
        return _longest_away(members, now)


class Search(Generic[M]):
    """The origins that one request tries until one can be reached.

    Each is tried once.  One that was left because it was slow is tried again after all others.
    """

    def __init__(self, among: RoundRobin[M], first: M) -> None:
        self.origin = first
        self.begun = False
        self._among = among
        self._tried: list[M] = []
        self._slow: list[M] = []

    def may_leave(self, now: float) -> bool:
        """Whether there is another origin to try if this one is slow to accept."""
        return any(
            member.reach.passed_until <= now < member.reach.away_from
            for member in self._among.members
            if member is not self.origin and member not in self._tried
        )

    def goes_on(self, now: float, *, slow: bool) -> bool:
        """Go to the next `origin`; False if all were tried.  `slow`: this one was slow."""
        self.begun = True
        if slow:
            self._slow.append(self.origin)
        if self.origin not in self._tried:
            self._tried.append(self.origin)
        left = [member for member in self._among.members if member not in self._tried]
        if left:
            picked = self._among.pick(now)
            self.origin = picked if picked in left else _longest_away(left, now)
        elif self._slow:
            self.origin = self._slow.pop(0)
        else:
            return False
        return True


def _longest_away(members: list[M], now: float) -> M:
    """One that is up, else the one that failed first: it is most likely to be back."""

    def order(member: M) -> tuple[bool, float, float]:
        reach = member.reach
        failed_at = now if reach.failed_at is None else reach.failed_at
        return now >= reach.away_from, reach.passed_until, failed_at

    return min(members, key=order)

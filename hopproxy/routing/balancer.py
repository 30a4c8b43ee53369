"""Which origin is next: round robin over those that answer."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

#: Seconds for which an origin that could not be reached is passed over.
PASSED_OVER = 2.0


class Member(Protocol):
    """`failed_at` is when it could last not be reached, None while it answers."""

    failed_at: float | None


M = TypeVar("M", bound=Member)


class RoundRobin(Generic[M]):
    """The origins of one upstream, taken in turn."""

    def __init__(self, members: Sequence[M]) -> None:
        self.members = list(members)
        self._next = 0
        #: The only member, for which nobody need look at the clock.
        self.only = self.members[0] if len(self.members) == 1 else None

    def look(self, now: float) -> M:
        """Who would be picked, without taking the turn."""
        turn = self._next
        member = self.pick(now)
        self._next = turn
        return member

    def pick(self, now: float) -> M:
        """The next origin; one that failed lately only when all have."""
        members = self.members
        for _ in members:
            member = members[self._next % len(members)]
            self._next = (self._next + 1) % len(members)
            if member.failed_at is None or now - member.failed_at >= PASSED_OVER:
                return member
        return min(members, key=lambda member: member.failed_at or 0.0)

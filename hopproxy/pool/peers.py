"""The origins of one upstream, for decisions about one that depend on the others."""

from collections.abc import Callable, Sequence
from typing import Protocol

from hopproxy.pool.reach import Reach
from hopproxy.routing.latency import Latencies, Timed
from hopproxy.rules.retry import Budget


class Peer(Timed, Protocol):
    """One of the origins."""

    @property
    def reach(self) -> Reach: ...


class Peers:
    """The `members` of one upstream, and the budget of requests that get another chance.

    `requests` counts the requests of the upstream, those under way included.  `slowest` is the
    longest wait for a response that was seen lately, in seconds; `latencies` are the means.
    """

    __slots__ = ("budget", "latencies", "members", "requests", "slowest")

    def __init__(self, members: Sequence[Peer], requests: Callable[[], int]) -> None:
        self.members = members
        self.requests = requests
        self.budget = Budget()
        self.slowest = 0.0
        self.latencies = Latencies(members)

    def has_another(self, origin: Peer, now: float) -> bool:
        """Whether another origin takes requests."""
        return any(one.reach.takes(now) for one in self.members if one is not origin)

    def chances(self, origin: Peer, now: float) -> int:
        """How many requests on this origin may get another chance on another one now."""
        return self.budget.left(self.requests()) if self.has_another(origin, now) else 0

    def take(self, origin: Peer, now: float) -> bool:
        """Count a request that goes elsewhere; False if there is no other origin, or no budget."""
        return self.has_another(origin, now) and self.budget.take(self.requests())

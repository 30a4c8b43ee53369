"""The pool's bookkeeping: which links are idle or in use, and which requests wait.

Every link of an origin is idle, in use or being dialled, and counts against the limit of its origin
and the total.  Each event updates counters and queues; nothing is recounted.  A released link goes
directly to the request that has waited longest.

A dial is started for a waiter but not tied to it: the first link, whether dialled or released,
serves the first in the queue ("late binding").
"""

from collections import deque
from typing import Generic, Protocol, TypeVar


class QueueFull(Exception):
    """The origin's queue is full."""


class Pooled(Protocol):
    """What the ledger needs of a link: an attribute for its stamp."""

    idle_stamp: int


L = TypeVar("L", bound=Pooled)
L_in = TypeVar("L_in", bound=Pooled, contravariant=True)


class Waiter(Protocol[L_in]):
    """Waits for a link."""

    def serve(self, link: L_in) -> None:
        """End the wait with a link, which is in use from now on."""

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""


class Share(Generic[L]):
    """The state of one origin: its limits, its idle links (coldest first), its queue.

    `bound_idle` are idle links that only one client may use.  They count and are evicted like
    others, but serve nobody else.

    Some links carry many streams at a time (`pool.lending`): `each` is how many requests one more
    link will probably serve, `lent` has the number of streams of each such link in use, `roomy` has
    the links that can carry another, and `streams` is the number of all streams.
    """

    __slots__ = (
        "bound_idle", "dialling", "each", "idle", "in_use", "lent", "max_connections", "max_idle",
        "queue_size", "roomy", "streams", "trials", "waiters",
    )  # fmt: skip

    def __init__(self, max_connections: int, max_idle: int, queue_size: int) -> None:
        self.max_connections = max_connections
        self.max_idle = max_idle
        self.queue_size = queue_size
        self.idle: dict[L, None] = {}
        self.bound_idle: dict[L, None] = {}
        self.in_use = 0
        self.dialling = 0
        self.trials = 0
        self.each = 1
        self.lent: dict[L, int] = {}
        self.roomy: dict[L, None] = {}
        self.streams = 0
        self.waiters: deque[Waiter[L]] = deque()

    @property
    def size(self) -> int:
        """The number of links that count against the origin's limit."""
        at_rest = len(self.idle) + len(self.bound_idle)
        return at_rest + self.in_use + self.dialling + self.trials

    @property
    def unserved(self) -> int:
        """How many waiters have no dial under way for them; negative if there are more dials."""
        return len(self.waiters) - self.dialling * self.each

    @property
    def coldest(self) -> L | None:
        """The link that has been idle longest, bound or not."""
        shared, own = next(iter(self.idle), None), next(iter(self.bound_idle), None)
        if shared is None or own is None:
            return own if shared is None else shared
        return shared if shared.idle_stamp < own.idle_stamp else own

    def __repr__(self) -> str:
        return (
            f"<Share {len(self.idle)} idle, {self.in_use} in use, {self.dialling} dialling, "
            f"{len(self.waiters)} waiting>"
        )


class Ledger(Generic[L]):
    """The shares of all origins, under one total limit."""

    def __init__(self, max_total: int) -> None:
        self.max_total = max_total
        self.total = 0
        self.shares: list[Share[L]] = []
        self._stamp = 0
        #: Shares whose waiters need room in the total, longest first.
        self.waits_for_room: dict[Share[L], None] = {}

    def add(self, share: Share[L]) -> None:
        """A new origin."""
        self.shares.append(share)

    # -- checking out and giving back --------------------------------------------------------

    def take_idle(self, share: Share[L]) -> L | None:
        """Check out the warmest idle link; None if there is none."""
        if not share.idle:
            return None
        link, _ = share.idle.popitem()
        share.in_use += 1
        return link

    def give_back(self, share: Share[L], link: L) -> L | None:
        """A link in use becomes free: it goes to the longest waiter, or becomes idle.

        Returns a link that must be closed for it, and no longer counts: the coldest one if there
        are more than `max_idle`, or if another origin waits for room.
        """
        if share.waiters:
            waiter = share.waiters.popleft()
            if not share.waiters:
                self.waits_for_room.pop(share, None)
            waiter.serve(link)
            return None
        share.in_use -= 1
        self._stamp += 1
        link.idle_stamp = self._stamp
        share.idle[link] = None
        if len(share.idle) + len(share.bound_idle) > share.max_idle:
            if not share.max_idle:  # do not evict a bound link for it
                self.drop_idle(share, link)
                return link
            return self._forget_coldest(share)
        return self._make_room() if self.waits_for_room else None

    def keep_bound(self, share: Share[L], link: L) -> L | None:
        """A bound link becomes idle, and is kept for its client.

        Returns a link that must be closed for it, as `give_back` does.  One bound link is kept
        even if `max_idle` is 0, since it would be useless otherwise.
        """
        share.in_use -= 1
        self._stamp += 1
        link.idle_stamp = self._stamp
        share.bound_idle[link] = None
        count = len(share.idle) + len(share.bound_idle)
        if 1 < count > share.max_idle:
            return self._forget_coldest(share)
        return self._make_room()

    def take_bound(self, share: Share[L], link: L) -> bool:
        """Check out an idle bound link for its client; False if it was not idle."""
        if link not in share.bound_idle:
            return False
        del share.bound_idle[link]
        share.in_use += 1
        return True

    def drop_in_use(self, share: Share[L]) -> None:
        """A link in use has ended."""
        share.in_use -= 1
        self.total -= 1

    def drop_idle(self, share: Share[L], link: L) -> bool:
        """An idle link has ended; False if it was not idle."""
        if link in share.idle:
            del share.idle[link]
        elif link in share.bound_idle:
            del share.bound_idle[link]
        else:
            return False
        self.total -= 1
        return True

    # -- waiting and dialling ----------------------------------------------------------------

    def enqueue(self, share: Share[L], waiter: Waiter[L]) -> None:
        """Queue for a link of this origin.  Raises QueueFull."""
        # Waiters for whom a dial has been or can be started do not count: they wait for the
        # network, not for room.
        if share.unserved >= share.queue_size and not self._has_room(share):
            raise QueueFull(share.queue_size)
        share.waiters.append(waiter)

    def withdraw(self, share: Share[L], waiter: Waiter[L]) -> bool:
        """Leave the queue; False if the waiter was served or failed already."""
        try:
            share.waiters.remove(waiter)
        except ValueError:
            return False
        if not share.waiters:
            self.waits_for_room.pop(share, None)
        return True

    def start_dial(self, share: Share[L]) -> tuple[bool, L | None]:
        """Whether to start a dial for this origin, and an idle link to close first.

        A dial is due while there are more waiters than dials, and there is room: below the origin's
        limit or in place of a bound link, and below the total or in place of the coldest idle
        link of all.
        """
        if share.unserved <= 0:
            self.waits_for_room.pop(share, None)
            return False, None
        evicted = None
        if share.size >= share.max_connections:
            if not share.bound_idle:
                # It waits for its own links, not for room in the total: others go first.
                self.waits_for_room.pop(share, None)
                return False, None
            evicted = self._forget_coldest(share)
        elif self.total >= self.max_total:
            evicted = self._evict()
            if evicted is None:
                self.waits_for_room[share] = None
                return False, None
        share.dialling += 1
        self.total += 1
        return True, evicted

    def start_fresh(self, share: Share[L], *, in_place: bool = False) -> tuple[bool, L | None]:
        """As `start_dial`, for a request that needs a fresh link.

        The origin's coldest idle link makes room if the origin's limit is reached, or if the dial
        is made `in_place` of idle links that are not suitable: the origin then gets no more links.
        """
        evicted: L | None = None
        if share.idle and in_place:
            evicted = next(iter(share.idle))
            self.drop_idle(share, evicted)
        elif share.coldest is not None and share.size >= share.max_connections:
            evicted = self._forget_coldest(share)
        elif share.size >= share.max_connections:
            return False, None
        elif self.total >= self.max_total:
            evicted = self._evict()
            if evicted is None:
                return False, None
        share.dialling += 1
        self.total += 1
        return True, evicted

    def start_trial(self, share: Share[L]) -> tuple[bool, L | None]:
        """As `start_dial`, for a trial, which serves no waiter and closes no link of the origin."""
        if share.size >= share.max_connections:
            return False, None
        evicted = self._evict() if self.total >= self.max_total else None
        if self.total >= self.max_total:
            return False, None
        share.trials += 1
        self.total += 1
        return True, evicted

    def end_trial(self, share: Share[L], *, won: bool) -> None:
        """A trial has ended.  If it `won` a link, the link is in use and must be given back."""
        share.trials -= 1
        if won:
            share.in_use += 1
        else:
            self.total -= 1

    def starved(self) -> Share[L] | None:
        """The origin that has waited longest for room in the total.  Ask after each release."""
        while self.waits_for_room:
            share = next(iter(self.waits_for_room))
            full = share.size >= share.max_connections and not share.bound_idle
            if share.unserved > 0 and not full:
                return share
            del self.waits_for_room[share]  # it no longer waits for room in the total
        return None

    def dialled(self, share: Share[L]) -> None:
        """A dial has succeeded: its link is in use, and must be given back at once."""
        share.dialling -= 1
        share.in_use += 1

    def drop_dial(self, share: Share[L]) -> None:
        """A dial has failed, or is no longer wanted."""
        share.dialling -= 1
        self.total -= 1

    def next_waiter(self, share: Share[L]) -> Waiter[L] | None:
        """Take the longest waiter out of the queue, because a dial has failed."""
        if not share.waiters:
            return None
        waiter = share.waiters.popleft()
        if not share.waiters:
            self.waits_for_room.pop(share, None)
        return waiter

    # -- room and eviction -------------------------------------------------------------------

    def _has_room(self, share: Share[L]) -> bool:
        """Whether one more link could be dialled, maybe after an eviction."""
        if share.size >= share.max_connections:
            return bool(share.bound_idle)
        return self.total < self.max_total or any(other.coldest for other in self.shares)

    def _evict(self) -> L | None:
        """Forget the coldest idle link of all origins."""
        coldest: Share[L] | None = None
        stamp = self._stamp + 1
        for share in self.shares:
            first = share.coldest
            if first is not None and first.idle_stamp < stamp:
                coldest, stamp = share, first.idle_stamp
        return None if coldest is None else self._forget_coldest(coldest)

    def _make_room(self) -> L | None:
        """Forget the coldest idle link if the total is reached and an origin waits for room."""
        if self.total >= self.max_total and self.starved() is not None:
            return self._evict()
        return None

    def _forget_coldest(self, share: Share[L]) -> L:
        link = share.coldest
        assert link is not None
        self.drop_idle(share, link)
        return link

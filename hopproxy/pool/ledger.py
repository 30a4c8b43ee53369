"""Who holds which upstream link: the pool's bookkeeping, without clock, socket or task.

Every link of an origin is idle, lent or being dialled, and each of these counts against the limits
of its origin and of the whole.  Each event changes counters and queues in place; nothing is ever
recounted, and a link that comes free is handed to the longest waiter, who need not compete for it.

A dial is started for a waiter but not bound to it: whichever comes first, a fresh link or one
released, serves the first in the queue ("late binding").
"""

from collections import deque
from typing import Generic, Protocol, TypeVar


class QueueFull(Exception):
    """As many wait for this origin as may."""


class Pooled(Protocol):
    """What the ledger needs of a link: a place for its stamp."""

    idle_stamp: int


L = TypeVar("L", bound=Pooled)
L_in = TypeVar("L_in", bound=Pooled, contravariant=True)


class Waiter(Protocol[L_in]):
    """Somebody who waits for a link."""

    def serve(self, link: L_in) -> None:
        """Here is your link: it is lent to you from now on."""

    def fail(self, error: Exception) -> None:
        """No link will come, for this reason."""


class Share(Generic[L]):
    """The part of one origin: its limits, its idle links (coldest first), its queue.

    `bound_idle` are idle links that only one client may use: they count as the others do, and are
    given up as the others are, but wait for nobody else.
    """

    __slots__ = (
        "bound_idle",
        "dialling",
        "idle",
        "lent",
        "max_connections",
        "max_idle",
        "queue_size",
        "trials",
        "waiters",
    )

    def __init__(self, max_connections: int, max_idle: int, queue_size: int) -> None:
        self.max_connections = max_connections
        self.max_idle = max_idle
        self.queue_size = queue_size
        self.idle: dict[L, None] = {}
        self.bound_idle: dict[L, None] = {}
        self.lent = 0
        self.dialling = 0
        self.trials = 0
        self.waiters: deque[Waiter[L]] = deque()

    @property
    def size(self) -> int:
        """All that counts against the origin's limit."""
        at_rest = len(self.idle) + len(self.bound_idle)
        return at_rest + self.lent + self.dialling + self.trials

    @property
    def coldest(self) -> L | None:
        """The link that has been idle longest, private or not."""
        shared, own = next(iter(self.idle), None), next(iter(self.bound_idle), None)
        if shared is None or own is None:
            return own if shared is None else shared
        return shared if shared.idle_stamp < own.idle_stamp else own

    def __repr__(self) -> str:
        return (
            f"<Share {len(self.idle)} idle, {self.lent} lent, {self.dialling} dialling, "
            f"{len(self.waiters)} waiting>"
        )


class Ledger(Generic[L]):
    """The shares of all origins under one total limit."""

    def __init__(self, max_total: int) -> None:
        self.max_total = max_total
        self.total = 0
        self.shares: list[Share[L]] = []
        self._stamp = 0
        #: Shares with waiters for whom no dial could be started, in the order they came.
        self.waits_for_room: dict[Share[L], None] = {}

    def add(self, share: Share[L]) -> None:
        """A new origin."""
        self.shares.append(share)

    # -- lending -----------------------------------------------------------------------------

    def take_idle(self, share: Share[L]) -> L | None:
        """Lend the warmest idle link; None if there is none."""
        if not share.idle:
            return None
        link, _ = share.idle.popitem()
        share.lent += 1
        return link

    def give_back(self, share: Share[L], link: L) -> L | None:
        """A lent link may serve again: lent on to the longest waiter, else idle.

        Returns a link that has to be closed for it, which is no longer counted: the coldest one
        where `max_idle` is passed, or where another origin waits for room.
        """
        if share.waiters:
            waiter = share.waiters.popleft()
            if not share.waiters:
                self.waits_for_room.pop(share, None)
            waiter.serve(link)
            return None
        share.lent -= 1
        self._stamp += 1
        link.idle_stamp = self._stamp
        share.idle[link] = None
        if len(share.idle) + len(share.bound_idle) > share.max_idle:
            if not share.max_idle:  # not in the place of a private link either
                self.drop_idle(share, link)
                return link
            return self._forget_coldest(share)
        return self._make_room() if self.waits_for_room else None

    def keep_bound(self, share: Share[L], link: L) -> L | None:
        """A lent link is idle, and kept for its one client.

        Returns a link that has to be closed for it, as `give_back` does; for want of `max_idle`
        never the link itself, which nobody could use to begin with.
        """
        share.lent -= 1
        self._stamp += 1
        link.idle_stamp = self._stamp
        share.bound_idle[link] = None
        count = len(share.idle) + len(share.bound_idle)
        if 1 < count > share.max_idle:
            return self._forget_coldest(share)
        return self._make_room()

    def take_bound(self, share: Share[L], link: L) -> bool:
        """Lend an idle private link to its client; False if it was not idle here."""
        if link not in share.bound_idle:
            return False
        del share.bound_idle[link]
        share.lent += 1
        return True

    def drop_lent(self, share: Share[L]) -> None:
        """A lent link is no more."""
        share.lent -= 1
        self.total -= 1

    def drop_idle(self, share: Share[L], link: L) -> bool:
        """An idle link is no more; False if it was not idle here."""
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
        """Wait for a link of this origin, behind those who came before.  Raises QueueFull."""
        # Those for whom a dial is under way, or can be started, wait for the network and not for
        # room: the queue's bound is about the others.
        if len(share.waiters) - share.dialling >= share.queue_size and not self._has_room(share):
            raise QueueFull(share.queue_size)
        share.waiters.append(waiter)

    def withdraw(self, share: Share[L], waiter: Waiter[L]) -> bool:
        """Wait no longer; False if the waiter had been served or failed already."""
        try:
            share.waiters.remove(waiter)
        except ValueError:
            return False
        if not share.waiters:
            self.waits_for_room.pop(share, None)
        return True

    def start_dial(self, share: Share[L]) -> tuple[bool, L | None]:
        """Whether to start a dial for this origin, and an idle link to close first.

        A dial is due while more wait than are dialled for, and there is room: below the origin's
        own limit or in the place of a private link, and below the total or in the place of the
        coldest idle link of all.
        """
        if len(share.waiters) <= share.dialling:
            self.waits_for_room.pop(share, None)
            return False, None
        evicted = None
        if share.size >= share.max_connections:
            if not share.bound_idle:
                # It waits for its own links, no longer for room: others must not wait behind it.
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
        """As `start_dial`, for one who wants no link that has served before.

        Its own coldest idle link makes room where the origin's limit is full, and where the dial is
        `in_place` of idle links that will not do: the origin gets no more links than it had.
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
        """As `start_dial`, for nobody: no waiter counts on it, and none of its idle links goes."""
        if share.size >= share.max_connections:
            return False, None
        evicted = self._evict() if self.total >= self.max_total else None
        if self.total >= self.max_total:
            return False, None
        share.trials += 1
        self.total += 1
        return True, evicted

    def end_trial(self, share: Share[L], *, won: bool) -> None:
        """A trial has ended; a link that it `won` counts as lent, and is to be given back."""
        share.trials -= 1
        if won:
            share.lent += 1
        else:
            self.total -= 1

    def starved(self) -> Share[L] | None:
        """The origin that has waited longest for room in the total; ask after each release."""
        while self.waits_for_room:
            share = next(iter(self.waits_for_room))
            full = share.size >= share.max_connections and not share.bound_idle
            if len(share.waiters) > share.dialling and not full:
                return share
            del self.waits_for_room[share]  # no longer for want of room in the total
        return None

    def dialled(self, share: Share[L]) -> None:
        """A dial has brought a link: it counts as lent, and is to be given back at once."""
        share.dialling -= 1
        share.lent += 1

    def drop_dial(self, share: Share[L]) -> None:
        """A dial came to nothing, or is no longer wanted."""
        share.dialling -= 1
        self.total -= 1

    def next_waiter(self, share: Share[L]) -> Waiter[L] | None:
        """Take the longest waiter out of the queue, to be told that a dial has failed."""
        if not share.waiters:
            return None
        waiter = share.waiters.popleft()
        if not share.waiters:
            self.waits_for_room.pop(share, None)
        return waiter

    def may_dial(self, share: Share[L]) -> bool:
        """Whether one who came now would get a dial of its own, and nobody had to go for it."""
        return (
            len(share.waiters) <= share.dialling
            and share.size < share.max_connections
            and self.total < self.max_total
        )

    # -- room and eviction -------------------------------------------------------------------

    def _has_room(self, share: Share[L]) -> bool:
        """Whether one more link could be dialled, be it in the place of an idle one."""
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
        """Forget the coldest idle link where the total is full and somebody waits for room."""
        if self.total >= self.max_total and self.starved() is not None:
            return self._evict()
        return None

    def _forget_coldest(self, share: Share[L]) -> L:
        link = share.coldest
        assert link is not None
        self.drop_idle(share, link)
        return link

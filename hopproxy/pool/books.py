"""The pool's record of its links: which there are, how they end, what is learned from that."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hopproxy.link.faults import report
from hopproxy.link.pooled import PooledLink
from hopproxy.link.watch import Watch
from hopproxy.pool.connector import Connector, Opened
from hopproxy.pool.ledger import Share
from hopproxy.pool.lending import Lending
from hopproxy.pool.origin import Origin
from hopproxy.reasons import UPSTREAM, CloseReason
from hopproxy.record import CloseRecord, Closes


class Books(ABC):
    """All links of one worker's pool; also the keeper of idle links."""

    connector: Connector

    def __init__(self, watch: Watch, max_total: int, closes: Closes) -> None:
        self.watch = watch
        self.closes = closes
        self.ledger: Lending[PooledLink] = Lending(max_total)
        #: Every open link; the admin listener and the soak test read it too.
        self.links: dict[PooledLink, Origin] = {}
        self.closing = False
        self.stopped = False

    # -- ending ------------------------------------------------------------------------------

    def end_dead(self, origin: Origin, link: PooledLink) -> None:
        """Close a link that was just checked out but has ended."""
        now = self.watch.now()
        reason = link.idle_verdict()
        self.end(origin, link, reason)
        if reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    def make_room(self, evicted: PooledLink | None) -> None:
        """Close the idle link, if any, that the ledger has evicted for a dial."""
        if evicted is not None:
            self.end(self.links[evicted], evicted, CloseReason.MADE_ROOM, counted=False)

    def end_evicted(self, evicted: PooledLink, full: Origin) -> None:
        owner = self.links[evicted]
        in_place = owner is full and len(full.idle) + len(full.bound_idle) >= full.max_idle
        reason = CloseReason.POOL_FULL if in_place else CloseReason.MADE_ROOM
        reason = CloseReason.ORIGIN_REMOVED if owner.removed else reason
        self.end(owner, evicted, reason, counted=False)

    def drop_idle(self, link: PooledLink, reason: CloseReason) -> None:
        """Close an idle link, bound or not."""
        origin = self.links[link]
        if not self.ledger.drop_idle(origin, link):
            if not link.bound:
                return
            self.ledger.drop_in_use(origin)
        self.end(origin, link, reason, counted=False)
        self.start_dials(origin)

    def close_idle(self, reason: CloseReason) -> None:
        """Close every idle link, and keep no link from now on."""
        self.closing = True
        for link, origin in list(self.links.items()):
            if self.ledger.drop_idle(origin, link):
                self.end(origin, link, reason, counted=False)

    def end(
        self, origin: Origin, link: PooledLink, reason: CloseReason, *, counted: bool = True
    ) -> CloseRecord:
        """Close the socket and write the record; `counted` if the ledger still counts it in use."""
        if counted:
            self.ledger.drop_in_use(origin)
        del self.links[link]
        origin.bound -= link.bound
        now = self.watch.now()
        record = CloseRecord(
            UPSTREAM, origin.label, reason, now, now - link.opened, now - link.since, link.served,
            origin.limit_on(link, reason), link.transport.endpoint.notified, link.local_port,
        )  # fmt: skip
        if origin.ended(link, reason, now):
            self.connector.turned_away(origin)
        link.close(reason)
        self.closes.add(record)
        return record

    # -- called by idle links ----------------------------------------------------------------

    def on_idle_event(self, link: PooledLink, hung_up: bool) -> None:
        """An idle link became readable: close it, whatever arrived."""
        origin, now = self.links[link], self.watch.now()
        reason = link.idle_verdict()
        self.drop_idle(link, reason)
        if hung_up or reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    @abstractmethod
    def on_idle_lapsed(self, link: PooledLink) -> None:
        """An idle link has reached its limit."""

    def on_fault(self, link: PooledLink, error: Exception) -> None:
        """A callback of a link that no coroutine waits for raised an unexpected exception."""
        report(error, f"a connection to {link.origin}")
        self.drop_idle(link, CloseReason.INTERNAL_ERROR)
        link.close(CloseReason.INTERNAL_ERROR)  # if it is in use, its exchange gets an error

    def on_hint(self, link: PooledLink, timeout: float) -> None:
        """An origin has announced how long it keeps this link idle."""
        self.links[link].hinted(link, timeout, self.watch.now())

    # -- dialling ----------------------------------------------------------------------------

    def start_dials(self, origin: Origin) -> None:
        """Start the dials that are due: for this origin, and for one that waits for room."""
        turn: Share[PooledLink] | None = origin
        while turn is not None:
            if turn.unserved <= 0 and not self.ledger.waits_for_room:
                return  # nearly always
            due, evicted = self.ledger.start_dial(turn)
            self.make_room(evicted)
            if due:
                assert isinstance(turn, Origin)
                self.connector.begin(turn, self.dialled)
            else:
                following = self.ledger.starved()
                turn = None if following is turn else following

    @abstractmethod
    def dialled(self, origin: Origin, opened: Opened) -> None:
        """A dial has ended: its link or its error goes to the longest waiter."""

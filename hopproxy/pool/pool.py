"""Checks upstream links out and takes them back.  The ledger decides; this waits and closes."""

import math
from functools import partial

from hopproxy.errors import PoolExhausted, QueueTimeout
from hopproxy.link.faults import report
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.connector import Connector, Opened
from hopproxy.pool.ledger import Ledger, QueueFull, Share
from hopproxy.pool.origin import Known, Origin
from hopproxy.pool.wait import Wait
from hopproxy.record import CloseReason, CloseRecord, Closes, Hop, Unused
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings

#: Seconds for which a client's login (NTLM) protects its link from being evicted.
GREETING = 5.0


class Pool:
    """All upstream links of one worker.

    Dials belong to the pool, so a request that leaves does not waste an almost open connection.
    """

    def __init__(self, watch: Watch, max_total: int, closes: Closes) -> None:
        self._watch = watch
        self._closes = closes
        self.connector = Connector(watch, self, closes)
        self._known: dict[OriginAddress, Known] = {}
        self.ledger: Ledger[UpstreamLink] = Ledger(max_total)
        #: Every open link: for the admin listener and the soak test too.
        self.links: dict[UpstreamLink, Origin] = {}
        self.closing = False
        self.stopped = False

    def add(self, address: OriginAddress, settings: UpstreamSettings) -> Origin:
        """Add an origin.  What was learned about its address is kept."""
        if address not in self._known:
            give_up = partial(self.drop_idle, reason=CloseReason.MADE_ROOM)
            self._known[address] = Known(self._watch, give_up)
        origin = Origin(address, settings, self._known[address])
        self.ledger.add(origin)
        return origin

    def acquire_now(self, origin: Origin, *, look: bool = True) -> UpstreamLink | None:
        """Check out the warmest idle link that is still open; None if there is none.

        Closes are known up to the last batch of events.  `look` is for a request that cannot be
        retried: it takes young links only, and the kernel is asked once more.
        """
        while True:
            if look and not origin.has_young(self._watch.now()):
                return None
            if (link := self.ledger.take_idle(origin)) is None:
                return None
            transport = link.transport
            if not ((look or transport.readable) and transport.endpoint.has_input()):
                origin.reused += 1
                link.begin()
                if link.served == 1:  # its dial was for a request that got another link
                    origin.unheard.begin(link, self._watch.now())
                return link
            self.end_dead(origin, link)

    def end_dead(self, origin: Origin, link: UpstreamLink) -> None:
        """Close a link that was just checked out and turns out to be dead."""
        now = self._watch.now()
        reason = link.idle_verdict()
        self._end(origin, link, reason)
        if reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    async def acquire(self, origin: Origin, *, leave: bool = False) -> UpstreamLink:
        """Queue for a link, and check out the first one that is released or dialled.

        Waits.  If the request leaves, nothing stays checked out.  Raises PoolExhausted if the queue
        is full, QueueTimeout after `queue_timeout`, ConnectFailed if a dial failed, and, if the
        request may `leave` for another origin, Unanswered if this one is slow to accept.
        """
        why = origin.why_unused()
        if origin.idle:  # none of them is suitable
            return await self.acquire_fresh(origin, why)
        waiting = Wait(self._watch)
        try:
            self.ledger.enqueue(origin, waiting)
        except QueueFull:
            raise PoolExhausted(f"the queue for {origin.label} is full") from None
        waiting.queued = True
        self.start_dials(origin)
        until = self._watch.now() + origin.settings.pool.queue_timeout
        try:
            begun = waiting.settled_or_left(origin, until) if leave else waiting.settled(until)
            link = await begun
            if link is None and origin.waiters.index(waiting) < origin.dialling:
                # A dial is being made for this request: connect_timeout bounds it.
                link = await waiting.settled(math.inf)
        finally:
            self._leave(origin, waiting)
        if link is None:
            raise QueueTimeout(f"no connection to {origin.label} came free in time")
        if link.served and link.transport.endpoint.has_input():  # it ended meanwhile
            self.end_dead(origin, link)
            return await self.acquire_fresh(origin)
        return origin.begin(link, why, self._watch.now())

    def _leave(self, origin: Origin, waiting: Wait) -> None:
        """Leave the queue; a link that arrived at the same moment is given back."""
        link = waiting.leave()
        if waiting.queued:
            self.ledger.withdraw(origin, waiting)
        elif link is not None:
            self._settle(origin, link, self._watch.now())

    async def acquire_fresh(
        self, origin: Origin, why: Unused | None = Unused.RETRY
    ) -> UpstreamLink:
        """Dial a link for this request alone: a retry must not get another dead one.

        Waits.  If the request has left, the link goes to the pool.  Falls back to `acquire` if all
        links that the origin may have are in use.
        """
        due, evicted = self.ledger.start_fresh(origin, in_place=why is Unused.METHOD)
        self.make_room(evicted)
        if not due:
            return await self.acquire(origin)
        self.ledger.dialled(origin)  # in use from now on: no waiter may count on this dial
        waiting = Wait(self._watch)
        dial = self.connector.begin(origin, partial(self._dialled_for, waiting))
        origin.unheard.begin(dial, self._watch.now())
        try:
            link = await waiting.settled(math.inf)
        finally:
            origin.unheard.ended(dial)
            self._leave(origin, waiting)
        assert link is not None
        return origin.begin(link, why, self._watch.now())

    def _dialled_for(self, waiting: Wait, origin: Origin, opened: Opened) -> None:
        """A dial for one request has ended."""
        if isinstance(opened, UpstreamLink):
            self.links[opened] = origin
            if waiting.left:
                self._settle(origin, opened, self._watch.now())
            else:
                waiting.serve(opened)
            return
        self.ledger.drop_in_use(origin)
        self.start_dials(origin)
        if opened is not None:
            waiting.fail(opened)

    # -- taking back -------------------------------------------------------------------------

    def release(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        """Take back a link: a waiter gets it, it becomes idle, or closes if `ending` says so."""
        if link.idled > origin.proven:
            origin.outlived(link.idled, now)
        if link.served == 1:
            origin.heard(link, now)
        if origin.reach.passed_until > 0:
            origin.reach.answered()
        reason = link.ending
        if reason is None:
            if origin.unheard.waiting and origin.unheard.wants(link, now):
                reason = CloseReason.MADE_ROOM
            elif self.closing:
                reason = CloseReason.DRAINING
            elif origin.limited or link.reuses_left is not None:
                reason = origin.limit_reached(link, now)
        if reason is not None:
            link.since, link.idled = now, -1.0  # it ends after its request, not during it
            self.discard(origin, link, reason)
            if reason is CloseReason.PEER_CLOSED:  # its FIN came directly after the response
                origin.saw_close(link, 0.0, now)
        elif link.bound:
            link.since = now
            self._keep_bound(origin, link, now)
        else:
            self._settle(origin, link, now)

    def discard(self, origin: Origin, link: UpstreamLink, reason: CloseReason) -> CloseRecord:
        """Close a link in use, and return the record.  Bookkeeping first, socket last."""
        now = self._watch.now()
        sign = origin.died_idle(link, reason, now)
        self.ledger.drop_in_use(origin)
        self.start_dials(origin)
        record = self._end(origin, link, reason, counted=False)
        record.under_request(link.idled)
        if sign is not None:
            origin.saw_close(link, link.idled, now, sign)
        return record

    def _settle(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        link.since = now
        evicted = self.ledger.give_back(origin, link)
        if link in origin.idle:
            link.has_rested = True
            link.transport.rest_until(origin.idle_until(link, now))
        if evicted is not None:
            self._end_evicted(evicted, full=origin)
        if self.ledger.waits_for_room and self.ledger.starved() is not None:
            self.start_dials(origin)

    def _keep_bound(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        """Keep a bound link for its client.  During a login it stays in use."""
        if link.greeting:
            link.transport.rest_until(now + GREETING)
            return
        evicted = self.ledger.keep_bound(origin, link)
        link.transport.rest_until(origin.idle_until(link, link.since))
        if evicted is not None:
            self._end_evicted(evicted, full=origin)
        self.start_dials(origin)

    def make_room(self, evicted: UpstreamLink | None) -> None:
        """Close the idle link, if any, that the ledger has evicted for a dial."""
        if evicted is not None:
            self._end(self.links[evicted], evicted, CloseReason.MADE_ROOM, counted=False)

    def _end_evicted(self, evicted: UpstreamLink, full: Origin) -> None:
        owner = self.links[evicted]
        in_place = owner is full and len(full.idle) + len(full.bound_idle) >= full.max_idle
        reason = CloseReason.POOL_FULL if in_place else CloseReason.MADE_ROOM
        reason = CloseReason.ORIGIN_REMOVED if owner.removed else reason
        self._end(owner, evicted, reason, counted=False)

    # -- idle links --------------------------------------------------------------------------

    def on_idle_event(self, link: UpstreamLink, hung_up: bool) -> None:
        """An idle link became readable: close it, whatever arrived."""
        origin, now = self.links[link], self._watch.now()
        reason = link.idle_verdict()
        self.drop_idle(link, reason)
        if hung_up or reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    def on_idle_lapsed(self, link: UpstreamLink) -> None:
        """An idle link has reached its limit: close it before the origin does."""
        origin, now = self.links[link], self._watch.now()
        if link.greeting and link.bound and not origin.removed:  # the login has not gone on
            link.greeting = False
            self._keep_bound(origin, link, now)
            return
        self.drop_idle(link, origin.lapsed(link, now))
        origin.outlived(now - link.since if link.served else 0.0, now)

    def on_fault(self, link: UpstreamLink, error: Exception) -> None:
        """A callback of a link that no coroutine waits for raised an unexpected exception."""
        report(error, f"a connection to {link.origin}")
        self.drop_idle(link, CloseReason.INTERNAL_ERROR)
        link.close(CloseReason.INTERNAL_ERROR)  # if it is in use, its exchange sees it broken

    def drop_idle(self, link: UpstreamLink, reason: CloseReason) -> None:
        """Close an idle link, bound or not."""
        origin = self.links[link]
        if not self.ledger.drop_idle(origin, link):
            if not link.bound:
                return
            self.ledger.drop_in_use(origin)
        self._end(origin, link, reason, counted=False)
        self.start_dials(origin)

    def close_idle(self, reason: CloseReason) -> None:
        """Close every idle link, and keep no link from now on."""
        self.closing = True
        for link, origin in list(self.links.items()):
            if self.ledger.drop_idle(origin, link):
                self._end(origin, link, reason, counted=False)

    def _end(
        self, origin: Origin, link: UpstreamLink, reason: CloseReason, *, counted: bool = True
    ) -> CloseRecord:
        """Close the socket and write the record; `counted` if the ledger still counts it in use."""
        if counted:
            self.ledger.drop_in_use(origin)
        del self.links[link]
        origin.bound -= link.bound
        now = self._watch.now()
        times = (now, now - link.opened, now - link.since)
        record = CloseRecord(Hop.UPSTREAM, origin.label, reason, times, link.served)
        record.limit, record.local_port = origin.limit_on(link, reason), link.local_port
        if origin.ended(link, reason, now):
            self.connector.turned_away(origin)
        link.close(reason)
        self._closes.add(record)
        return record

    # -- learning ----------------------------------------------------------------------------

    def on_hint(self, link: UpstreamLink, timeout: float) -> None:
        """An origin has announced how long it keeps this link idle."""
        self.links[link].hinted(link, timeout, self._watch.now())

    # -- dialling ----------------------------------------------------------------------------

    def start_dials(self, origin: Origin) -> None:
        """Start the dials that are due: for this origin, and for one that waits for room."""
        turn: Share[UpstreamLink] | None = origin
        while turn is not None:
            due, evicted = self.ledger.start_dial(turn)
            self.make_room(evicted)
            if due:
                assert isinstance(turn, Origin)
                self.connector.begin(turn, self._dialled)
            else:
                following = self.ledger.starved()
                turn = None if following is turn else following

    def _dialled(self, origin: Origin, opened: Opened) -> None:
        """A dial has ended: its link or its error goes to the longest waiter."""
        if isinstance(opened, UpstreamLink):
            self.links[opened] = origin
            self.ledger.dialled(origin)
            self._settle(origin, opened, self._watch.now())
            return
        self.ledger.drop_dial(origin)
        if opened is None:
            return
        waiter = self.ledger.next_waiter(origin)
        if waiter is not None:
            waiter.fail(opened)
        self.start_dials(origin)

    def stop(self) -> None:
        """Call off every dial."""
        self.stopped = True
        self.connector.stop()

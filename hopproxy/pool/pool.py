"""Lends upstream links and takes them back: the ledger decides, this waits, dials and closes."""

import math
from functools import partial

from hopproxy.errors import PoolExhausted, QueueTimeout
from hopproxy.link.faults import report
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.connector import Connector, Opened
from hopproxy.pool.idle_timeout import usable
from hopproxy.pool.ledger import Ledger, QueueFull, Share
from hopproxy.pool.origin import Known, Origin
from hopproxy.pool.wait import Wait
from hopproxy.record import CloseReason, CloseRecord, Closes, Hop, Unused
from hopproxy.settings.schema import UpstreamSettings
from hopproxy.settings.units import OriginAddress

#: Seconds for which a client may take to go on with a login (NTLM), before its link may be
#: given up to make room for others.
GREETING = 5.0


class Pool:
    """All upstream links of one worker.

    Dials belong to it, so that a caller who leaves does not waste a connection nearly made.
    """

    def __init__(self, watch: Watch, max_total: int, closes: Closes) -> None:
        self._watch = watch
        self._closes = closes
        self.connector = Connector(watch, self, closes)
        self._known: dict[OriginAddress, Known] = {}
        self.ledger: Ledger[UpstreamLink] = Ledger(max_total)
        #: Every open link, whatever it does: for those who look.
        self.links: dict[UpstreamLink, Origin] = {}
        self.closing = False
        self.stopped = False

    def add(self, address: OriginAddress, settings: UpstreamSettings) -> Origin:
        """Begin to serve an origin; what was learned of its address before is known still."""
        if address not in self._known:
            give_up = partial(self.drop_idle, reason=CloseReason.MADE_ROOM)
            self._known[address] = Known(self._watch, give_up)
        origin = Origin(address, settings, self._known[address])
        self.ledger.add(origin)
        return origin

    def acquire_now(self, origin: Origin, *, look: bool = True) -> UpstreamLink | None:
        """Lend the warmest idle link that is still alive; None when there is none.

        The watch has told of every death up to the last batch of events.  `look` asks the kernel
        once more, for a request that could not be sent again; such a one takes young links only.
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
                if link.served == 1:  # dialled for one who was served before it came
                    origin.unheard.begin(link, self._watch.now())
                return link
            self.end_dead(origin, link)

    def end_dead(self, origin: Origin, link: UpstreamLink) -> None:
        """Close a link that was just lent, and turns out to be dead."""
        now = self._watch.now()
        reason = link.idle_verdict()
        self._end(origin, link, reason)
        if reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    async def acquire(self, origin: Origin, *, leave: bool = False) -> UpstreamLink:
        """Lend the first link that is released or dialled, in turn with those who wait already.

        Waits.  A caller that leaves holds nothing.  Raises PoolExhausted when the queue is full,
        QueueTimeout past `queue_timeout`, ConnectFailed when a dial failed, and if the caller may
        `leave` for another origin, Unanswered when this one is slow to accept.
        """
        why = origin.why_unused()
        if origin.idle:  # none of them will do for this caller
            return await self.acquire_fresh(origin, why)
        waiting = Wait(self._watch)
        try:
            self.ledger.enqueue(origin, waiting)
        except QueueFull:
            raise PoolExhausted(f"the queue for {origin.label} is full") from None
        self.start_dials(origin)
        try:
            link = await waiting.served(origin, leave=leave)
        finally:
            self._leave(origin, waiting)
        if link is None:
            raise QueueTimeout(f"no connection to {origin.label} came free in time")
        if link.served and link.transport.endpoint.has_input():  # it died, or spoke, between
            self.end_dead(origin, link)
            return await self.acquire_fresh(origin)
        return origin.begin(link, why, self._watch.now())

    def _leave(self, origin: Origin, waiting: Wait) -> None:
        """Nobody waits any more; a link that was served in the same moment is given back."""
        link = waiting.leave()
        if not self.ledger.withdraw(origin, waiting) and link is not None:
            self._settle(origin, link, self._watch.now())

    async def acquire_fresh(
        self, origin: Origin, why: Unused | None = Unused.REPETITION
    ) -> UpstreamLink:
        """Dial a link for this caller alone: a retry must not meet another stale one.

        Waits.  A link that comes after the caller has left goes to the pool.  Falls back to
        `acquire` where every link of the origin is lent.
        """
        due, evicted = self.ledger.start_fresh(origin, in_place=why is Unused.METHOD)
        self.make_room(evicted)
        if not due:
            return await self.acquire(origin)
        self.ledger.dialled(origin)  # lent from now on: no waiter may count on this dial
        waiting = Wait(self._watch)
        dial = self.connector.begin(origin, partial(self._dialled_for, waiting))
        origin.unheard.begin(dial, self._watch.now())
        try:
            link = await waiting.settled(math.inf)
        finally:
            origin.unheard.ended(dial)
            served = waiting.leave()
            if served is not None:
                self._settle(origin, served, self._watch.now())
        assert link is not None
        return origin.begin(link, why, self._watch.now())

    def _dialled_for(self, waiting: Wait, origin: Origin, opened: Opened) -> None:
        """A dial for one caller has ended."""
        if isinstance(opened, UpstreamLink):
            self.links[opened] = origin
            if waiting.left:
                self._settle(origin, opened, self._watch.now())
            else:
                waiting.serve(opened)
            return
        self.ledger.drop_lent(origin)
        self.start_dials(origin)
        if opened is not None:
            waiting.fail(opened)

    # -- taking back -------------------------------------------------------------------------

    def release(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        """Take back a lent link: lent on, kept idle or closed, as its own verdict says.

        Not a checkpoint; safe in any `finally`.
        """
        if link.idled > origin.proven:
            origin.outlived(link.idled, now)
        if link.served == 1:
            origin.unheard.heard(link, now)
        reason = link.ending
        if reason is None:
            if origin.unheard.waiting and origin.unheard.wants(link, now):
                reason = CloseReason.MADE_ROOM
            elif self.closing:
                reason = CloseReason.DRAINING
            elif origin.limited or link.reuses_left is not None:
                reason = origin.limit_reached(link, now)
        if reason is not None:
            link.since, link.idled = now, -1.0  # it ends after its request, not under it
            self.discard(origin, link, reason)
            if reason is CloseReason.PEER_CLOSED:  # its FIN came right behind the response
                origin.saw_close(link, 0.0, now)
        elif link.bound:
            link.since = now
            self._keep_bound(origin, link, now)
        else:
            self._settle(origin, link, now)

    def discard(self, origin: Origin, link: UpstreamLink, reason: CloseReason) -> CloseRecord:
        """Close a lent link; what is on record of it.  Ledger first, socket last."""
        now = self._watch.now()
        sign = origin.died_idle(link, reason, now)
        self.ledger.drop_lent(origin)
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
        """A private link waits for its client; until that has been let in, it stays lent."""
        if link.greeting:
            link.transport.rest_until(now + GREETING)
            return
        evicted = self.ledger.keep_bound(origin, link)
        link.transport.rest_until(origin.idle_until(link, link.since))
        if evicted is not None:
            self._end_evicted(evicted, full=origin)
        self.start_dials(origin)

    def make_room(self, evicted: UpstreamLink | None) -> None:
        """Close the idle link, if any, in whose place the ledger lets another be dialled."""
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
        """An idle link became readable: whatever came, it will not serve again."""
        origin, now = self.links[link], self._watch.now()
        reason = link.idle_verdict()
        self.drop_idle(link, reason)
        if hung_up or reason is not CloseReason.UNSOLICITED:
            origin.saw_close(link, now - link.since, now)

    def on_idle_lapsed(self, link: UpstreamLink) -> None:
        """An idle link's time is up: we close it before the origin does."""
        origin, now = self.links[link], self._watch.now()
        if link.greeting and link.bound and not origin.removed:  # its client has not come back
            link.greeting = False
            self._keep_bound(origin, link, now)
            return
        self.drop_idle(link, origin.lapsed(link, now))
        origin.outlived(now - link.since if link.served else 0.0, now)

    def on_fault(self, link: UpstreamLink, error: Exception) -> None:
        """An event of a link met a fault of ours, and nobody waits for it who could be told."""
        report(error, f"a connection to {link.origin}")
        self.drop_idle(link, CloseReason.INTERNAL_ERROR)
        link.close(CloseReason.INTERNAL_ERROR)  # if it is lent, who has it will see it broken

    def drop_idle(self, link: UpstreamLink, reason: CloseReason) -> None:
        """Close a link at rest, be it private or not."""
        origin = self.links[link]
        if not self.ledger.drop_idle(origin, link):
            if not link.bound:
                return
            self.ledger.drop_lent(origin)
        self._end(origin, link, reason, counted=False)
        self.start_dials(origin)

    def close_idle(self, reason: CloseReason) -> None:
        """Close every idle link, and keep none from now on."""
        self.closing = True
        for link, origin in list(self.links.items()):
            if self.ledger.drop_idle(origin, link):
                self._end(origin, link, reason, counted=False)

    def _end(
        self, origin: Origin, link: UpstreamLink, reason: CloseReason, *, counted: bool = True
    ) -> CloseRecord:
        """Close the socket and write the record; `counted` while the ledger still has it lent."""
        if counted:
            self.ledger.drop_lent(origin)
        del self.links[link]
        origin.bound -= link.bound
        now = self._watch.now()
        times = (now, now - link.opened, now - link.since)
        record = CloseRecord(Hop.UPSTREAM, origin.label, reason, times, link.served)
        record.limit = origin.limit_on(link, reason)
        record.local_port = link.local_port
        origin.ended(link, reason)
        link.close(reason)
        self._closes.add(record)
        return record

    # -- learning ----------------------------------------------------------------------------

    def on_hint(self, link: UpstreamLink, timeout: float) -> None:
        """An origin's response names how long it will keep this link idle."""
        origin = self.links[link]
        link.keep_for = usable(timeout, origin.learned.rtt)
        origin.learned.hinted(timeout)
        origin.known.refresh(self._watch.now())

    # -- dialling ----------------------------------------------------------------------------

    def start_dials(self, origin: Origin) -> None:
        """Start what dials are due: for this origin, and for one that waits for room."""
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
        """A dial has ended: its link goes to the longest waiter, or its failure does."""
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
        """Call off every dial: nobody is served any more."""
        self.stopped = True
        self.connector.stop()

"""Checks upstream links out and takes them back.  The ledger decides; this waits and closes."""

import math
from functools import partial

from hopproxy.errors import ConnectFailed, PoolExhausted, QueueTimeout
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.pooled import PooledLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool import health
from hopproxy.pool.books import Books
from hopproxy.pool.connector import Connector, Opened
from hopproxy.pool.known import Found, Known, News
from hopproxy.pool.ledger import QueueFull
from hopproxy.pool.origin import Origin
from hopproxy.pool.shared import Lent, SharedLinks
from hopproxy.pool.wait import Wait
from hopproxy.reasons import CloseReason, Unused
from hopproxy.record import CloseRecord, Closes
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings

#: Seconds for which a client's login (NTLM) protects its link from being evicted.
GREETING = 5.0


#: How often a request waits again because its new link has ended at once.
TRIES = 3


class Pool(Books):
    """All upstream links of one worker.

    Dials belong to the pool, so a request that leaves does not waste an almost open connection.
    """

    def __init__(self, watch: Watch, max_total: int, closes: Closes) -> None:
        super().__init__(watch, max_total, closes)
        self.shared = SharedLinks(self)
        self.connector = Connector(watch, self, self.shared, closes)
        self.known: dict[OriginAddress, Known] = {}
        self.news = News()

    def add(self, address: OriginAddress, settings: UpstreamSettings) -> Origin:
        """Add an origin.  What was learned about its address is kept."""
        if address not in self.known:
            give_up = partial(self.drop_idle, reason=CloseReason.MADE_ROOM)
            self.known[address] = Known(self.watch, give_up, self.news)
        origin = Origin(address, settings, self.known[address])
        self.ledger.add(origin)
        return origin

    def hear(self, origin: str, found: Found) -> None:
        """Another worker has seen the origin with this label close an idle link."""
        for address, known in self.known.items():
            if str(address) == origin:
                known.hear(found, self.watch.now())

    def acquire_now(self, origin: Origin, *, look: bool = True) -> Lent | None:
        """Check out the warmest idle link that is still open; None if there is none.

        Closes are known up to the last batch of events.  `look` is for a request that cannot be
        retried: it takes young links only, and the kernel is asked once more.
        """
        if origin.streamed:
            return self.shared.take_now(origin, look=look)
        while True:
            if look and not origin.has_young(self.watch.now()):
                return None
            if (link := self.ledger.take_idle(origin)) is None:
                return None
            transport = link.transport
            if not ((look or transport.readable) and transport.endpoint.has_input()):
                origin.reused += 1
                link.begin()
                if link.served == 1:  # dialled for a request that got another link
                    origin.unheard.begin(link, self.watch.now())
                return link  # type: ignore[return-value]  # HTTP/1.1's: see `Origin.streamed`
            self.end_dead(origin, link)

    async def acquire(self, origin: Origin, *, leave: bool = False) -> Lent:
        """Queue for a link, and check out the first one that is released or dialled.

        Waits.  If the request leaves, nothing stays checked out.  Raises PoolExhausted if the queue
        is full, QueueTimeout after `queue_timeout`, ConnectFailed if a dial failed, and, if the
        request may `leave` for another origin, Unanswered if this one is slow to accept.
        """
        why = origin.why_unused()
        if origin.streamed:  # none is proven to be alive
            lent = await self.shared.take_proven(origin)
            return lent or await self._queue(origin, why, leave=leave)
        if origin.idle:  # none of them is suitable
            return await self.acquire_fresh(origin, why)
        return await self._queue(origin, why, leave=leave)

    async def _queue(
        self, origin: Origin, why: Unused | None, *, leave: bool = False, tries: int = TRIES
    ) -> Lent:
        """Wait in the queue of an origin.  Raises as `acquire`.

        A link may have ended before the request that it was given to went on: `tries` bounds that.
        """
        waiting = Wait(self.watch)
        try:
            self.ledger.enqueue(origin, waiting)
        except QueueFull:
            raise PoolExhausted(f"the queue for {origin.label} is full") from None
        waiting.queued = True
        self.start_dials(origin)
        until = self.watch.now() + origin.settings.pool.queue_timeout
        try:
            begun = waiting.settled_or_left(origin, until) if leave else waiting.settled(until)
            link = await begun
            if link is None and origin.waiters.index(waiting) < origin.dialling * origin.each:
                # A dial is being made for this request: connect_timeout bounds it.
                link = await waiting.settled(math.inf)
        finally:
            self._leave(origin, waiting)
        if link is None:
            raise QueueTimeout(f"no connection to {origin.label} came free in time")
        if isinstance(link, H2UpstreamLink):
            lent = self.shared.begin(origin, link, why)
            if lent is None and tries <= 1:
                raise ConnectFailed(f"{origin.label} closes its connections at once")
            return lent or await self._queue(origin, why, leave=leave, tries=tries - 1)
        assert isinstance(link, UpstreamLink)
        if link.served and link.transport.endpoint.has_input():  # it ended meanwhile
            self.end_dead(origin, link)
            return await self.acquire_fresh(origin)
        origin.begin(link, why, self.watch.now())
        return link

    def _leave(self, origin: Origin, waiting: Wait) -> None:
        """Leave the queue; a link that arrived at the same moment is given back."""
        link = waiting.leave()
        if waiting.queued:
            self.ledger.withdraw(origin, waiting)
        elif isinstance(link, H2UpstreamLink):
            self.shared.give_back(origin, link)
        elif link is not None:
            self._settle(origin, link, self.watch.now())

    async def acquire_fresh(self, origin: Origin, why: Unused | None = Unused.RETRY) -> Lent:
        """Dial a link for this request alone, since a retry must not get another dead one.

        Waits.  If the request has left, the link goes to the pool.  Falls back to `acquire` if all
        links that the origin may have are in use.  A link that carries many requests is dialled
        for all that wait.
        """
        if origin.each > 1:
            return await self._queue(origin, why)
        due, evicted = self.ledger.start_fresh(origin, in_place=why is Unused.METHOD)
        self.make_room(evicted)
        if not due:
            return await self.acquire(origin)
        self.ledger.dialled(origin)  # in use from now on: no waiter may count on this dial
        waiting = Wait(self.watch)
        dial = self.connector.begin(origin, partial(self._dialled_for, waiting))
        origin.unheard.begin(dial, self.watch.now())
        try:
            link = await waiting.settled(math.inf)
        finally:
            origin.unheard.ended(dial)
            self._leave(origin, waiting)
        if isinstance(link, H2UpstreamLink):
            return self.shared.begin(origin, link, why) or await self._queue(origin, why)
        assert isinstance(link, UpstreamLink)
        origin.begin(link, why, self.watch.now())
        return link

    def _dialled_for(self, waiting: Wait, origin: Origin, opened: Opened) -> None:
        """A dial for one request has ended."""
        if isinstance(opened, PooledLink):
            self.links[opened] = origin
            if isinstance(opened, H2UpstreamLink):
                self.shared.begin_first(origin, opened)
            if not waiting.left:
                waiting.serve(opened)
            elif isinstance(opened, H2UpstreamLink):
                self.shared.give_back(origin, opened)
            else:
                self._settle(origin, opened, self.watch.now())
            return
        self.ledger.drop_in_use(origin)
        self.start_dials(origin)
        if opened is not None:
            waiting.fail(opened)

    # -- taking back -------------------------------------------------------------------------

    def release(self, origin: Origin, link: PooledLink, now: float) -> None:
        """Take back a link: a waiter gets it, it becomes idle, or closes if `ending` says so."""
        if link.idled > origin.proven:
            origin.outlived(link.idled, now)
        if link.served == 1:
            origin.heard(link, now)
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

    def give_up(self, origin: Origin, lent: Lent, reason: CloseReason) -> CloseRecord | None:
        """An attempt has failed: close its link, or reset its stream.

        Returns the record of a link that has ended.
        """
        if isinstance(lent, UpstreamLink):
            return self.discard(origin, lent, reason)
        return self.shared.discard(origin, lent, reason)

    def discard(self, origin: Origin, link: PooledLink, reason: CloseReason) -> CloseRecord:
        """Close a link in use, and return the record.  Bookkeeping first, socket last."""
        now = self.watch.now()
        sign = origin.died_idle(link, reason, now)
        self.ledger.drop_in_use(origin)
        self.start_dials(origin)
        record = self.end(origin, link, reason, counted=False)
        record.under_request(link.idled)
        if sign is not None:
            origin.saw_close(link, link.idled, now, sign)
        health.ended(self, origin, link, reason, sign)
        return record

    def _settle(self, origin: Origin, link: PooledLink, now: float) -> None:
        link.since = now
        evicted = self.ledger.give_back(origin, link)
        if link in origin.idle:
            link.has_rested = True
            link.transport.rest_until(origin.idle_until(link, now))
        if evicted is not None:
            self.end_evicted(evicted, full=origin)
        if self.ledger.waits_for_room and self.ledger.starved() is not None:
            self.start_dials(origin)

    def arrived(self, origin: Origin, link: PooledLink) -> None:
        """A dial has succeeded: its link, in use for the ledger, goes to a waiter or is idle."""
        self.links[link] = origin
        if isinstance(link, H2UpstreamLink):
            self.shared.arrived(origin, link)
        else:
            self._settle(origin, link, self.watch.now())

    def _keep_bound(self, origin: Origin, link: PooledLink, now: float) -> None:
        """Keep a bound link for its client.  During a login it stays in use."""
        if link.greeting:
            link.transport.rest_until(now + GREETING)
            return
        evicted = self.ledger.keep_bound(origin, link)
        link.transport.rest_until(origin.idle_until(link, link.since))
        if evicted is not None:
            self.end_evicted(evicted, full=origin)
        self.start_dials(origin)

    # -- idle links --------------------------------------------------------------------------

    def on_idle_lapsed(self, link: PooledLink) -> None:
        """An idle link has reached its limit: close it before the origin does."""
        origin, now = self.links[link], self.watch.now()
        if link.greeting and link.bound and not origin.removed:  # the login has not gone on
            link.greeting = False
            self._keep_bound(origin, link, now)
            return
        self.drop_idle(link, origin.lapsed(link, now))
        origin.outlived(now - link.since if link.served else 0.0, now)

    # -- dialling ----------------------------------------------------------------------------

    def dialled(self, origin: Origin, opened: Opened) -> None:
        """A dial has ended: its link or its error goes to the longest waiter."""
        if isinstance(opened, PooledLink):
            self.ledger.dialled(origin)
            self.arrived(origin, opened)
            if origin.waiters:  # it carries fewer requests than it might have
                self.start_dials(origin)
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

"""Lends upstream links and takes them back: the ledger decides, this waits, dials and closes."""

import random

import trio

from hopproxy.errors import ConnectFailed, HopError, PoolExhausted
from hopproxy.link.dial import dial
from hopproxy.link.transport import Transport, tune
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.ledger import Ledger, QueueFull, Share
from hopproxy.pool.origin import Origin
from hopproxy.pool.wait import Wait
from hopproxy.record import CloseReason, CloseRecord, Closes, Hop
from hopproxy.settings.schema import Upstream
from hopproxy.settings.units import OriginAddress


class PrivateLink:
    """A link that stays lent to one client: the origin authenticates it, not its requests."""

    __slots__ = ("_pool", "link", "origin")

    def __init__(self, pool: "Pool", origin: Origin, link: UpstreamLink) -> None:
        self._pool = pool
        self.origin = origin
        self.link = link

    def end(self) -> None:
        """The client has left."""
        self._pool.discard(self.origin, self.link, CloseReason.PRIVATE)


class Pool:
    """All upstream links of one worker.

    Dials run in `nursery`, so that a caller who leaves does not waste a connection nearly made.
    """

    def __init__(self, watch: Watch, nursery: trio.Nursery, max_total: int, closes: Closes) -> None:
        self._watch = watch
        self._nursery = nursery
        self._closes = closes
        self._random = random.Random()
        self.ledger: Ledger[UpstreamLink] = Ledger(max_total)
        #: Every open link, whatever it does: for those who look.
        self.links: dict[UpstreamLink, Origin] = {}
        self.closing = False

    def add(self, address: OriginAddress, settings: Upstream) -> Origin:
        """Begin to serve an origin."""
        origin = Origin(address, settings)
        self.ledger.add(origin)
        return origin

    def acquire_now(self, origin: Origin, *, look: bool = True) -> UpstreamLink | None:
        """Lend the warmest idle link that is still alive; None when there is none.

        The watch has told of every death up to the last batch of events.  `look` asks the kernel
        once more, for a request that could not be sent again.
        """
        while (link := self.ledger.take_idle(origin)) is not None:
            transport = link.transport
            if not ((look or transport.readable) and transport.is_readable()):
                origin.reused += 1
                link.begin()
                return link
            self._end(origin, link, link.idle_verdict())
        return None

    async def acquire(self, origin: Origin, wait: Wait) -> UpstreamLink:
        """Lend the first link that is released or dialled, in turn with those who wait already.

        A checkpoint.  A cancelled or interrupted caller holds nothing.  Raises PoolExhausted when
        the queue is full or `queue_timeout` is over, ConnectFailed when a dial failed.
        """
        try:
            self.ledger.enqueue(origin, wait)
        except QueueFull:
            raise PoolExhausted(f"the queue for {origin.label} is full") from None
        self._start_dials(origin)
        try:
            await self._wait(origin, wait)
        except BaseException:  # cancelled, and perhaps served in the same tick: give it back
            self._leave(origin, wait)
            raise
        if wait.error is not None:
            self._leave(origin, wait)
            raise wait.error
        link = wait.take()
        if link is None:
            self._leave(origin, wait)
            raise PoolExhausted(f"no connection to {origin.label} came free in time")
        if link.served and link.transport.is_readable():  # it died, or spoke, between two requests
            self._end(origin, link, link.idle_verdict())
            return await self.acquire_fresh(origin, wait)
        link.begin()
        return link

    async def acquire_fresh(self, origin: Origin, wait: Wait) -> UpstreamLink:
        """Dial a link for this caller alone: a repetition must not meet another stale one.

        A checkpoint.  Falls back to `acquire` where every link of the origin is lent.
        """
        due, evicted = self.ledger.start_fresh(origin)
        if evicted is not None:
            self._end(self.links[evicted], evicted, CloseReason.MADE_ROOM, counted=False)
        if not due:
            return await self.acquire(origin, wait)
        self.ledger.dialled(origin)  # lent from now on: no waiter may count on this dial
        try:
            link = await self._open(origin)
        except BaseException:
            self.ledger.drop_lent(origin)
            self._start_dials(origin)
            raise
        link.begin()
        return link

    async def _wait(self, origin: Origin, wait: Wait) -> None:
        with trio.move_on_after(origin.settings.pool.queue_timeout) as patience:
            await wait.settled()
        if not patience.cancelled_caught or wait not in origin.waiters:
            return
        if origin.waiters.index(wait) < origin.dialling:
            # A dial that is under way for this caller has its own bound: connect_timeout.
            await wait.settled()

    def _leave(self, origin: Origin, wait: Wait) -> None:
        if not self.ledger.withdraw(origin, wait):
            link = wait.take()
            if link is not None:
                self._settle(origin, link, trio.current_time())

    # -- taking back -------------------------------------------------------------------------

    def release(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        """Take back a lent link: lent on, kept idle or closed, as its own verdict says.

        Not a checkpoint; safe in any `finally`.
        """
        reason = link.ending
        if reason is None:
            if self.closing:
                reason = CloseReason.DRAINING
            elif origin.limited or link.reuses_left is not None:
                reason = self._limit_reached(origin, link, now)
        if reason is not None:
            self.discard(origin, link, reason)
        else:
            self._settle(origin, link, now)

    def discard(self, origin: Origin, link: UpstreamLink, reason: CloseReason) -> None:
        """Close a lent link.  Ledger first, socket last."""
        self.ledger.drop_lent(origin)
        self._start_dials(origin)
        self._end(origin, link, reason, counted=False)

    def _settle(self, origin: Origin, link: UpstreamLink, now: float) -> None:
        link.since = now
        evicted = self.ledger.give_back(origin, link)
        if link in origin.idle:
            link.transport.rest_until(self._idle_until(origin, link, now))
        if evicted is not None:
            self._end_evicted(evicted, full=origin)
        if self.ledger.starved() is not None:
            self._start_dials(origin)

    def _end_evicted(self, evicted: UpstreamLink, full: Origin) -> None:
        owner = self.links[evicted]
        in_place = owner is full and len(full.idle) >= full.max_idle
        reason = CloseReason.POOL_FULL if in_place else CloseReason.MADE_ROOM
        self._end(owner, evicted, reason, counted=False)

    def _limit_reached(self, origin: Origin, link: UpstreamLink, now: float) -> CloseReason | None:
        pool = origin.settings.pool
        if pool.max_requests and link.served >= pool.max_requests:
            return CloseReason.REQUEST_LIMIT
        if link.reuses_left is not None and link.reuses_left <= 0:
            return CloseReason.HINT
        if now >= link.old_at:
            return CloseReason.MAX_AGE
        return None

    def _idle_until(self, origin: Origin, link: UpstreamLink, now: float) -> float:
        return min(now + min(origin.idle_timeout, link.keep_for), link.old_at)

    # -- idle links --------------------------------------------------------------------------

    def on_idle_event(self, link: UpstreamLink, hung_up: bool) -> None:
        """An idle link became readable: whatever came, it will not serve again."""
        self._drop_idle(link, link.idle_verdict())

    def on_idle_lapsed(self, link: UpstreamLink) -> None:
        """An idle link's time is up: we close it before the origin does."""
        reason = CloseReason.IDLE_TIMEOUT
        if trio.current_time() >= link.old_at:
            reason = CloseReason.MAX_AGE
        elif link.keep_for < self.links[link].settings.pool.idle_timeout:
            reason = CloseReason.HINT
        self._drop_idle(link, reason)

    def _drop_idle(self, link: UpstreamLink, reason: CloseReason) -> None:
        origin = self.links[link]
        if self.ledger.drop_idle(origin, link):
            self._end(origin, link, reason, counted=False)
            self._start_dials(origin)

    def close_idle(self, reason: CloseReason) -> None:
        """Close every idle link, and keep none from now on."""
        self.closing = True
        for link, origin in list(self.links.items()):
            if self.ledger.drop_idle(origin, link):
                self._end(origin, link, reason, counted=False)

    def _end(
        self, origin: Origin, link: UpstreamLink, reason: CloseReason, *, counted: bool = True
    ) -> None:
        """Close the socket and write the record; `counted` while the ledger still has it lent."""
        if counted:
            self.ledger.drop_lent(origin)
        del self.links[link]
        now = trio.current_time()
        link.close(reason)
        times = (now, now - link.opened, now - link.since)
        self._closes.add(CloseRecord(Hop.UPSTREAM, origin.label, reason, times, link.served))

    # -- dialling ----------------------------------------------------------------------------

    def _start_dials(self, origin: Origin) -> None:
        """Start what dials are due: for this origin, and for one that waits for room."""
        turn: Share[UpstreamLink] | None = origin
        while turn is not None:
            due, evicted = self.ledger.start_dial(turn)
            if evicted is not None:
                self._end(self.links[evicted], evicted, CloseReason.MADE_ROOM, counted=False)
            if due:
                assert isinstance(turn, Origin)
                self._nursery.start_soon(self._dial, turn)
            else:
                following = self.ledger.starved()
                turn = None if following is turn else following

    async def _dial(self, origin: Origin) -> None:
        failure: HopError
        try:
            link = await self._open(origin)
        except ConnectFailed as error:
            failure = error
            origin.failed_at = trio.current_time()
        except BaseException:
            self.ledger.drop_dial(origin)
            raise
        else:
            origin.failed_at = None
            self.ledger.dialled(origin)
            self._settle(origin, link, trio.current_time())
            return
        self.ledger.drop_dial(origin)
        waiter = self.ledger.next_waiter(origin)
        if waiter is not None:
            waiter.fail(failure)
        self._start_dials(origin)

    async def _open(self, origin: Origin) -> UpstreamLink:
        settings = origin.settings
        sock = await dial(origin.address, settings.connect_timeout)
        try:
            tune(sock, nodelay=settings.tcp_nodelay, keepalive=settings.tcp_keepalive)
            transport = Transport(sock, self._watch, Hop.UPSTREAM)
        except OSError as error:
            sock.close()
            detail = f"the connection to {origin.label} cannot be used: {error.strerror}"
            raise ConnectFailed(detail, 503, "proxy_internal_error") from error
        link = UpstreamLink(transport, origin.label, self, settings)
        origin.opened += 1
        if settings.pool.max_age:
            # Up to a tenth younger, so that links opened together do not all end together.
            link.old_at = link.opened + settings.pool.max_age * self._random.uniform(0.9, 1.0)
        self.links[link] = origin
        return link

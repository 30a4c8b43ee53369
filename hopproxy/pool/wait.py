"""The wait of one request in an origin's queue, or for its own dial."""

from __future__ import annotations

import math

from hopproxy.errors import Unanswered
from hopproxy.link.pooled import PooledLink
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin
from hopproxy.pool.reach import PATIENCE


class Wait:
    """A wait for a link, until `serve` or `fail`.

    `queued` while it is in an origin's queue; `left` once the request has gone.
    """

    __slots__ = ("_error", "_link", "_until", "_watch", "left", "queued", "timer_at", "waker")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.waker: Waker | None = None
        self.timer_at = math.inf
        self._until = math.inf
        self.left = self.queued = False
        self._link: PooledLink | None = None
        self._error: Exception | None = None

    def serve(self, link: PooledLink) -> None:
        """End the wait with a link, which is in use from now on."""
        self.queued = False
        self._link = link
        self._wake()

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        self.queued = False
        self._error = error
        self._wake()

    def on_time(self, now: float) -> float:
        """The deadline may have passed."""
        if now < self._until:
            return self._until
        self._wake()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        """`on_time` raised an unexpected exception."""
        self._error = error
        self._wake()

    async def settled(self, until: float) -> PooledLink | None:
        """Wait for a link; None if there is none at `until`.  Raises the error given to `fail`."""
        self._until = until
        self._watch.brief.wake_at(self, until)
        while self._link is None and self._error is None and self._watch.now() < until:
            await wait(self)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this frame
        link, self._link = self._link, None
        return link

    async def settled_or_left(self, origin: Origin, until: float) -> PooledLink | None:
        """As `settled`, for a request that may go to another origin.

        Raises Unanswered as well, if a dial to this one has not been answered for too long:
        `PATIENCE`, or less if there are so many origins that `connect_timeout` would not do.
        """
        now, reach = self._watch.now(), origin.reach
        patience = PATIENCE
        if origin.peers is not None:
            each = origin.settings.connect_timeout / len(origin.peers.members)
            patience = min(patience, each)
        sooner = PATIENCE - patience
        link = await self.settled(min(until, now + patience, max(now, reach.away_from - sooner)))
        if link is not None:
            return link
        if reach.away_from - sooner <= self._watch.now():
            raise Unanswered(f"{origin.label} has not accepted a connection yet")
        return await self.settled(until)

    def leave(self) -> PooledLink | None:
        """Stop waiting.  Returns a link that arrived at the same moment, to be given back."""
        self.left = True
        self._watch.brief.forget_deadline(self)
        link, self._link = self._link, None
        return link

    def _wake(self) -> None:
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

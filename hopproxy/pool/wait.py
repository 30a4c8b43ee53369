"""One request in the queue of an origin, or waiting for a dial of its own."""

from __future__ import annotations

import math

from hopproxy.errors import Unanswered
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin
from hopproxy.pool.reach import PATIENCE


class Wait:
    """A wait for a link, until it is served or failed; `left` once nobody waits any more."""

    __slots__ = ("_error", "_link", "_until", "_watch", "left", "timer_at", "waker")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.waker: Waker | None = None
        self.timer_at = math.inf
        self._until = math.inf
        self.left = False
        self._link: UpstreamLink | None = None
        self._error: Exception | None = None

    def serve(self, link: UpstreamLink) -> None:
        """Here is a link."""
        self._link = link
        self._wake()

    def fail(self, error: Exception) -> None:
        """No link will come."""
        self._error = error
        self._wake()

    def on_time(self, now: float) -> float:
        """Told by the watch: it may be too late."""
        if now < self._until:
            return self._until
        self._wake()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        """Told by the watch: a fault of ours."""
        self.fail(error)

    async def settled(self, until: float) -> UpstreamLink | None:
        """Wait for a link; None if there is none yet at `until`.  Raises why none will come."""
        self._until = until
        self._watch.wake_at(self, until)
        while self._link is None and self._error is None and self._watch.now() < until:
            await wait(self)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it holds this frame
        link, self._link = self._link, None
        return link

    async def served(self, origin: Origin, *, leave: bool) -> UpstreamLink | None:
        """Wait in the queue of an origin, until `queue_timeout`.

        Raises as `settled`, and Unanswered where the caller may `leave` for another origin and a
        dial has been under way for too long.
        """
        now, reach = self._watch.now(), origin.reach
        until = now + origin.settings.pool.queue_timeout
        if leave:
            link = await self.settled(min(until, now + PATIENCE, max(now, reach.away_from)))
            if link is not None:
                return link
            if reach.away_from <= self._watch.now():
                raise Unanswered(f"{origin.label} has not accepted a connection yet")
        link = await self.settled(until)
        if link is None and origin.waiters.index(self) < origin.dialling:
            # A dial that is under way for this caller has its own bound: connect_timeout.
            link = await self.settled(math.inf)
        return link

    def leave(self) -> UpstreamLink | None:
        """Nobody waits any more; the link that had been served meanwhile, to be given back."""
        self.left = True
        self._watch.forget_deadline(self)
        link, self._link = self._link, None
        return link

    def _wake(self) -> None:
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

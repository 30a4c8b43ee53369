"""Trial dials to the origins of an upstream that are down, one at a time for each origin."""

import math

from hopproxy.link.faults import report
from hopproxy.link.pooled import PooledLink
from hopproxy.link.watch import Watch
from hopproxy.pool.connector import Opened
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.wire.proxy_protocol import own_header


class Trials:
    """The trial dials to one upstream's origins."""

    fd = -1  # no socket, only deadlines
    closed = readable = urgent = False

    def __init__(self, pool: Pool, watch: Watch) -> None:
        self.timer_at = math.inf
        self._origins: list[Origin] = []
        self._pool = pool
        self._watch = watch

    def add(self, origin: Origin) -> None:
        """Add an origin."""
        self._origins.append(origin)
        self._pool.connector.plans[origin] = self.plan
        self.plan()

    def remove(self, origin: Origin) -> None:
        """Remove an origin."""
        self._origins.remove(origin)

    def plan(self) -> None:
        """Schedule the next trial dial."""
        self._watch.wake_at(self, self._next())

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: try again in a second."""
        report(error, "a trial of an origin that is down")
        self._watch.wake_at(self, self._watch.now() + 1.0)

    def on_time(self, now: float) -> float:
        """Dial the origins that are due."""
        alone = self._none_reached()
        for origin in list(self._origins):
            if origin.reach.trial_at(alone) <= now:
                self._begin(origin)
        return self._next()

    def on_ready(self, hung_up: bool) -> None:
        """Not used: there is no socket."""

    def _none_reached(self) -> bool:
        return not any(origin.reach.reached for origin in self._origins)

    def _next(self) -> float:
        alone = self._none_reached()
        return min((origin.reach.trial_at(alone) for origin in self._origins), default=math.inf)

    def _begin(self, origin: Origin) -> None:
        """Dial an origin; put it off if there is no room for a connection."""
        pool = self._pool
        due, evicted = (False, None) if pool.closing else pool.ledger.start_trial(origin)
        pool.make_room(evicted)
        if due:
            header = own_header(origin.settings.proxy_protocol)
            pool.connector.begin(origin, self._ended, trial=True, header=header)
        else:
            pool.connector.untold(origin)

    def _ended(self, origin: Origin, opened: Opened) -> None:
        """A trial has ended; if there is a link, it goes to a waiting request."""
        pool = self._pool
        won = isinstance(opened, PooledLink)
        pool.ledger.end_trial(origin, won=won)
        if isinstance(opened, PooledLink):
            pool.arrived(origin, opened)
        elif not pool.stopped:
            pool.start_dials(origin)

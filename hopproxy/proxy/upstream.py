"""What a route leads to."""

from hopproxy.link.origin_tls import Secured, Trust, mark_of
from hopproxy.link.watch import Watch
from hopproxy.pool import change
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.trials import Trials
from hopproxy.proxy.hold import Hold
from hopproxy.proxy.tally import Tally
from hopproxy.routing.balancer import RoundRobin
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings


class Upstream:
    """The origins of one upstream, the pool of links to them, and its counters.

    A request keeps the upstream that it began with, also if the settings change.  Origins that are
    down get trial dials; with `sought` all origins do from the start.
    """

    def __init__(
        self, name: str, settings: UpstreamSettings, pool: Pool, watch: Watch, *, sought: bool
    ) -> None:
        self.name = name
        self.settings = settings
        self.pool = pool
        self.hold = Hold(watch)
        self.tally = Tally()
        self.tally.limit(settings.max_requests_in_flight)
        self.balancer: RoundRobin[Origin] = RoundRobin([])
        self._trials = Trials(pool, watch)
        self._trust: Trust | None = None
        for address in settings.origins:
            self.add(address, sought=sought)

    def add(self, address: OriginAddress, *, sought: bool = False) -> Origin:
        """Add an origin; its turn comes last."""
        origin = self.pool.add(address, self.settings)
        if address.scheme == "https":
            self._trust = self._trust or Trust(self.settings.tls, offered(self.settings))
            origin.secured = Secured(address, self._trust, self.pool.connector.handshakes)
        origin.reach.sought = sought
        self.balancer.add(origin)
        self._trials.add(origin)
        return origin

    def remove(self, origin: Origin) -> None:
        """Remove an origin.  Requests that wait for one of its links go to another origin.

        Its idle links close, those in use when they become free.  Raises ValueError for the last
        origin.
        """
        self.balancer.remove(origin)
        self._trials.remove(origin)
        change.remove(self.pool, origin)

    def renew(self) -> None:
        """Use the certificates that the files hold now, if they have changed.  Raises OSError."""
        before = self._trust
        if before is None or before.mark == mark_of(self.settings.tls):
            return
        self._trust = Trust(self.settings.tls, offered(self.settings))
        for origin in self.balancer.members:
            if origin.secured is not None:
                origin.secured.renew(self._trust)

    def is_reached(self) -> bool:
        """Whether an origin was reached by the last dial to it."""
        return any(origin.reach.reached for origin in self.balancer.members)

    def drain(self) -> None:
        """Take no new requests; those in progress go on to their end.

        Idle links close, those in use when they become free.
        """
        for origin in self.balancer.members:
            self._trials.remove(origin)
            change.drain(self.pool, origin)


def offered(settings: UpstreamSettings) -> tuple[str, ...]:
    """The protocols that we offer to the origins of an upstream (ALPN)."""
    if settings.proxy_protocol != "off":
        return ("http/1.1",)
    return ("h2", "http/1.1") if settings.protocol == "auto" else (settings.protocol,)

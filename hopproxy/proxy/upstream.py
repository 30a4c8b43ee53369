"""What a route leads to."""

from hopproxy.link.origin_tls import Secured, Trust, mark_of
from hopproxy.link.stream import ClientStream
from hopproxy.link.watch import Watch
from hopproxy.message import RequestHead
from hopproxy.pool import change
from hopproxy.pool.origin import Origin
from hopproxy.pool.peers import Peers
from hopproxy.pool.pool import Pool
from hopproxy.pool.reach import OUT_FOR, PATIENCE
from hopproxy.pool.silence import Silence
from hopproxy.pool.trials import Trials
from hopproxy.proxy.hold import Hold
from hopproxy.proxy.tally import Tally
from hopproxy.proxy.twins import Twins
from hopproxy.routing.balancer import Balancer
from hopproxy.routing.ring import Ring, hash_of
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings

#: How many times longer a trial may take than the slowest response that was seen lately.
TRIAL_TIMES = 1.5


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
        #: Requests with a link although little of their body had arrived.
        self.slow_uploads = 0
        self.tally = Tally()
        self.tally.limit(settings.max_requests_in_flight)
        balance = settings.balance
        self.balancer: Balancer[Origin] = Ring() if balance.policy == "hash" else Balancer()
        self.balancer.ignores_load = balance.policy == "round_robin"
        self.peers = Peers(self.balancer.members, self._requests)
        self._silence = Silence(watch, pool.links, self.peers)
        self._by = balance.by
        self._field = balance.name.encode()
        self._trials = Trials(pool, watch)
        self._trust: Trust | None = None
        self.twins = Twins(settings, pool)
        for address in settings.origins:
            self.add(address, sought=sought)

    def add(self, address: OriginAddress, *, sought: bool = False) -> Origin:
        """Add an origin; its turn comes last."""
        origin = self.pool.add(address, self.settings)
        if address.scheme == "https":
            self._trust = self._trust or Trust(self.settings.tls, offered(self.settings))
            origin.secured = Secured(address, self._trust, self.pool.connector.handshakes)
        origin.reach.sought = sought
        origin.peers = self.peers
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
        self.twins.remove(origin)
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
        self.twins.renew()

    def is_reached(self) -> bool:
        """Whether an origin was reached by the last dial to it."""
        return any(origin.reach.reached for origin in self.balancer.members)

    def has_room_for_upload(self) -> bool:
        """Whether a body that arrives slowly may have a link: half of all are left to others."""
        links = sum(origin.max_connections for origin in self.balancer.members)
        return self.slow_uploads < links / 2

    def drain(self) -> None:
        """Take no new requests; those in progress go on to their end.

        Idle links close, those in use when they become free.
        """
        for origin in self.balancer.members:
            self._trials.remove(origin)
            change.drain(self.pool, origin)
        self.twins.drain()

    # -- the choice of an origin, if there are several ---------------------------------------

    def pick(self, client: ClientStream, request: RequestHead, *, movable: bool) -> Origin:
        """The origin of a request; it is `movable` if another one may still get it.

        If it tries an origin that is out, others pass that until its outcome is known.
        """
        if not self._silence.awake:
            self._silence.wake()
        now = client.since
        # Whoever cannot be moved tries an origin only if nobody else has for a while.
        due = now if movable else now - OUT_FOR
        origin = self.balancer.pick(now, self._key(client, request) if self._by else 0, due=due)
        if origin.reach.is_due(due):
            longest = self.trial_patience if movable else self.settings.response_timeout
            origin.reach.asked(now + longest + PATIENCE)
        return origin

    def patience(self, origin: Origin, now: float) -> float:
        """How long a movable request may wait for a response; 0: as long as any."""
        if origin.reach.calm or not self.peers.chances(origin, now):
            return 0.0
        return self.trial_patience if origin.reach.passed_until > now else 0.0

    @property
    def trial_patience(self) -> float:
        """How long a movable request may wait that tries an origin."""
        return max(PATIENCE, TRIAL_TIMES * self.peers.slowest)

    def _key(self, client: ClientStream, request: RequestHead) -> int:
        """What a request is hashed by; 0 if it lacks that."""
        if self._by == "client":
            named = client.sender.client(request) if client.sender.trusted else ""
            return hash_of((named or client.sender.peer).encode())
        if self._by == "header":
            values = request.values(self._field.lower())
            return hash_of(b", ".join(values)) if values else 0
        for line in request.values(b"cookie"):
            for crumb in line.split(b";"):
                name, mark, value = crumb.strip().partition(b"=")
                if mark and name == self._field:
                    return hash_of(value)
        return 0

    def _requests(self) -> int:
        """The requests so far, those under way included."""
        under_way = sum(one.in_use + len(one.waiters) for one in self.balancer.members)
        return sum(self.tally.statuses.values()) + under_way


def offered(settings: UpstreamSettings) -> tuple[str, ...]:
    """The protocols that we offer to the origins of an upstream (ALPN)."""
    if settings.proxy_protocol != "off":
        return ("http/1.1",)
    return ("h2", "http/1.1") if settings.protocol == "auto" else (settings.protocol,)

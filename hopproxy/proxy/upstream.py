"""The origins of an upstream while serving, and the choice among them."""

from collections.abc import Iterable, Sequence
from functools import partial

from hopproxy.link.dial import known_targets
from hopproxy.link.origin_tls import Secured, Trust, mark_of
from hopproxy.link.stream import ClientStream
from hopproxy.link.watch import Watch
from hopproxy.message import RequestHead
from hopproxy.pool import change
from hopproxy.pool.checked import State, Turns
from hopproxy.pool.former import Former
from hopproxy.pool.names import Name
from hopproxy.pool.origin import Origin
from hopproxy.pool.peers import Peers
from hopproxy.pool.pool import Pool
from hopproxy.pool.reach import OUT_FOR, PATIENCE
from hopproxy.pool.silence import Silence
from hopproxy.pool.trials import Trials
from hopproxy.proxy.checks import Checks
from hopproxy.proxy.hold import Hold
from hopproxy.proxy.tally import Tally
from hopproxy.proxy.twins import Twins
from hopproxy.routing.balancer import Balancer
from hopproxy.routing.ring import Ring, hash_of
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings

#: How long a trial may take, as a multiple of the slowest recent response.
TRIAL_TIMES = 1.5


class Upstream:
    """The origins of one upstream, the pool of links to them, and its counters.

    A request keeps the upstream that it began with, also if the settings change.  Origins that are
    down get trial dials; with `sought` all origins do from the start.
    """

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        pool: Pool,
        watch: Watch,
        *,
        sought: bool,
        dns_interval: float = 10.0,
        turns: Turns | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.pool = pool
        self.hold = Hold(watch)
        #: Requests that got a link although little of their body had arrived.
        self.slow_uploads = 0
        #: Requests whose body is waited for before they get a link.
        self.gathering = 0
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
        self._checks: Checks | None = None
        if settings.health.check is not None:
            self._checks = Checks(pool, watch, settings, name, turns or Turns())
        self._trust: Trust | None = None
        self.twins = Twins(settings, pool)
        self._watch = watch
        self.dns_interval = dns_interval
        self._sought = sought
        #: What the settings list, and the origins that each entry stands for.
        self._entries: dict[OriginAddress, list[Origin]] = {}
        self.names: dict[OriginAddress, Name] = {}
        self.former = Former()
        for address in settings.origins:
            self.add(address, sought=sought)

    def add(self, address: OriginAddress, *, sought: bool = False) -> Origin:
        """Add an origin; its turn comes last.

        A name is followed: once it is resolved, each of its addresses is an origin in its place.
        """
        origin = self._join(address, sought=sought)
        self._entries[address] = [origin]
        if known_targets(address) is None:
            changed = partial(self._resolved, address)
            resolver = self.pool.connector.resolver
            self.names[address] = Name(address, resolver, self._watch, self.dns_interval, changed)
        return origin

    def change(self, addresses: Sequence[OriginAddress], *, sought: bool) -> None:
        """Change the list of origins; those that stay keep their links."""
        self._sought = sought
        for address in addresses:
            if address not in self._entries:
                self.add(address, sought=sought)
            elif (name := self.names.get(address)) is not None:
                name.entry = address  # its weight may have changed
                name.hurry()
            else:
                for origin in self._entries[address]:
                    origin.weight, origin.priority = address.weight, address.priority
        for entry in [entry for entry in self._entries if entry not in addresses]:
            name = self.names.pop(entry, None)
            if name is not None:
                name.stop()
            for origin in self._entries.pop(entry):
                self._leave(origin)
        for name in self.names.values():
            name.interval = self.dns_interval
        self.balancer.settle()

    def _resolved(self, entry: OriginAddress, addresses: list[OriginAddress]) -> None:
        """The addresses of a name have changed; there may be none."""
        members = self._entries[entry]
        now, first = self._watch.now(), members[0]
        there = {origin.address: origin for origin in members}
        found = addresses or [entry]
        self._entries[entry] = after = []
        for address in found:
            origin = there.pop(address, None)
            if origin is None:
                origin = self._join(address, sought=self._sought)
                self.pool.connector.plans[origin] = partial(self._dial_failed, entry)
                if first.address != entry:
                    origin.reach.joined(now)
            origin.weight, origin.priority = address.weight, address.priority
            after.append(origin)
        for origin in there.values():
            self._leave(origin)
        self.balancer.settle()

    def _dial_failed(self, entry: OriginAddress) -> None:
        """An address of a name cannot be reached: look the name up again."""
        self._trials.plan()
        if (name := self.names.get(entry)) is not None:
            name.hurry()

    def _join(self, address: OriginAddress, *, sought: bool) -> Origin:
        origin = self.pool.add(address, self.settings)
        if address.scheme == "https":
            self._trust = self._trust or Trust(self.settings.tls, offered(self.settings))
            origin.secured = Secured(address, self._trust, self.pool.connector.handshakes)
        self.former.give_back(origin)
        origin.reach.sought = sought
        origin.peers = self.peers
        self.balancer.add(origin)
        self._trials.add(origin)
        if self._checks is not None:
            self._checks.add(origin)
        return origin

    def remove(self, origin: Origin) -> None:
        """Remove an origin.  Requests that wait for one of its links go to another origin.

        Its idle links close, those in use when they become free.  Raises ValueError for the last
        origin.
        """
        self._leave(origin)
        for entry, members in list(self._entries.items()):
            if members == [origin]:
                del self._entries[entry]

    def _leave(self, origin: Origin) -> None:
        self.balancer.remove(origin)
        self._trials.remove(origin)
        if self._checks is not None:
            self._checks.remove(origin)
        self.twins.remove(origin)
        change.remove(self.pool, origin)
        self.former.keep(origin)

    def renew(self) -> None:
        """Read the certificates again if their files have changed.  Raises OSError."""
        before = self._trust
        if before is None or before.mark == mark_of(self.settings.tls):
            return
        self._trust = Trust(self.settings.tls, offered(self.settings))
        for origin in self.balancer.members:
            if origin.secured is not None:
                origin.secured.renew(self._trust)
        self.twins.renew()

    def is_reached(self) -> bool:
        """Whether there is an origin whose last dial succeeded and whose checks do not fail."""
        reaches = [origin.reach for origin in self.balancer.members]
        return any(reach.reached and not reach.checked_down for reach in reaches)

    def has_room_for_upload(self) -> bool:
        """Whether a body that arrives slowly may have a link: half of all links are for others.

        So is half of `max_requests_in_flight`.
        """
        most = sum(origin.max_connections for origin in self.balancer.members)
        if self.tally.under_way is not None:
            most = min(most, self.tally.under_way.most)
        return self.slow_uploads < most / 2

    def is_full(self) -> bool:
        """Whether more requests wait for their bodies than could wait for a link."""
        members = self.balancer.members
        return self.gathering >= sum(one.max_connections + one.queue_size for one in members)

    def hear_check(self, label: str, state: State) -> None:
        """Another worker has checked an origin, or has begun to."""
        if self._checks is not None:
            self._checks.hear(label, state)

    def rest(self) -> None:
        """Stop looking up names and checking origins."""
        for name in self.names.values():
            name.stop()
        if self._checks is not None:
            self._checks.stop()
            self._checks = None

    def count_on(self, tally: Tally, former: Former, left: Iterable[Origin]) -> None:
        """Take over the counters of the upstream before this one, and of its origins."""
        self.tally = tally
        tally.limit(self.settings.max_requests_in_flight)
        self.former.succeed(former, left, self.balancer.members)

    def links_counted(self) -> tuple[int, int]:
        """How many links its origins have opened, and how many requests took an idle one."""
        members, former = self.balancer.members, self.former
        opened = former.opened + sum(origin.opened for origin in members)
        return opened, former.reused + sum(origin.reused for origin in members)

    def drain(self) -> None:
        """Take no new requests; those in progress go on to their end.

        Idle links close, those in use when they become free.
        """
        self.rest()
        for origin in self.balancer.members:
            self._trials.remove(origin)
            change.drain(self.pool, origin)
        self.twins.drain()

    # -- the choice of an origin, if there are several ---------------------------------------

    def pick(self, client: ClientStream, request: RequestHead, *, movable: bool) -> Origin:
        """The origin of a request; it is `movable` if another one may still get it.

        If it tries an origin that is out, other requests avoid that origin until the result is
        known.
        """
        if not self._silence.awake:
            self._silence.wake()
        now = client.since
        # A request that cannot move tries an origin only if no other has tried it for a while.
        due = now if movable else now - OUT_FOR
        origin = self.balancer.pick(now, self._key(client, request) if self._by else 0, due=due)
        if origin.reach.is_due(due):
            longest = self.trial_patience if movable else self.settings.response_timeout
            origin.reach.asked(now + longest + PATIENCE)
        return origin

    def patience(self, origin: Origin, now: float) -> float:
        """How long a movable request may wait for a response; 0: as long as others."""
        if origin.reach.calm or not self.peers.chances(origin, now):
            return 0.0
        return self.trial_patience if origin.reach.passed_until > now else 0.0

    @property
    def trial_patience(self) -> float:
        """How long a movable request that tries an origin may wait."""
        return max(PATIENCE, TRIAL_TIMES * self.peers.slowest)

    def _key(self, client: ClientStream, request: RequestHead) -> int:
        """The hash of a request; 0 if it lacks the field or cookie."""
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

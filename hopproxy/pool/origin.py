"""One origin as the pool sees it: its share, its limits, what was learned about it."""

import math
import random

from hopproxy.link.origin_tls import OriginTransport, Secured
from hopproxy.link.pooled import PooledLink
from hopproxy.link.tcp import unacknowledged
from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.idle_timeout import SAFE, SOON, Sign, usable
from hopproxy.pool.known import Known
from hopproxy.pool.ledger import Share
from hopproxy.pool.peers import Peers
from hopproxy.pool.reach import Reach
from hopproxy.reasons import UNUSED_AFTER, CloseReason, Hop, Limit, Source, Unused, setting_behind
from hopproxy.routing.latency import Latency
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import ASSUMED_STREAMS

#: Statuses from here on are errors of an origin.
ERRORS = 500


class Origin(Share[PooledLink]):
    """One origin: its address, its settings, its share of the pool.

    `secured` is TLS with it, None without TLS.  `protocol` is http/1.1, h2 or auto (by ALPN).
    `connects` if its HTTP/2 allows WebSockets, None if that is not known.  `streamed` once it has
    had an HTTP/2 link, whose streams are lent (`pool.shared`); before that all its links speak
    HTTP/1.1.  `reach` says whether it is up.  `removed` once no request may begin with it.  `bound`
    counts its links that are bound to one client, idle or in use.  `limited` if its links have a
    limit of requests or age, or are not pooled.  The results of `learned` are kept in attributes,
    since every request needs them: `limit` and its value `idle_timeout`, `young`, `proven`, and
    `counted` (requests after which the origin closes).  `weight`, `priority`, `share`, `turn` and
    `credit` are for the balancer (`routing.balancer`), and `latency` is too.  `peers` are the
    origins of its upstream, `heard_at` is when a link that has ended had its last response.
    `as_set` if nothing was known when the results were set.
    """

    __slots__ = (
        "address", "as_set", "authority", "bound", "connects", "counted", "credit", "delayed_ack",
        "expectation", "heard_at", "idle_timeout", "known", "label", "last_end", "latency",
        "learned", "limit", "limited", "opened", "peers", "priority", "protocol", "proven", "reach",
        "removed", "reused", "secured", "settings", "share", "streamed", "turn", "unheard",
        "unused", "weight", "young",
    )  # fmt: skip

    def __init__(self, address: OriginAddress, settings: UpstreamSettings, known: Known) -> None:
        pool = settings.pool
        super().__init__(pool.max_connections, pool.max_idle, pool.queue)
        self.address = address
        self.settings = settings
        self.label = str(address)
        self.authority = address.authority.encode()
        self.protocol = _protocol(address, settings)
        self.connects: bool | None = None
        if self.protocol != "http/1.1":
            self.each = ASSUMED_STREAMS
        self.secured: Secured | None = None
        self.weight, self.priority = address.weight, address.priority
        self.share, self.turn, self.credit = 1.0, 0.0, 0.0
        self.latency = Latency()
        self.peers: Peers | None = None
        health = settings.health
        self.reach = Reach(
            random.random,
            most=health.failures,
            slow_start=health.slow_start,
            fails_from=min((*health.statuses, ERRORS)),
        )
        self.heard_at = -math.inf
        self.removed = self.streamed = False
        self.bound = 0
        self.known = known
        self.learned = known.learned
        self.unheard = known.unheard
        self.expectation = known.expectation
        self.delayed_ack = known.delayed_ack
        self.learned.longest = max(self.learned.longest, pool.idle_timeout)
        known.origins.append(self)
        self.idle_timeout = 0.0
        self.refresh(0.0)
        self.opened = 0
        self.reused = 0
        self.last_end: CloseReason | None = None
        #: How often a link was opened although there had been others, by reason.
        self.unused: dict[Unused, int] = {}

    __hash__ = object.__hash__

    def refresh(self, now: float) -> None:
        """Apply what was learned.  Idle links may have to be retired sooner."""
        learned, pool = self.learned, self.settings.pool
        before = self.idle_timeout
        self.limit = self.limit_at(now)
        self.idle_timeout = self.limit.value
        self.young = learned.young(now, pool.idle_timeout, pool.young_share, learns=pool.learn)
        self.counted = learned.requests(now) if pool.learn else None
        self.proven = learned.proven if pool.learn else math.inf
        self.as_set = learned.blank
        self.limited = bool(
            pool.max_requests
            or pool.max_age
            or self.counted
            or self.idle_timeout <= 0
            or self.removed
        )
        if self.idle_timeout < before:
            for link in (*self.idle, *self.bound_idle):
                link.transport.rest_until(self.idle_until(link, link.since))

    def limit_at(self, now: float) -> Limit:
        """The idle age at which a link is retired, as known now."""
        pool = self.settings.pool
        return self.learned.limit(now, pool.idle_timeout, learns=pool.learn)

    def limit_reached(self, link: PooledLink, now: float) -> CloseReason | None:
        """Why a link that has just served must not be used again, None if it may."""
        pool = self.settings.pool
        if self.removed and not self.waiters:
            return CloseReason.ORIGIN_REMOVED
        if pool.max_requests and link.served >= pool.max_requests:
            return CloseReason.REQUEST_LIMIT
        if link.reuses_left is not None and link.reuses_left <= 0:
            return CloseReason.HINT
        if now >= link.old_at:
            return CloseReason.MAX_AGE
        if self.counted and link.served >= self.counted:
            return CloseReason.LEARNED
        if self.idle_timeout <= 0 and not self.waiters:
            return CloseReason.HINT if self.limit.source is Source.HINT else CloseReason.LEARNED
        return None

    def idle_limit(self, link: PooledLink) -> Limit:
        """How long this link may be idle."""
        if link.keep_for < self.idle_timeout:
            return Limit(link.keep_for, Source.HINT)
        return self.limit

    def idle_until(self, link: PooledLink, now: float) -> float:
        """When a link that is idle from `now` is retired."""
        timeout, keep_for, old_at = self.idle_timeout, link.keep_for, link.old_at
        # Each request gets here, and `min` takes longer.
        until = now + (keep_for if keep_for < timeout else timeout)  # noqa: FURB136
        return old_at if old_at < until else until  # noqa: FURB136

    def lapsed(self, link: PooledLink, now: float) -> CloseReason:
        """Why an idle link is retired now."""
        if self.removed:
            return CloseReason.ORIGIN_REMOVED
        return CloseReason.MAX_AGE if now >= link.old_at else _LAPSED[self.idle_limit(link).source]

    def limit_on(self, link: PooledLink, reason: CloseReason) -> Limit | None:
        """The limit behind the end of a link, for the record."""
        if reason is CloseReason.HINT and link.reuses_left is not None and link.reuses_left <= 0:
            return Limit(link.served, Source.HINT)
        if reason is CloseReason.LEARNED and self.counted and link.served >= self.counted:
            return Limit(self.counted, Source.LEARNED)
        if reason in _OF_IDLENESS:
            begun = link.served == 1 and not link.answered
            return None if begun else self.idle_limit(link)
        if reason is CloseReason.MADE_ROOM and self.size < self.max_connections:
            return None  # room was needed for another origin
        return setting_behind(reason, self.settings.pool) or setting_behind(reason, self.settings)

    def remove(self) -> None:
        """Begin no more requests.  Links are kept only for requests that already wait."""
        self.removed = self.limited = True
        self.max_idle = 0
        self.known.origins.remove(self)

    # -- learning ----------------------------------------------------------------------------

    def saw_close(self, link: PooledLink, age: float, now: float, sign: Sign = Sign.TOLD) -> None:
        """The origin ended a link that was idle for `age`: learn from it."""
        if not self.settings.pool.learn:
            return
        # A request without a response does not count as served.
        served = link.served if link.answered else max(0, link.served - 1)
        most = max((other.served for other in self.idle), default=0) if age < SOON else 0
        self.learned.closed_idle(age, served, now, sign, most)
        self.known.refresh(now)
        tell = self.known.news.tell
        if tell is not None and age >= SOON:
            tell(self.label, (age, served, sign.value, most))

    def outlived(self, age: float, now: float) -> None:
        """A link idle for `age` was still open: a request on it was answered, or we closed it."""
        if self.settings.pool.learn:
            self.learned.reused_well(age)
        self.known.refresh(now)

    def hinted(self, link: PooledLink, timeout: float, now: float) -> None:
        """A response has announced how long the origin keeps its link idle."""
        link.keep_for = usable(timeout, self.learned.rtt)
        self.learned.hinted(timeout)
        self.known.refresh(now)

    def heard(self, link: PooledLink, now: float) -> None:
        """A link has answered for the first time."""
        self.unheard.heard(link, now)
        if isinstance(link.transport, OriginTransport):
            link.transport.secured.keep_session(link.transport)

    def ended(self, link: PooledLink, reason: CloseReason, now: float) -> bool:
        """A link has ended.  True if the origin has refused it with a TLS alert."""
        self.last_end = reason
        if link.answered:
            self.heard_at = now
        self.learned.passed(link.served - (1 if link.answered else 2))
        self.unheard.ended(link)
        transport = link.transport
        if not isinstance(transport, OriginTransport):
            return False
        transport.secured.handshakes.saved[Hop.UPSTREAM] += transport.saves(link.served)
        return transport.alerted

    def died_idle(self, link: PooledLink, reason: CloseReason, now: float) -> Sign | None:
        """How a link had ended before its request failed; None if the request may be the cause.

        A process that crashes on a request says nothing about idle limits.  The link counts only if
        it was idle for a while, no response began, and it failed at once or without an ACK.
        """
        if reason not in _DEATHS or link.idled < SAFE or not link.reused or link.answered:
            return None
        if reason is CloseReason.RESPONSE_TIMEOUT:
            return Sign.SILENT if unacknowledged(link.transport.fd) > 0 else None
        silence = now - link.since - link.idled
        if 0 < self.settings.tcp_user_timeout <= silence:
            return Sign.SILENT
        if silence > SAFE:
            return None
        return Sign.TOLD if reason is CloseReason.PEER_CLOSED else Sign.RESET

    # -- checking out ------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """How many requests are under way."""
        return self.in_use - len(self.lent) + self.streams if self.lent else self.in_use

    def has_young(self, now: float) -> bool:
        """Whether the warmest idle link may carry a request that cannot be retried."""
        for link in reversed(self.idle):
            own = link.keep_for * self.settings.pool.young_share
            return now - link.since <= min(self.young, own)
        return False

    def why_unused(self) -> Unused | None:
        """Why none of the existing links, or of the last ones, can be used."""
        if self.idle:
            return Unused.METHOD
        if self.in_use or self.bound_idle:
            own = self.bound == self.in_use + len(self.bound_idle)
            return Unused.PRIVATE if own else Unused.ALL_BUSY
        ended = self.last_end
        return None if ended is None else UNUSED_AFTER.get(ended, Unused.FAILED)

    def bind(self, link: PooledLink, status: int) -> None:
        """A client has sent credentials for this link and got a response with `status`."""
        if not link.bound:
            link.bound = True
            self.bound += 1
        link.greeting = status == 401

    def begin(self, link: UpstreamLink, why: Unused | None, now: float) -> None:
        """A link begins to serve.  If it is fresh, note `why` it was opened."""
        link.begin()
        if link.served == 1:
            self.unheard.begin(link, now)
        if why is not None and not link.reused:
            link.unused = why
            self.unused[why] = self.unused.get(why, 0) + 1


def _protocol(address: OriginAddress, settings: UpstreamSettings) -> str:
    """What is spoken to an origin: `http/1.1`, `h2`, or `auto` if it chooses by ALPN."""
    if address.scheme == "h2c":
        return "h2"
    if settings.proxy_protocol != "off":
        return "http/1.1"
    if settings.protocol == "auto" and address.scheme != "https":
        return "http/1.1"
    return settings.protocol


#: How a request fails on a link that ended before it was sent.
_DEATHS = (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET, CloseReason.RESPONSE_TIMEOUT)

#: Why a link is retired, by the source of its idle limit.
_LAPSED = {
    Source.SETTING: CloseReason.IDLE_TIMEOUT,
    Source.HINT: CloseReason.HINT,
    Source.LEARNED: CloseReason.LEARNED,
}

#: Reasons related to an idle limit, ours or the origin's.
_OF_IDLENESS = frozenset(
    {
        CloseReason.PEER_CLOSED,
        CloseReason.PEER_RESET,
        CloseReason.UNSOLICITED,
        CloseReason.IDLE_TIMEOUT,
        CloseReason.HINT,
        CloseReason.LEARNED,
    }
)

"""One worker's state, built from the settings: the pool, the upstreams, the routes."""

import os
import time
from collections.abc import Callable
from typing import Any

import trio
from msgspec.structs import replace

from hopproxy.certificates import examine
from hopproxy.link.clients import Clients
from hopproxy.link.watch import Watch
from hopproxy.pool import change
from hopproxy.pool.checked import State, Turns
from hopproxy.pool.pool import Pool
from hopproxy.proxy.gone import Gone
from hopproxy.proxy.guard import guard_of
from hopproxy.proxy.route import RouteTerms
from hopproxy.proxy.tally import Tally
from hopproxy.proxy.terms import Log, Page, Terms
from hopproxy.proxy.upstream import Upstream
from hopproxy.record import Closes
from hopproxy.routing.plan import plan_of
from hopproxy.routing.rates import SIZE, Rates
from hopproxy.rules.hop import Underscores
from hopproxy.server.board import Board
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.upstream import UpstreamSettings


class Reloads:
    """How often settings were read again, and the result of the last time.  Times are Unix time."""

    def __init__(self) -> None:
        self.done = self.failed = 0
        self.last_failed = False
        #: When settings were read last, and when those in use were read.
        self.last_at = self.in_use_since = time.time()

    def recall(self, last_at: float, in_use_since: float, *, failed: bool) -> None:
        """Results from before this worker."""
        self.last_at, self.in_use_since, self.last_failed = last_at, in_use_since, failed

    def note(self, *, done: bool, at: float, counted: bool = True) -> None:
        """Settings were read; `done` if they are in use now.  One of the workers counts it."""
        self.last_at = at
        self.last_failed = not done
        self.done += counted and done
        self.failed += counted and not done
        if done:
            self.in_use_since = self.last_at


class Runtime:
    """One worker's state: what stays (links, counters), and what is made from its settings."""

    def __init__(
        self,
        settings: Settings,
        watch: Watch,
        log: Log | None = None,
        page: Page | None = None,
        board: Board | None = None,
    ) -> None:
        self.watch = watch
        self.board = board  # what all workers share, if there are workers
        self._rates: Rates | None = None
        self._turns = Turns()
        self.closes = Closes()
        self.pool = Pool(watch, settings.max_upstream_connections, self.closes)
        self.handshakes = self.pool.connector.handshakes  # one queue for both hops
        self.clients = Clients(settings.client.max_connections)
        self.clients.streams.most = settings.client.max_total_streams
        self.upstreams: dict[str, Upstream] = {}
        #: Upstreams of earlier settings.
        self.gone = Gone()
        #: Counters by upstream; "" is for requests without one.  Observers keep a reference.
        self.tallies: dict[str, Tally] = {}
        self.terms = self._made_of(settings)
        self.terms.log = log
        self.terms.page = page
        self._name_tallies()
        self.started = trio.current_time()
        self.reloads = Reloads()
        #: As the file has them; `settings` are this worker's part.
        self.as_read = settings

    def apply(self, settings: Settings) -> None:
        """Use these settings for new requests and new client links.

        Requests in progress keep their settings.  An upstream of which only the origins have
        changed keeps its links to those that stay; after any other change its links are opened
        anew.  Counters continue, by the name of the upstream.  See also `Gateway.apply` and
        `Worker.apply`.
        """
        self.clients.limit = settings.client.max_connections
        self.clients.streams.most = settings.client.max_total_streams
        change.resize(self.pool, settings.max_upstream_connections)
        before, self.terms = self.terms, self._made_of(settings)
        self.terms.succeed(before)
        self._name_tallies()

    def _name_tallies(self) -> None:
        self.tallies.clear()
        self.tallies[""] = self.terms.unrouted
        self.tallies.update(self.gone.tallies())
        self.tallies.update((name, upstream.tally) for name, upstream in self.upstreams.items())

    def _made_of(self, settings: Settings) -> Terms:
        """Make the upstreams and routes for these settings, reusing existing upstreams."""
        self.settings = settings
        self.certificates = examine(settings, time.time()).held
        before, self.upstreams = self.upstreams, {}
        for name, upstream in settings.upstreams.items():
            self.upstreams[name] = self._upstream(name, upstream, before.get(name))
        for old in before.values():
            if old is not self.upstreams.get(old.name):
                old.drain()
            if old.name not in self.upstreams:
                self.gone.add(old)
        routes = settings.routes or (Route(upstream=next(iter(self.upstreams))),)
        terms = Terms(
            [(route, self._route(route)) for route in routes],
            settings.pseudonym.encode(),
            via=settings.via,
            underscores=Underscores(settings.underscore_fields),
        )
        terms.traces = settings.trace
        return terms

    def _route(self, route: Route) -> RouteTerms:
        upstream = self.upstreams[route.upstream] if route.upstream is not None else None
        host = upstream.settings.host if upstream is not None else "pass"
        underscores = Underscores(self.settings.underscore_fields)
        plan = plan_of(route, host, self.settings.request_id, underscores)
        terms = RouteTerms(route, upstream, plan)
        terms.guard_by(guard_of(route, upstream, self._rates_of()))
        return terms

    def _rates_of(self) -> Rates:
        """The rates of all routes; they are kept when the settings change."""
        if self._rates is None:
            board = self.board
            if board is None:
                self._rates = Rates(bytearray(SIZE), os.urandom(32))
            else:
                self._rates = Rates(board.rates, board.secret)
        return self._rates

    def _upstream(self, name: str, settings: UpstreamSettings, before: Upstream | None) -> Upstream:
        """The upstream of this name: the one `before` if it can be kept."""
        sought = self.settings.admin is not None and self.settings.readiness != "self"
        if before is None or replace(before.settings, origins=settings.origins) != settings:
            interval = self.settings.dns_interval
            made = Upstream(
                name, settings, self.pool, self.watch,
                sought=sought, dns_interval=interval, turns=self._turns,
            )  # fmt: skip
            if before is not None:
                made.count_on(before.tally, before.former, before.balancer.members)
            elif (gone := self.gone.take(name)) is not None:
                made.count_on(gone.tally, gone.former, gone.balancer.members)
            return made
        before.settings = settings
        before.renew()
        before.dns_interval = self.settings.dns_interval
        before.change(settings.origins, sought=sought)
        return before

    def join(self, place: int, tell: Callable[[Any, Any], None]) -> None:
        """There are other workers: send them what is learned and checked here."""
        self.pool.news.tell = tell
        self._turns.join(place, tell)

    def hear(self, about: str | tuple[str, str], found: Any) -> None:  # noqa: ANN401
        """Another worker has learned something about an origin, or checked one."""
        if isinstance(about, str):
            self.pool.hear(about, found)
        elif (upstream := self.upstreams.get(about[0])) is not None:
            upstream.hear_check(about[1], State(*found))

    @property
    def draining(self) -> bool:
        """Whether this worker is draining."""
        return self.clients.draining

    def drain(self) -> None:
        """From now on each response closes its client link, and no link is kept."""
        self.clients.draining = True
        for upstream in self.upstreams.values():
            upstream.rest()

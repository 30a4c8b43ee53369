"""Settings made alive: the pool, the upstreams, the routes."""

import trio

from hopproxy.link.client import Clients
from hopproxy.link.watch import Watch
from hopproxy.pool.pool import Pool
from hopproxy.pool.trials import Trials
from hopproxy.proxy.tally import Tally
from hopproxy.proxy.terms import Log, Page, Terms
from hopproxy.proxy.upstream import Upstream
from hopproxy.record import Closes
from hopproxy.routing.table import Table
from hopproxy.rules.hop import Underscores
from hopproxy.settings.schema import Route, Settings


class Runtime:
    """One worker's state."""

    def __init__(
        self,
        settings: Settings,
        watch: Watch,
        log: Log | None = None,
        page: Page | None = None,
    ) -> None:
        self.settings = settings
        self.watch = watch
        self.closes = Closes()
        self.pool = Pool(watch, settings.max_upstream_connections, self.closes)
        self.clients = Clients(settings.client.max_connections)
        self.upstreams = {
            name: Upstream(name, upstream, self.pool)
            for name, upstream in settings.upstreams.items()
        }
        sought = settings.admin is not None and settings.readiness != "self"
        for upstream in self.upstreams.values():
            members = upstream.balancer.members
            for origin in members:
                origin.reach.sought = sought
            Trials(members, self.pool, watch)
        routes = settings.routes or (Route(upstream=next(iter(self.upstreams))),)
        self.terms = Terms(
            Table([(route, self.upstreams[route.upstream]) for route in routes]),
            settings.pseudonym.encode(),
            via=settings.via,
            underscores=Underscores(settings.underscore_fields),
        )
        self.terms.traces = settings.trace
        self.terms.log = log
        self.terms.page = page
        self.started = trio.current_time()

    @property
    def tallies(self) -> dict[str, Tally]:
        """What is counted, by upstream; "" for what no route took."""
        tallies = {name: upstream.tally for name, upstream in self.upstreams.items()}
        return {"": self.terms.unrouted, **tallies}

    @property
    def draining(self) -> bool:
        """Whether this worker takes no more work."""
        return self.clients.draining

    def drain(self) -> None:
        """Keep no connection from now on: each response says close, idle links of both hops end."""
        self.clients.draining = True

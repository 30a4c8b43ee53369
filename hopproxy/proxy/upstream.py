"""What a route leads to."""

from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.proxy.tally import Tally
from hopproxy.routing.balancer import RoundRobin
from hopproxy.settings.schema import UpstreamSettings


class Upstream:
    """The origins of one upstream, the pool of links to them, and what is counted.

    A request keeps the upstream that it was begun with, also when the settings change.
    """

    def __init__(self, name: str, settings: UpstreamSettings, pool: Pool) -> None:
        self.name = name
        self.settings = settings
        self.pool = pool
        self.tally = Tally()
        self.balancer: RoundRobin[Origin] = RoundRobin(
            [pool.add(address, settings) for address in settings.origins]
        )

"""One origin, as the pool knows it."""

from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.ledger import Share
from hopproxy.settings.schema import Upstream
from hopproxy.settings.units import OriginAddress


class Origin(Share[UpstreamLink]):
    """One origin: its address, its settings, its share of the pool.

    `failed_at` is when a dial last failed (seconds of trio's clock), None while it answers.
    `limited` tells that its links have a limit of requests or age.
    """

    __slots__ = (
        "address",
        "authority",
        "failed_at",
        "idle_timeout",
        "label",
        "limited",
        "opened",
        "reused",
        "settings",
    )

    def __init__(self, address: OriginAddress, settings: Upstream) -> None:
        pool = settings.pool
        super().__init__(pool.max_connections, pool.max_idle, pool.queue)
        self.address = address
        self.settings = settings
        self.label = str(address)
        self.authority = (
            self.label.removeprefix("http://").encode() if address.host else b"localhost"
        )
        self.failed_at: float | None = None
        self.idle_timeout = pool.idle_timeout
        self.limited = bool(pool.max_requests or pool.max_age)
        self.opened = 0
        self.reused = 0

    __hash__ = object.__hash__

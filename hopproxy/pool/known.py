"""What is known about one address, in all upstreams that name it and from all workers."""

from collections.abc import Callable
from typing import Protocol

from hopproxy.link.pooled import PooledLink
from hopproxy.link.watch import Watch
from hopproxy.pool.delayed_ack import DelayedAck
from hopproxy.pool.expectation import Expectation
from hopproxy.pool.idle_timeout import IdleTimeout, Sign
from hopproxy.pool.unheard import Idling, Unheard

#: A close that teaches: the idle age, the requests served, the sign, the most requests of others.
Found = tuple[float, int, str, int]


class News:
    """Tells other workers of closes.  `tell` is None if there are none."""

    __slots__ = ("tell",)

    def __init__(self) -> None:
        self.tell: Callable[[str, Found], object] | None = None


class Named(Idling, Protocol):
    """An origin with this address, in one upstream."""

    def refresh(self, now: float) -> None:
        """Apply what has been learned."""


class Known:
    """What is known about one address.  `origins` has one entry per upstream that names it."""

    __slots__ = ("delayed_ack", "expectation", "learned", "news", "origins", "unheard")

    def __init__(
        self, watch: Watch, give_up: Callable[[PooledLink], None], news: News | None = None
    ) -> None:
        self.news = news or News()
        self.learned = IdleTimeout(0.0)
        self.expectation = Expectation()
        self.delayed_ack = DelayedAck()
        self.origins: list[Named] = []
        self.unheard = Unheard(watch, self.origins, give_up)

    def restarted(self, now: float) -> None:
        """The origin is a new process: forget what is known."""
        self.learned.restarted()
        self.expectation.restarted()
        self.delayed_ack.restarted()
        self.unheard.width.restarted()
        self.refresh(now)

    def hear(self, found: Found, now: float) -> None:
        """Another worker has seen this close."""
        age, served, sign, most = found
        self.learned.closed_idle(age, served, now, Sign(sign), most)
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Apply what has been learned in every upstream."""
        for origin in self.origins:
            origin.refresh(now)

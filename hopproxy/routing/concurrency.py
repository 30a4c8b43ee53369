"""How many requests an upstream may have at a time, fixed or found from its latency.

`auto` is the gradient algorithm of Netflix's concurrency-limits (Gradient2).  It compares the
current latency with the usual one.  While they are alike, the limit grows; if requests take longer,
because they queue somewhere, it shrinks by the same ratio.  The usual latency is measured while few
requests are under way, as in Envoy's adaptive concurrency filter, since an average over all
requests would include the queue.
"""

from __future__ import annotations

from math import inf, sqrt

#: Requests over which the latency now and the usual one are averaged.
SHORT, LONG = 20, 300
#: A latency up to this multiple of the usual one does not shrink the limit.
TOLERANCE = 1.5
#: Weight of a new limit against the current one.
SMOOTHING = 0.2
#: The first limit, the lowest and the highest.
FIRST, LEAST, MOST = 20.0, 4.0, 1000.0


class Gradient:
    """The limit as `auto` finds it."""

    def __init__(self) -> None:
        self.value = FIRST
        self._short = self._usual = 0.0
        self._seen = 0

    def add(self, seconds: float, under_way: int) -> None:
        """A request took `seconds` while `under_way` requests were under way."""
        self._seen = seen = min(self._seen + 1, LONG)
        self._short += (seconds - self._short) / min(seen, SHORT)
        # Near its least value the limit lets nothing queue.
        alone = under_way < self.value / 2 or self.value <= 2 * LEAST
        if alone or seen < SHORT:
            self._usual += (seconds - self._usual) / seen
        elif self._short < self._usual:
            self._usual += (self._short - self._usual) / SHORT
        if under_way < self.value / 2 or not self._short:
            return  # the limit limits nothing now
        gradient = max(0.5, min(1.0, TOLERANCE * self._usual / self._short))
        wanted = self.value * gradient + sqrt(self.value)
        smoothed = self.value * (1 - SMOOTHING) + wanted * SMOOTHING
        self.value = max(LEAST, min(MOST, smoothed))


class UnderWay:
    """The requests of one upstream that are under way.  `most` is their limit, None for `auto`.

    It takes over the requests under way from `before` the settings changed.
    """

    def __init__(self, most: int | None, before: UnderWay | None = None) -> None:
        self.gradient = Gradient() if most is None else None
        self._most = most or 0
        self._began: dict[object, float] = {}
        if before is not None:
            self._began = before._began
            self.gradient = self.gradient and (before.gradient or self.gradient)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._began)

    @property
    def most(self) -> int:
        """The limit now."""
        return self._most if self.gradient is None else int(self.gradient.value)

    @property
    def is_full(self) -> bool:
        """Whether another one would be too many."""
        return len(self._began) >= self.most

    def begin(self, request: object, now: float) -> bool:
        """A request begins; False if there are too many.

        `now` is infinite if its latency must not count, since it includes waits for the client.
        """
        if self.is_full:
            return False
        self._began[request] = now
        return True

    def end(self, request: object, answered_at: float | None) -> None:
        """A request has ended, if it had begun.  `answered_at` is None if it failed."""
        count = len(self._began)
        began = self._began.pop(request, inf)
        if self.gradient is not None and answered_at is not None and began < inf:
            self.gradient.add(answered_at - began, count)

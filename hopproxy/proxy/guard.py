"""The limits of routes and upstreams that a request must pass first."""

from __future__ import annotations

from hashlib import blake2b
from math import ceil, inf

from hopproxy.errors import Overloaded, RateLimited
from hopproxy.message import NO_BODY, name_of
from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.upstream import Upstream
from hopproxy.routing.rates import Rates, network_of
from hopproxy.settings.route import Route, RouteLimits
from hopproxy.settings.units import address_and_port


class Guard:
    """The limits of one route."""

    def __init__(self, route: Route, upstream: Upstream | None, rates: Rates) -> None:
        self._limits = route.limits
        self._upstream = upstream
        self._rates = rates
        # The same in every process, and after other settings have changed.
        identity = repr((route.host, route.path, route.exact, route.limits)).encode()
        self._route = blake2b(identity, digest_size=8).digest()

    def admit(self, attempt: Attempt) -> None:
        """Let a request pass.  Raises RateLimited, Overloaded."""
        limits = self._limits
        if limits is not None:
            key = self._route + _who(attempt, limits)
            now = attempt.client.now()
            wait = self._rates.take(key, now, 1 / limits.rate, burst_of(limits))
            if wait:
                raise RateLimited(ceil(wait))
        if attempt.request.body is NO_BODY:
            self.begin(attempt)
        elif self._upstream is not None:
            under_way = self._upstream.tally.under_way
            if under_way is not None and under_way.is_full:
                raise Overloaded(self._upstream.name, under_way.most)

    def begin(self, attempt: Attempt) -> None:
        """Count the request as under way, now that enough of its body is there.  Raises Overloaded.

        So clients that send slowly do not use up the limit, and their pace does not count as the
        latency of the origin.
        """
        upstream = self._upstream
        under_way = upstream.tally.under_way if upstream is not None else None
        if upstream is None or under_way is None:
            return
        now = attempt.client.now() if attempt.upload is None else inf
        if not under_way.begin(attempt.record, now):
            raise Overloaded(upstream.name, under_way.most)


def guard_of(route: Route, upstream: Upstream | None, rates: Rates) -> Guard | None:
    """The guard of a route, None if nothing is limited."""
    limited = upstream is not None and upstream.settings.max_requests_in_flight
    return Guard(route, upstream, rates) if route.limits is not None or limited else None


def burst_of(limits: RouteLimits) -> int:
    """How many requests may pass at once."""
    return limits.burst or max(1, round(limits.rate / 4))


def _who(attempt: Attempt, limits: RouteLimits) -> bytes:
    """The key that is counted.  Requests without the field are counted by their client."""
    if limits.by == "all":
        return b""
    name = limits.by.removeprefix("header:").encode()
    if limits.by != "client":
        for line in attempt.request.lines:
            if name_of(line) == name:
                return b"h" + line.partition(b":")[2].strip()
    address = attempt.record.client or address_and_port(attempt.record.peer)[0]
    return network_of(address).encode()

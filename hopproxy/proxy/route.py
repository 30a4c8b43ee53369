"""One route while serving: its upstream, its changes, its limits."""

from typing import Any, Protocol

from msgspec.structs import replace

from hopproxy.link.stream import UpstreamStream
from hopproxy.proxy.upstream import Upstream
from hopproxy.routing.plan import Plan
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.route import TIMEOUTS, Route
from hopproxy.settings.upstream import UpstreamSettings


class Admission(Protocol):
    """The limits on requests of a route (`proxy/guard.py`)."""

    def admit(self, attempt: Any) -> None:  # noqa: ANN401
        """Let a request pass, or raise HopError."""

    def begin(self, attempt: Any) -> None:  # noqa: ANN401
        """Enough of its body has arrived.  Raises HopError."""


class RouteTerms:
    """What applies to every exchange on one route.

    `upstream` is None if the route answers by itself.  `plan` is None if it changes nothing; then
    `limits` are the upstream's own.  `guard` is None if all requests pass.  `special` unless it has
    an upstream and neither a plan nor a guard.
    """

    __slots__ = ("guard", "limits", "max_body_size", "plan", "special", "upstream")

    def __init__(self, route: Route, upstream: Upstream | None, plan: Plan | None) -> None:
        self.upstream = upstream
        self.plan = plan
        self.guard: Admission | None = None
        self.special = plan is not None or upstream is None
        self.max_body_size = route.max_body_size
        self.limits = limits_of(route, upstream.settings if upstream is not None else None)

    def guard_by(self, guard: Admission | None) -> None:
        """Use this guard for requests."""
        self.guard = guard
        self.special = self.special or guard is not None

    def begin_on(self, stream: UpstreamStream) -> None:
        """A stream begins to serve this route, which has timeouts of its own (`Plan.bounds`)."""
        self.end_on(stream, self.limits)

    def end_on(self, stream: UpstreamStream, limits: UpstreamSettings) -> None:
        """A link may serve another route next: give it the timeouts of the upstream again."""
        stream.body_timeout = limits.body_timeout
        stream.write_timeout = limits.write_timeout

    def largest_body(self, limits: LinkSettings) -> int:
        """The largest body of a request on this route; 0: no limit."""
        return limits.max_body_size if self.max_body_size is None else self.max_body_size

    def client_limits(self, limits: LinkSettings) -> LinkSettings:
        """The limits of a client link, with those that this route replaces."""
        if self.max_body_size is None:
            return limits
        return replace(limits, max_body_size=self.max_body_size)


def limits_of(route: Route, settings: UpstreamSettings | None) -> UpstreamSettings:
    """The settings of the upstream, with those that this route replaces."""
    own = {name: getattr(route, name) for name in TIMEOUTS}
    own = {name: value for name, value in own.items() if value is not None}
    settings = settings or _NO_ORIGIN
    return replace(settings, **own) if own else settings


_NO_ORIGIN = UpstreamSettings(origins=())

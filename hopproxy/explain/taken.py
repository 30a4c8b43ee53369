"""Which route a request takes, and why that one."""

from __future__ import annotations

from typing import NamedTuple

from hopproxy.message import RequestHead
from hopproxy.routing.plan import Plan, plan_of
from hopproxy.routing.table import Table
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.hop import Underscores
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings


class Taken(NamedTuple):
    """The route that a request takes: its place in the settings, itself, its plan."""

    place: int
    route: Route
    plan: Plan | None

    @property
    def matched(self) -> str:
        """What the route matches, in words."""
        route = self.route
        host = " or ".join(route.host) if route.host else ""
        path = f"{route.path}{' exactly' if route.exact else ''}" if route.path else ""
        parts = [f"host {host}" if host else "", f"path {path}" if path else ""]
        return ", ".join(filter(None, parts)) or "every request"


def find(
    settings: Settings, request: RequestHead, sender: Sender, underscores: Underscores
) -> Taken | None:
    """The route of a request, None if none matches."""
    routes: list[tuple[Route, Taken]] = []
    for place, route in enumerate(settings.routes):
        name = route.upstream
        host = settings.upstreams[name].host if name is not None else "pass"
        plan = plan_of(route, host, settings.request_id, underscores)
        routes.append((route, Taken(place, route, plan)))
    found = Table(routes).find(request.host, request.target)
    only_http = found is not None and found.plan is not None and found.plan.only_http
    if only_http and sender.scheme(request) == b"https":
        rest = [one for one in routes if one[0].redirect != "https"]
        return Table(rest).find(request.host, request.target)
    return found

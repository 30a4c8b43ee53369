"""A request on a route that changes requests: its id, its variables, the changed request."""

from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.route import RouteTerms
from hopproxy.rules.template import NOTHING_ASKED, Asked


def follow(attempt: Attempt, route: RouteTerms) -> RouteTerms | None:
    """Make the changes of a route with a plan to the request.

    Returns the route that is used, None if there is none: a route that only redirects to https
    leaves https requests to the next one.
    """
    request, sender = attempt.request, attempt.client.sender
    found: RouteTerms | None = route
    plan = route.plan
    if plan is not None and plan.only_http and sender.scheme(request) == b"https":
        found = attempt.terms.over_https.find(request.host, request.target)
        plan = found.plan if found is not None else None
    if plan is None:
        return found
    attempt.plan = plan
    identity, named = None, b""
    if plan.ids:
        identity = plan.identity(request, trusted=sender.trusted, fresh=attempt.terms.fresh_id)
        named = identity.id
        attempt.record.request_id = named.decode()
    attempt.asked = asked = Asked(request, sender, named) if plan.asks else NOTHING_ASKED
    attempt.request, attempt.extra = plan.outgoing(request, asked, identity)
    return found

"""A request on a route that changes requests: its id, its variables, the changed request."""

from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.route import RouteTerms
from hopproxy.rules.template import NOTHING_ASKED, Asked


def follow(attempt: Attempt, route: RouteTerms) -> RouteTerms | None:
    """Make the changes of a route with a plan to the request.

    Returns the route that is used, None if there is none: a route that only redirects to https
    leaves https requests to the next one.
    """
    plan = route.plan
    if plan is None:
        return route
    request = attempt.request
    identity, asked = None, NOTHING_ASKED
    if plan.asks:
        sender = attempt.client.sender
        if plan.only_http and sender.scheme(request) == b"https":
            found = attempt.terms.over_https.find(request.host, request.target)
            return None if found is None else follow(attempt, found)
        named = b""
        if plan.ids:
            identity = plan.identity(request, trusted=sender.trusted, fresh=attempt.terms.fresh_id)
            named = identity.id
            attempt.record.request_id = named.decode()
        asked = Asked(request, sender, named)
    attempt.plan = plan
    attempt.asked = asked
    attempt.request, attempt.extra = plan.outgoing(request, asked, identity)
    return route

"""A request on a route that changes it: its id, its variables, and what is sent instead of it."""

from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.route import RouteTerms, asked_by
from hopproxy.rules.template import NOTHING_ASKED


def follow(attempt: Attempt, route: RouteTerms) -> RouteTerms | None:
    """Make the changes of a route with a plan to the request.

    Returns the route that is taken after all: one that only redirects to https leaves requests that
    came by https to the next, and there may be none.
    """
    request, terms, client = attempt.request, attempt.terms, attempt.client
    found: RouteTerms | None = route
    sender = client.sender
    only_http = route.plan is not None and route.plan.only_http
    if only_http and sender.scheme(request) == b"https":
        found = terms.over_https.find(request.host, request.target)
    if found is None or found.plan is None:
        return found
    plan = attempt.plan = found.plan
    identity = None
    if plan.ids:
        identity = plan.identity(request, trusted=sender.trusted, fresh=terms.fresh_id)
        attempt.record.request_id = identity.id.decode()
    asked = asked_by(client, attempt.record) if plan.asks else NOTHING_ASKED
    attempt.request, attempt.extra = plan.outgoing(request, asked, identity)
    return found

"""Which origin an attempt goes to, on which link, and whether a second attempt follows.

With a single origin nothing is chosen, so this costs nothing.
"""

from __future__ import annotations

from hopproxy.errors import BadResponse, ConnectFailed, HopError, LinkError, Passed, Unanswered
from hopproxy.link.stream import ClientStream
from hopproxy.pool import announced
from hopproxy.pool.bound import BoundLink
from hopproxy.pool.health import FAILURES
from hopproxy.pool.origin import Origin
from hopproxy.pool.shared import Lent
from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.choice import Choice
from hopproxy.proxy.upload import KEPT
from hopproxy.proxy.upstream import Upstream
from hopproxy.reasons import CloseReason, Hop
from hopproxy.routing.balancer import Search
from hopproxy.rules.retry import SAFE, Again, Trace, after, is_idempotent


def link_now(attempt: Attempt, upstream: Upstream) -> Lent | None:
    """Begin on the warmest idle link of the next origin.

    None if no idle link is suitable, or if this is a retry: another idle link might be dead too.
    """
    client, pool = attempt.client, upstream.pool
    if attempt.record.attempts:
        return None
    if client.bound is not None and (own := _bound_link(client, upstream)) is not None:
        attempt.begin(pool, *own)
        return own[1]
    origin = upstream.balancer.only or _pick(attempt, upstream)
    if not attempt.request.simple:
        origin = upstream.twins.suit(origin, attempt.request, refused=False)
    look = not attempt.request.simple and not _may_be_resent(attempt, origin)
    link = pool.acquire_now(origin, look=look)
    if link is not None:
        attempt.begin(pool, origin, link)
        if attempt.choice is not None:
            _settle(attempt, attempt.choice, upstream)
    return link


def _pick(attempt: Attempt, upstream: Upstream) -> Origin:
    """Choose one of several origins for a request."""
    request = attempt.request
    movable = attempt.body is not None and request.method in SAFE
    origin = upstream.pick(attempt.client, request, movable=movable)
    attempt.choice = Choice(origin, movable=movable)
    return origin


def _settle(attempt: Attempt, choice: Choice, upstream: Upstream) -> None:
    """A request of an upstream with several origins begins on a link."""
    choice.movable = choice.movable and attempt.record.attempts == 1
    choice.patience = 0.0
    if choice.movable:
        choice.patience = upstream.patience(attempt.origin, attempt.client.now())
    attempt.link.movable = choice.movable


def _may_be_resent(attempt: Attempt, origin: Origin) -> bool:
    """Whether the request could be retried if its link turns out to be dead."""
    request = attempt.request
    if attempt.body is None and request.length > KEPT:
        return False
    return is_idempotent(request, origin.settings.retry_idempotency_key)


async def link_to_come(attempt: Attempt, upstream: Upstream) -> Lent:
    """Begin on a link to the next origin that can be reached.  Waits for a release or a dial."""
    now, pool = attempt.client.now, upstream.pool
    search = _search(attempt, upstream)
    while True:
        refused = attempt.record.attempts > 0 and attempt.link.http11_required
        origin = upstream.twins.suit(search.origin, attempt.request, refused=refused)
        began, dialled = now(), None
        link: Lent | None = None
        try:
            if origin.settings.proxy_protocol != "off":
                fresh = attempt.record.attempts > 0
                link = await announced.acquire(pool, origin, attempt.client, fresh=fresh)
            elif attempt.record.attempts:
                link = await pool.acquire_fresh(origin)
            else:
                if search.begun:
                    link = pool.acquire_now(origin, look=not _may_be_resent(attempt, origin))
                if link is None:
                    leave = upstream.balancer.only is None and search.may_leave(began)
                    link = await pool.acquire(origin, leave=leave)
        except ConnectFailed as error:
            dialled = began
            if not search.goes_on(now(), slow=isinstance(error, Unanswered)):
                raise
        else:
            dialled = None if link.reused else link.dialled_at
            attempt.begin(pool, origin, link)
            if attempt.choice is not None:
                _settle(attempt, attempt.choice, upstream)
            return link
        finally:
            attempt.record.note_wait(began, now(), dialled)


def _search(attempt: Attempt, upstream: Upstream) -> Search[Origin]:
    """The origins to try: the one that was picked first; after a failure another one first."""
    balancer = upstream.balancer
    if balancer.only is not None:
        return Search(balancer, balancer.only)
    if not attempt.record.attempts:
        picked = _pick(attempt, upstream) if attempt.choice is None else attempt.choice.origin
        return Search(balancer, picked)
    failed, now = upstream.twins.origin_of(attempt.origin), attempt.client.now()
    others = balancer.others([failed], now)
    if not others:  # the link was dead, which says nothing about its origin
        return Search(balancer, failed)
    next_one = balancer.choose(others, 0)
    stays = attempt.choice is not None and attempt.choice.again is Again.ELSEWHERE
    return Search(balancer, next_one, avoided=failed, returns=not stays)


def _bound_link(client: ClientStream, upstream: Upstream) -> tuple[Origin, Lent] | None:
    """The link that an origin of this upstream has bound to the client, if it is still open."""
    bound = client.bound
    assert isinstance(bound, BoundLink)
    if bound.origin not in (*upstream.balancer.members, *upstream.twins):
        return None
    client.bound = None
    link = bound.resume()
    return None if link is None else (bound.origin, link)


#: How a request fails that may be retried.
_ENDS = (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET, CloseReason.STREAM_REFUSED)


def goes_again(attempt: Attempt, error: HopError) -> bool:
    """Whether a second attempt may follow the failed one."""
    record, link = attempt.record, attempt.link
    if (
        not isinstance(error, LinkError | BadResponse)
        or error.at is not Hop.UPSTREAM
        or record.status
    ):
        return False
    trace = Trace(
        attempt=record.attempts,
        reused=link.reused,
        written=link.written,
        answered=link.answered,
        unprocessed=link.unprocessed,
    )
    trace.ended = error.reason in _ENDS
    choice = attempt.choice
    # A GET that was a trial of a failing origin: it may go to another origin.
    tried = choice is not None and choice.patience > 0 and error.reason in FAILURES
    trace.refused = tried or isinstance(error, Passed)
    trace.replayable = attempt.body is not None or (
        attempt.upload is not None and attempt.upload.kept is not None
    )
    origin = attempt.origin
    again = after(attempt.request, trace, origin.settings.retry_idempotency_key)
    if again is Again.ELSEWHERE:
        if origin.peers is None or not origin.peers.take(origin, attempt.client.now()):
            return False
        record.failed_origin = origin.label
    if choice is not None:
        choice.again = again
    return again is not Again.NOTHING

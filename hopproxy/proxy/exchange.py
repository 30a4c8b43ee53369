"""One request across both hops: route, origin, link, attempts, answer, record.

A route names an upstream; an upstream link is checked out; an `Attempt` sends the request and
passes the response on.  The upstream link and the client stream each decide alone whether their
connection persists.  An exchange is one coroutine, stepped by events or by a task (`link.stepper`).
"""

from __future__ import annotations

from hopproxy.errors import (
    LOG_ONLY,
    ConnectFailed,
    Denied,
    Fault,
    HopError,
    ends_connection,
    note_failure,
)
from hopproxy.link.faults import report
from hopproxy.link.stepper import wait
from hopproxy.link.stream import ClientStream
from hopproxy.message import CHUNKED, NO_BODY, SIZED, RequestHead, ResponseHead
from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.checkout import goes_again, link_now, link_to_come
from hopproxy.proxy.collect import collect
from hopproxy.proxy.follow import follow
from hopproxy.proxy.gather import end_gathered, gather
from hopproxy.proxy.patience import waits
from hopproxy.proxy.terms import Terms
from hopproxy.proxy.upstream import Upstream
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.rules.answer import answer_to, last_hop
from hopproxy.rules.forwarding import via_line
from hopproxy.rules.framing import check_size
from hopproxy.rules.grpc import asks_grpc, grpc_answer
from hopproxy.rules.hop import reject_underscores


async def exchange(client: ClientStream, request: RequestHead, terms: Terms) -> None:
    """Answer a request, and log it.  `client.closing` is then set if its connection must close.

    Whatever happens, no upstream link stays in use.
    """
    record = ExchangeRecord(
        client.peer, client.number, client.served, client.since,
        request.method, request.target, request.host, client.stream_id,
    )  # fmt: skip
    if client.sender.trusted:
        record.client = client.name_by(request)
    tally = terms.unrouted
    attempt = Attempt(client, request, record, terms)
    upstream: Upstream | None = None
    ended = 0.0
    try:
        if not request.simple and (own := last_hop(request, traces=terms.traces)) is not None:
            await _send_own(client, record, own, terms, request)
            return
        route = terms.table.find(request.host, request.target)
        if route is not None and route.special:
            route = follow(attempt, route)
        if route is None:
            raise Denied("no route matches this host and path", 404, "destination_not_found")
        attempt.route = route
        upstream = route.upstream
        if upstream is not None:
            record.route = upstream.name
            tally = upstream.tally
        if upstream is None or route.special:
            if route.guard is not None:
                route.guard.admit(attempt)
            if upstream is None:
                await _answer_route(attempt)
                return
            request = attempt.request
        via = via_line(request, terms.via_upstream, terms.pseudonym)
        authority = b"" if request.host else upstream.balancer.members[0].authority
        block = client.sender.block(request)
        if attempt.plan is not None:
            block += attempt.extra
        attempt.added = block, via, terms.underscores, authority
        if terms.rejects_underscores:
            reject_underscores(request)
        if request.body is not NO_BODY:
            _take_body(attempt)
            if attempt.body is None:
                await _wait_for_body(attempt, upstream)
            if route.guard is not None:
                route.guard.begin(attempt)
        if client.gone:
            raise client.gone_error()
        while True:
            try:
                # In HTTP/1.1 the link is also `attempt.stream`.
                link = link_now(attempt, upstream) or await link_to_come(attempt, upstream)
                if attempt.body is None:
                    await attempt.run_both_ways()
                else:
                    if not attempt.send():
                        await link.flush()
                    now = client.now() if record.has_waited else client.since
                    by = now + route.limits.response_timeout
                    if attempt.choice is not None and attempt.choice.patience:
                        by = now + attempt.choice.patience
                    if (arrival := link.expect_head(by)) is not None:
                        await wait(arrival)
                    if attempt.respond_at_hand():
                        ended = record.first_byte
                    else:
                        await attempt.run()
                break
            except HopError as error:
                if isinstance(error, ConnectFailed) and await waits(attempt, upstream, error):
                    continue
                held = not attempt.released
                attempt.discard(error)
                if not held or not goes_again(attempt, error):
                    raise
    except HopError as error:
        await _fail(attempt, error, upstream)
    except Exception as fault:  # unexpected: end this exchange and its links, and nothing else
        report(fault, f"a request from {client.peer}")
        attempt.discard(fault)
        await _fail(attempt, Fault(), upstream)
    except BaseException:
        attempt.discard(None)
        record.cause = record.cause or "stopped"
        raise
    finally:
        if attempt.body is None:
            end_gathered(attempt, upstream)
        record.ended = client.since = ended or client.now()
        tally.add(record)
        if terms.log is not None:
            terms.log(record)


def _take_body(attempt: Attempt) -> None:
    """Take the body if it has arrived completely; else it will be uploaded.  Raises BadRequest."""
    client, request = attempt.client, attempt.request
    check_size(request.length, attempt.route.largest_body(client.limits))
    attempt.body = client.take_content(request) if request.body is SIZED else None
    if attempt.body is not None:
        attempt.record.received = request.length


async def _wait_for_body(attempt: Attempt, upstream: Upstream) -> None:
    """Wait for the part of a body that must arrive before a link is taken.  Raises HopError."""
    if upstream.settings.buffer_request and attempt.request.body is CHUNKED:
        await collect(attempt, upstream.settings.buffer_request)
    if attempt.body is None:
        await gather(attempt, upstream)


# -- answers of our own ----------------------------------------------------------------------


async def _fail(attempt: Attempt, error: HopError, upstream: Upstream | None) -> None:
    """The exchange failed: answer if no response has begun, else cut the connection."""
    client, record, terms = attempt.client, attempt.record, attempt.terms
    limits = client.limits
    if upstream is not None:
        limits = attempt.route.client_limits(limits)
    note_failure(record, error, limits, upstream and attempt.route.limits)
    if record.status:
        at_client = error.at is Hop.CLIENT
        client.closing = error.reason if at_client or error.at is None else _CUT
        return
    record.status = error.status
    if error.status == LOG_ONLY:
        client.closing = error.reason
        return
    if ends_connection(error):
        client.closing = error.reason
    request, own = attempt.request, _answer(attempt.request, error, terms)
    if attempt.plan is not None:
        own = attempt.plan.failure(own, attempt.asked)
    await _send_own(client, record, own, terms, request)


_CUT = CloseReason.RESPONSE_CUT


async def _answer_route(attempt: Attempt) -> None:
    """Answer a request on a route without an upstream."""
    plan = attempt.plan
    assert plan is not None
    own = plan.answer(attempt.asked)
    assert own is not None
    if attempt.request.body is not NO_BODY:
        _take_body(attempt)  # if it has arrived, the connection persists
    await _send_own(attempt.client, attempt.record, own, attempt.terms, attempt.request)


async def refuse(client: ClientStream, error: HopError, terms: Terms) -> None:
    """Answer a request whose head could not be read, and log it."""
    record = ExchangeRecord(client.peer, client.number, client.served, client.since)
    record.stream = client.stream_id
    record.method, record.target, record.host = client.glimpse(error)
    note_failure(record, error, client.limits)
    record.status = error.status
    client.closing = error.reason
    try:
        await _send_own(client, record, _answer(None, error, terms), terms, None)
    finally:
        record.ended = client.now()
        terms.unrouted.add(record)
        if terms.log is not None:
            terms.log(record)


def _answer(
    request: RequestHead | None, error: HopError, terms: Terms
) -> tuple[ResponseHead, bytes]:
    if request is not None and asks_grpc(request):
        return grpc_answer(request, error, terms.pseudonym)
    page = terms.page(request, error) if terms.page is not None else None
    return page or answer_to(error, terms.pseudonym)


async def _send_own(
    client: ClientStream,
    record: ExchangeRecord,
    own: tuple[ResponseHead, bytes],
    terms: Terms,
    request: RequestHead | None,
) -> None:
    """Send one of our own responses; `request` is None if its head could not be read.

    In HTTP/1.1 the connection then closes.  In HTTP/2 it stays open, and the method is known.
    """
    head, body = own
    known = request is not None or client.stream_id
    if known and record.method == b"HEAD":
        body = b""
    client.respond(head, terms.date_line(), body)
    record.status = head.status
    record.sent = len(body)
    try:
        if not client.send_last():
            await client.finish()
    except HopError as broken:  # the link, or in HTTP/2 the request's body, which arrives meanwhile
        client.closing = broken.reason

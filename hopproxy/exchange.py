"""One request across both hops: which origin, which link, and whether it is sent once more.

The walk: the request's head is written once for the upstream hop, a link is lent, `Carriage` takes
the request out and its response back.  The upstream link gives its verdict to the pool, the client
link gives its own to the caller; neither sees the other's.
"""

from hopproxy.carriage import Carriage
from hopproxy.errors import BadRequest, ConnectFailed, HopError, LinkError, Unanswered
from hopproxy.link.client import ClientLink, client_gone
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import NO_BODY, SIZED
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.private import PrivateLink
from hopproxy.pool.wait import Wait
from hopproxy.record import CloseReason, Hop
from hopproxy.routing.balancer import RoundRobin, Search
from hopproxy.rules.forwarding import via_line
from hopproxy.rules.hop import check_options, request_for_upstream
from hopproxy.rules.retry import Trace, is_idempotent, may_repeat
from hopproxy.settings.schema import Upstream
from hopproxy.upload import KEPT


class Application:
    """What a route leads to: the origins of one upstream, and how they are spoken to."""

    def __init__(self, name: str, settings: Upstream, origins: list[Origin]) -> None:
        self.name = name
        self.settings = settings
        self.balancer = RoundRobin(origins)


async def exchange(carriage: Carriage, application: Application, pool: Pool) -> CloseReason | None:
    """Answer a request from `application`; None to keep the client link, or why not.

    The first attempt may be under way already.  Raises HopError: before `record.status` is set it
    can be answered, after it the client's response is cut.  Whatever happens, no upstream link
    stays lent to this exchange.
    """
    client, request = carriage.client, carriage.request
    begun = carriage.failed is not None or carriage.record.attempts > 0
    if not carriage.outbound:
        carriage.outbound = outbound_head(carriage, application)
        carriage.body = b"" if request.body is NO_BODY else _body_at_hand(carriage)
    while True:
        try:
            if begun:
                await carriage.resume()
            else:
                if client.transport.hung_up:  # gone before anything was sent: then nothing is
                    raise client_gone()
                origin, link = _lend_now(carriage, application, pool)
                if link is None:
                    origin, link = await _lend(carriage, application, pool, origin)
                carriage.lend(pool, origin, link)
                await carriage.run()
        except HopError as error:
            lent = not carriage.released
            discard(carriage, error)
            if not lent or not _may_repeat(carriage, error):
                raise
            begun = False
        except BaseException:
            discard(carriage, None)
            raise
        else:
            return carriage.verdict


def outbound_head(carriage: Carriage, application: Application) -> bytes:
    """The request's head for the upstream hop: written once, for every attempt."""
    request, terms = carriage.request, carriage.terms
    authority = b"" if request.host else application.balancer.members[0].authority
    if request.options or terms.rejects_underscores:
        check_options(request, terms.underscores)
    forwarding = carriage.client.sender.block(request)
    via = via_line(request, terms.via_upstream, terms.pseudonym)
    head = request_for_upstream(request, forwarding, via, terms.underscores, authority)
    return head + b"\r\n"


def _body_at_hand(carriage: Carriage) -> bytes | None:
    """The whole body, if it is here; None while it is on its way."""
    client, request = carriage.client, carriage.request
    limit = client.limits.max_body_size
    client.begin_body(request)
    if limit and request.length > limit:
        raise BadRequest("the body is larger than max_body_size", 413, limit="max_body_size")
    if request.body is not SIZED or len(client.buffer) < request.length:
        return None
    carriage.record.received = request.length
    return client.take_sized_body()


def _lend_now(
    carriage: Carriage, application: Application, pool: Pool
) -> tuple[Origin, UpstreamLink | None]:
    """The origin whose turn it is, and its warmest idle link: the usual case.

    The link is None where there is none, and for a repetition: another could be dead as well.
    """
    client = carriage.client
    if client.private is not None and (own := _private(client, application)) is not None:
        return own
    balancer = application.balancer
    origin = balancer.only or balancer.pick(client.transport.now())
    if carriage.record.attempts:
        return origin, None
    return origin, pool.acquire_now(origin, look=not _repeatable(carriage, origin))


def _repeatable(carriage: Carriage, origin: Origin) -> bool:
    """Whether the request could be sent once more, should its link turn out to be dead."""
    request = carriage.request
    if carriage.body is None and request.length > KEPT:
        return False
    return is_idempotent(request, origin.settings.retry_idempotency_key)


async def _lend(
    carriage: Carriage, application: Application, pool: Pool, origin: Origin
) -> tuple[Origin, UpstreamLink]:
    """A link to this origin, or to the next that can be reached: waited for, or dialled."""
    client = carriage.client
    search = Search(application.balancer, origin)
    while True:
        began, dialled = client.transport.now(), None
        client.awaits = wait = Wait()
        try:
            if carriage.record.attempts:
                link = await pool.acquire_fresh(origin, wait)
            else:
                look = not _repeatable(carriage, origin)
                idle = pool.acquire_now(origin, look=look) if search.begun else None
                leave = search.may_leave(client.transport.now())
                link = idle or await pool.acquire(origin, wait, leave=leave)
        except ConnectFailed as error:
            dialled = began
            slow = isinstance(error, Unanswered)
            if not search.goes_on(client.transport.now(), slow=slow):
                raise
        else:
            dialled = None if link.reused else link.dialled_at
            if not client.gone:
                return origin, link
            link.ending = None  # nothing has been sent on it: it is as good as before
            pool.release(origin, link, client.transport.now())
        finally:
            client.awaits = None
            carriage.record.note_wait(began, client.transport.now(), dialled)
        if client.gone:
            raise client_gone()
        origin = search.origin


def _private(client: ClientLink, application: Application) -> tuple[Origin, UpstreamLink] | None:
    """The link that the origin has bound to this client, if it still lives."""
    private = client.private
    assert isinstance(private, PrivateLink)
    if private.origin not in application.balancer.members:
        return None
    client.private = None
    link = private.resume()
    return None if link is None else (private.origin, link)


def discard(carriage: Carriage, error: HopError | None) -> None:
    """An attempt failed or was cancelled: its link is closed unless it was given back before."""
    carriage.client.partner = carriage.client.awaits = None
    if carriage.released:
        return
    carriage.released = True
    reason = CloseReason.STOPPED
    if error is not None:
        reason = error.reason if error.at is Hop.UPSTREAM else CloseReason.CLIENT_GONE
    carriage.record.upstream_close = reason
    ended = carriage.pool.discard(carriage.origin, carriage.upstream, reason)
    if error is not None and error.at is Hop.UPSTREAM:
        carriage.record.suffered = ended


def _may_repeat(carriage: Carriage, error: HopError) -> bool:
    """Whether the failed attempt may be followed by another."""
    record, link = carriage.record, carriage.upstream
    if not isinstance(error, LinkError) or error.at is not Hop.UPSTREAM or record.status:
        return False
    if error.reason not in (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET):
        return False
    trace = Trace(
        attempt=record.attempts,
        reused=link.reused,
        written=link.written,
        answered=link.answered,
    )
    trace.replayable = carriage.body is not None or (
        carriage.upload is not None and carriage.upload.kept is not None
    )
    return may_repeat(carriage.request, trace, carriage.origin.settings.retry_idempotency_key)

"""One request across both hops: which origin, which link, and whether it is sent once more.

The walk: the request's head is written once for the upstream hop, a link is lent, `Carriage` takes
the request out and its response back.  The upstream link gives its verdict to the pool, the client
link gives its own to the caller; neither sees the other's.
"""

import trio

from hopproxy.carriage import Carriage, Terms
from hopproxy.errors import BadRequest, ConnectFailed, Denied, HopError, LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import Body, RequestHead
from hopproxy.pool.pool import Origin, Pool, PrivateLink, Wait
from hopproxy.record import CloseReason, ExchangeRecord, Hop
from hopproxy.routing.balancer import RoundRobin
from hopproxy.rules.forwarding import via_line
from hopproxy.rules.hop import check_options, request_for_upstream
from hopproxy.rules.retry import Trace, may_repeat
from hopproxy.settings.schema import Upstream


class Application:
    """What a route leads to: the origins of one upstream, and how they are spoken to."""

    def __init__(self, name: str, settings: Upstream, origins: list[Origin]) -> None:
        self.name = name
        self.settings = settings
        self.balancer = RoundRobin(origins)


class Exchange:
    """Carries one request of a client to an application, with at most one repetition."""

    __slots__ = ("client", "pool", "record", "request", "terms")

    def __init__(
        self, client: ClientLink, request: RequestHead, record: ExchangeRecord, terms: Terms
    ) -> None:
        self.client = client
        self.request = request
        self.record = record
        self.terms = terms

    async def run(self, pool: Pool, application: Application) -> CloseReason | None:
        """Answer the request from `application`; None to keep the client link, or why not.

        Raises HopError: before `record.status` is set it can be answered, after it the client's
        response is cut.  Whatever happens, no upstream link stays lent to this exchange.
        """
        self.pool = pool
        client, request, record = self.client, self.request, self.record
        outbound = self._outbound(application)
        body = self._body_at_hand()
        carriage = Carriage(client, request, record, self.terms)
        while True:
            record.attempts += 1
            origin, link = await self._lend(application)
            record.origin = origin.label
            record.upstream_number = link.number
            record.fresh = link.served == 1
            client.partner = link
            carriage.lend(pool, origin, link)
            try:
                await carriage.run(outbound, body)
            except HopError as error:
                self._discard(carriage, error)
                if not self._may_repeat(application, link, error, body):
                    raise
            except BaseException:
                self._discard(carriage, None)
                raise
            else:
                return carriage.verdict

    def _outbound(self, application: Application) -> bytes:
        request = self.request
        if request.host == b"":
            # HTTP/1.0 without Host: upstream there must be one (RFC 9112 section 3.2).
            request.host = application.balancer.members[0].authority
        check_options(request, self.terms.underscores)
        return (
            request_for_upstream(
                request,
                self.client.sender.block(request),
                via_line(request, self.terms.pseudonym),
                self.terms.underscores,
            )
            + b"\r\n"
        )

    def _body_at_hand(self) -> bytes | None:
        """The whole body, if there is none or it is here; None while it is on its way."""
        client, request = self.client, self.request
        if request.body is Body.NONE:
            return b""
        limit = client.limits.max_body_size
        client.begin_body(request)
        if limit and request.length > limit:
            raise BadRequest("the body is larger than max_body_size", 413)
        if request.body is not Body.SIZED:
            return None
        body = client.take_sized_body()
        if body is not None:
            self.record.received = len(body)
        return body

    # -- links -------------------------------------------------------------------------------

    async def _lend(self, application: Application) -> tuple[Origin, UpstreamLink]:
        """A link to the next origin that can be reached; a repetition takes a fresh one."""
        balancer, pool = application.balancer, self.pool
        unreached = 0
        if self.client.private is not None and (own := self._private(application)) is not None:
            return own
        while True:
            origin = balancer.pick(trio.current_time())
            if self.record.attempts == 1:
                link = pool.acquire_now(origin)
                if link is not None:
                    return origin, link
            try:
                return origin, await self._wait(origin)
            except ConnectFailed:
                unreached += 1
                if unreached >= len(balancer.members):
                    raise

    async def _wait(self, origin: Origin) -> UpstreamLink:
        client, wait = self.client, Wait()
        client.check_presence()
        client.awaits = wait
        try:
            if self.record.attempts > 1:
                return await self.pool.acquire_fresh(origin, wait)
            return await self.pool.acquire(origin, wait)
        finally:
            client.awaits = None

    def _private(self, application: Application) -> tuple[Origin, UpstreamLink] | None:
        """The link that the origin has bound to this client, if it still lives."""
        private = self.client.private
        assert isinstance(private, PrivateLink)
        if private.origin not in application.balancer.members:
            return None
        self.client.private = None
        origin, link = private.origin, private.link
        if link.transport.is_readable():
            self.pool.discard(origin, link, link.idle_verdict())
            return None
        link.begin()
        return origin, link

    def _discard(self, carriage: Carriage, error: HopError | None) -> None:
        """An attempt failed: its link is closed unless it was given back before."""
        self.client.partner = self.client.awaits = None
        if carriage.released:
            return
        carriage.released = True
        reason = CloseReason.STOPPED
        if error is not None:
            reason = error.reason if error.at is Hop.UPSTREAM else CloseReason.CLIENT_GONE
            if isinstance(error, Denied):
                reason = CloseReason.EARLY_ANSWER
        self.record.upstream_close = reason
        self.pool.discard(carriage.origin, carriage.upstream, reason)

    def _may_repeat(
        self, application: Application, link: UpstreamLink, error: HopError, body: bytes | None
    ) -> bool:
        lost = (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET)
        if not isinstance(error, LinkError) or error.at is not Hop.UPSTREAM:
            return False
        if error.reason not in lost or self.record.status:
            return False
        trace = Trace(
            attempt=self.record.attempts,
            reused=link.reused,
            written=link.written,
            answered=link.answered,
        )
        trace.replayable = body is not None
        return may_repeat(self.request, trace, application.settings.retry_idempotency_key)

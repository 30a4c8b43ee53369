"""One attempt: send a request on an upstream link, and pass its response on to the client.

Usually there is no body, or all of it has arrived, and the response arrives in one piece.  Any
other body is sent by a second coroutine (`Upload`): the response may come before the body ends.
"""

from __future__ import annotations

import math

from hopproxy.errors import BadResponse, HopError, note_failure
from hopproxy.link.stream import Added, ClientStream, UpstreamStream
from hopproxy.link.tunnel import Tunnel
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import SIZED, RequestHead, ResponseHead
from hopproxy.pool import health
from hopproxy.pool.bound import BoundLink, authenticated
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.shared import Lent
from hopproxy.proxy.choice import Choice
from hopproxy.proxy.relay import relay
from hopproxy.proxy.route import RouteTerms
from hopproxy.proxy.terms import Terms
from hopproxy.proxy.upload import Upload
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.routing.plan import Plan
from hopproxy.rules.hop import end_to_end_trailers
from hopproxy.rules.retry import IDEMPOTENT
from hopproxy.rules.template import Asked
from hopproxy.rules.upgrade import check_sent, check_switch, declined, switches


class Attempt:
    """Carries one request on one upstream link; a retry calls `begin` with another link.

    `added` is what the gateway adds to the request's head.  `body` is the body if it has arrived
    completely, None if `upload` sends it.  `released` while no upstream link is in use.  `plan` are
    the changes that the route makes, None if there are none.  With a plan, `request` is the changed
    request, `extra` are lines to add, and `asked` fills variables.  `choice` is None with one
    origin.
    """

    __slots__ = (
        "_head", "_interim", "added", "asked", "body", "choice", "client", "extra", "link",
        "origin", "plan", "pool", "record", "released", "request", "route", "stream", "terms",
        "upload",
    )  # fmt: skip

    added: Added
    plan: Plan | None
    upload: Upload | None
    choice: Choice | None
    body: bytes | None
    _head: ResponseHead | None
    route: RouteTerms
    extra: bytes
    asked: Asked
    pool: Pool
    origin: Origin
    link: Lent  # as the pool knows it
    stream: UpstreamStream  # the same object, as this file reads and writes it

    def __init__(
        self, client: ClientStream, request: RequestHead, record: ExchangeRecord, terms: Terms
    ) -> None:
        self.client = client
        self.request = request
        self.record = record
        self.terms = terms
        self.released = True
        self.plan = self.upload = self.choice = self._head = None
        self.body = b""
        self._interim = 0

    def begin(self, pool: Pool, origin: Origin, link: Lent) -> None:
        """Begin an attempt on a link that was checked out for it."""
        self.pool = pool
        self.origin = origin
        self.link = self.stream = link
        self.released = False
        client, record = self.client, self.record
        client.partner = link if isinstance(link, UpstreamLink) else link.holder
        link.idled = client.since - link.since
        record.attempts += 1
        record.origin = origin.label
        record.upstream_number = link.number
        record.local_port = link.local_port
        if link.served == 1:
            record.fresh = True
            record.unused = link.unused
        elif record.fresh:
            record.fresh = False
        if self.plan is not None and self.plan.late:
            self.request = self.plan.for_origin(self.request, origin.authority)
            if self.plan.bounds:
                self.route.begin_on(link)

    def send(self) -> bool:
        """Send the request, whose body has arrived, at the end of this batch of events.

        False if the request cannot be retried: it is queued and must be flushed now, because the
        link was checked a moment ago.
        """
        request, stream = self.request, self.stream
        stream.write_request(request, self.added, self.body or b"")
        if not request.simple and request.method not in IDEMPOTENT:
            return False
        stream.send_soon()
        return True

    def respond_at_hand(self) -> bool:
        """Pass the response on if it has arrived completely, as most do; else `run` follows."""
        stream = self.stream
        head = stream.head_at_hand(self.request.method)
        if head is None:
            return False
        usual = 200 <= head.status < self.origin.reach.judges_from
        if not usual or (content := stream.take_content(head)) is None:
            self._head = head
            stream.begin_response(head)
            return False
        self._respond(head, content)
        return self.client.send_last()

    async def run(self) -> None:
        """Continue after `respond_at_hand` has returned False.

        Raises HopError; then the caller must `discard` the attempt.
        """
        if self.released:  # the response was at hand and is queued, not yet sent
            await self.client.finish()
            return
        head, self._head = self._head, None
        if head is None:
            head = await self.stream.read_head(self.request.method)
        while head.status < 200 and not await self._pass_interim(head):
            head = await self.stream.read_head(self.request.method)
        await self._finish(head)

    def discard(self, error: Exception | None) -> None:
        """The attempt has failed or was cancelled: close its link unless it was released."""
        self.client.partner = None
        if self.released:
            return
        self.released = True
        reason, upstream_failed = CloseReason.STOPPED, False
        if isinstance(error, HopError):
            upstream_failed = error.at is Hop.UPSTREAM
            reason = error.reason if upstream_failed else CloseReason.CLIENT_GONE
        elif error is not None:
            reason = CloseReason.INTERNAL_ERROR
        self.record.upstream_close, self.record.upstream_stream = reason, self.link.stream_id
        ended = self.pool.give_up(self.origin, self.link, reason)
        if upstream_failed:
            self.record.suffered = ended
            if self.link.answered and not self.record.status:
                health.request_ended(self.pool, self.origin, reason, self.client.now())

    # -- towards the origin ------------------------------------------------------------------

    async def run_both_ways(self) -> None:
        """Send the request and its body, which has not arrived completely; pass the response on."""
        stream, request = self.stream, self.request
        upload = self.upload = self.upload or self.new_upload()
        upload.done = False
        stream.write_request(request, self.added, b"")
        await stream.flush()
        head: ResponseHead | None = None
        if request.expects and not upload.begun and not self.client.at_hand:
            head = await upload.hold_back(self._heard, self.origin)
            stream.expect_head(math.inf)
            if head is not None and not switches(head):
                await self._finish(head)
                return
        try:
            upload.start(self.link)
            head = head or await stream.read_head(request.method)
            while head.status < 200 and not await self._pass_interim(head):
                head = await stream.read_head(request.method)
            if switches(head):
                await upload.ended()
            else:
                await self._finish(head)
        finally:
            upload.close()  # after the response nobody needs the rest of the body
        if switches(head):
            check_sent(upload.done)
            await self._tunnel(head)

    def new_upload(self) -> Upload:
        """The upload of this request's body."""
        return Upload(self.client, self.request, self.record, self.terms.pipe, self.route)

    async def _heard(self, deadline: float) -> ResponseHead:
        """Read the next head, and pass it on if it is interim."""
        self.stream.expect_head(deadline)
        head = await self.stream.read_head(self.request.method)
        if head.status < 200:
            await self._pass_interim(head)
        return head

    # -- towards the client ------------------------------------------------------------------

    async def _pass_interim(self, head: ResponseHead) -> bool:
        """Pass an interim response on (RFC 9110 section 15.2); True for a 101, which is final."""
        if head.status == 101:
            check_switch(self.request, head)
            return True
        self._interim += 1
        if self._interim > self.origin.settings.max_interim:
            raise BadResponse("more interim responses than max_interim", limit="max_interim")
        if not (head.status == 100 and self._heard_continue()):
            await self.client.send_interim(head if self.plan is None else self.plan.interim(head))
        return False

    def _heard_continue(self) -> bool:
        """The origin has sent a 100.  True if we have already sent one to the client."""
        record, origin = self.record, self.origin
        after = self.client.now() - self.client.since - record.queued - record.connecting
        origin.expectation.answered(after, origin.settings.continue_timeout)
        return self.upload is not None and self.upload.told_to_continue

    async def _finish(self, head: ResponseHead) -> None:
        """Pass the final response on."""
        if head.status >= self.origin.reach.judges_from:
            movable = self.choice is not None and self.choice.movable
            health.judge(self.pool, self.origin, head.status, self.client.now(), movable=movable)
        content = None if switches(head) else self.stream.take_content(head)
        if content is None:
            await self._relay(head)
        else:
            self._respond(head, content)
            if not self.client.send_last():
                await self.client.finish()

    def _respond(self, head: ResponseHead, content: bytes) -> None:
        """Queue a response that has arrived completely, and release the upstream link."""
        record = self.record
        out, added = head, self.terms.via_client[head.minor]
        if self.plan is not None or not head.dated:
            out, added = self._for_client(head)
        self.client.respond(out, added, content)
        record.status = head.status
        record.sent = len(content)
        record.first_byte = now = self.client.now()
        self._release(head, now)

    async def _relay(self, head: ResponseHead) -> None:
        """Pass a response on as it arrives."""
        if switches(head):
            await self._tunnel(head)
            return
        client, stream, record = self.client, self.stream, self.record
        data = stream.take_at_hand()  # before the head: if it raises, we can still answer
        client.begin_response(*self._for_client(head))
        record.status = head.status
        record.first_byte = client.now()
        await relay(stream, client, record, data, self.terms.pipe if head.body is SIZED else None)
        trailers = end_to_end_trailers(stream.trailers, head.options)
        client.end_content(trailers if self.plan is None else self.plan.trailers(trailers))
        self._release(head, client.now())
        if not client.send_last():
            await client.finish()

    def _for_client(self, head: ResponseHead) -> tuple[ResponseHead, bytes]:
        """A final response with the changes of the route, and the field lines to add to it."""
        added = self.terms.via_client[head.minor]
        if not head.dated and head.status >= 200:
            added += self.terms.date_line()
        if self.plan is None:
            return head, added
        return self.plan.incoming(head, added, self.asked, self.origin.authority)

    def _release(self, head: ResponseHead, now: float) -> None:
        """The response has been read: give the upstream link back to the pool."""
        link, client, request = self.link, self.client, self.request
        link.end_cycle(head, self.upload is None or self.upload.done)
        if self.plan is not None and self.plan.bounds:
            self.route.end_on(link, self.origin.settings)
        if not request.simple or link.greeting:
            link.ending = link.ending or declined(request)
            if link.greeting or request.binds:
                authenticated(self.origin, link, head.status, binds=request.binds)
        self.record.upstream_close = link.ending
        self.released = True
        client.partner = None
        if not isinstance(link, UpstreamLink):
            self.record.upstream_stream = link.stream_id
            self.pool.shared.release(self.origin, link, now)
            return
        self.pool.release(self.origin, link, now)
        if link.bound and not link.transport.closed:
            if client.bound is not None:  # a link to another upstream
                client.bound.end()
            client.bound = BoundLink(self.pool, self.origin, link)

    async def _tunnel(self, head: ResponseHead) -> None:
        """The origin has switched protocols: answer 101, and carry bytes in both directions."""
        client, record = self.client, self.record
        protocol = check_switch(self.request, head)
        await client.switch(*self._for_client(head), protocol)
        record.status, record.upgraded = 101, True
        record.first_byte = client.now()
        ends = client.tunnel_end(), self.stream.tunnel_end()
        tunnel = Tunnel(*ends, self.route.limits.tunnel_timeout)
        await tunnel.run()
        record.upstream_stream = self.link.stream_id
        record.sent, inwards = tunnel.carried
        record.received += inwards
        if tunnel.cut_by is not None:
            note_failure(record, tunnel.cut_by, client.limits, self.route.limits)
        client.closing = tunnel.reason_for(Hop.CLIENT)
        record.upstream_close = reason = tunnel.reason_for(Hop.UPSTREAM)
        self.released = True
        client.partner = None
        self.pool.give_up(self.origin, self.link, reason)
        self.origin.last_end = CloseReason.TUNNEL_ENDED  # not a failure, whatever `reason` is

"""One attempt: a request out on the upstream link, its response back on the client's.

Most requests have no body, or one that is at hand, and a response that comes in one piece: they
take no task, no nursery and no scope.  A body still on its way is sent by a second task, since the
response may come before it ends.
"""

import trio

from hopproxy.errors import BadResponse, HopError
from hopproxy.link.client import ClientLink, client_gone
from hopproxy.link.tunnel import Tunnel
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import CHUNKED, NO_BODY, SIZED, RequestHead, ResponseHead
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.private import PrivateLink
from hopproxy.record import CloseReason, ExchangeRecord
from hopproxy.rules.hop import end_to_end_trailers, response_for_client
from hopproxy.rules.upgrade import check_sent, check_switch, declined, switches
from hopproxy.terms import Terms
from hopproxy.upload import Upload
from hopproxy.wire.chunked import LAST_CHUNK, chunk

CODED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"


class Carriage:
    """One request on one upstream link, and on another if it must be repeated.

    `released` once the pool has the link back; `verdict` is the client link's own, known when the
    response's head was written.  `outbound` is the head for upstream, `body` what goes with it,
    None when it is still on its way: then `upload` sends it.
    """

    __slots__ = (
        "_interim",
        "application",
        "body",
        "client",
        "deadline",
        "failed",
        "head",
        "origin",
        "outbound",
        "pool",
        "record",
        "released",
        "request",
        "terms",
        "upload",
        "upstream",
        "verdict",
    )

    def __init__(
        self, client: ClientLink, request: RequestHead, record: ExchangeRecord, terms: Terms
    ) -> None:
        self.client = client
        self.request = request
        self.record = record
        self.terms = terms
        self.verdict: CloseReason | None = None
        self.released = True
        self.outbound = b""
        self.body: bytes | None = b""
        self.deadline = 0.0  # of the response's head, where the express lane waited for it
        self.failed: Exception | None = None
        self.head: ResponseHead | None = None
        self.upload: Upload | None = None
        self._interim = 0

    def lend(self, pool: Pool, origin: Origin, upstream: UpstreamLink) -> None:
        """The link that this attempt goes by."""
        self.pool = pool
        self.origin = origin
        self.upstream = upstream
        self.client.partner = upstream
        self.released = False
        self.deadline = 0.0
        record = self.record
        record.attempts += 1
        record.origin = origin.label
        record.upstream_number = upstream.number
        record.local_port = upstream.local_port
        upstream.idled = self.client.since - upstream.since
        record.fresh = upstream.served == 1
        if record.fresh:
            record.unused = upstream.unused

    async def run(self) -> None:
        """Carry the request and its response.

        Raises HopError; the upstream link is the caller's to discard unless `released`.
        """
        upstream = self.upstream
        self.client.awaits = upstream
        if self.body is None:
            await self._duplex(self.outbound)
            return
        upstream.push(self.outbound + self.body if self.body else self.outbound)
        await self.resume()

    async def resume(self) -> None:
        """Take up a carriage whose request is on its way; `failed` and `head` say how far it is."""
        if self.failed is not None:
            error, self.failed = self.failed, None
            try:
                raise error
            finally:
                del error  # it holds this frame
        if self.record.status == 0:
            await self.upstream.flush()
            now = self.client.transport.now()
            deadline = self.deadline or now + self.origin.settings.response_timeout
            head = self.head or await self._read_head(deadline)
            self.head = None
            await self._respond(await self._after_interim(head, deadline))
        await self.client.flush()
        self.client.unbounded = False

    async def _read_head(self, deadline: float) -> ResponseHead:
        if self.client.gone:  # told in the same batch of events as what woke us
            raise client_gone()
        return await self.upstream.read_head(self.request.method, deadline)

    # -- towards the origin ------------------------------------------------------------------

    async def _duplex(self, outbound: bytes) -> None:
        upstream = self.upstream
        first = self.upload is None
        upload = self.upload = self.upload or self._new_upload()
        upload.done = False
        await upstream.send(outbound)
        head: ResponseHead | None = None
        if self.request.expects and first and not self.client.buffer:
            head = await upload.hold_back(self._heard, self.origin)
            if head is not None and not switches(head):
                await self._respond(head)
                return
        failure: HopError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload.run, upstream, nursery.cancel_scope)
            try:
                head = head or await self._read_head(float("inf"))
                head = await self._after_interim(head, float("inf"))
                if not switches(head):
                    await self._respond(head)
            except HopError as error:  # caught inside, raised outside: no exception groups
                failure = error
            if failure is not None or not switches(head):
                nursery.cancel_scope.cancel()  # answered: nobody reads the rest of the body
        failure, upload.failure = upload.failure or failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it holds this frame
        if head is not None and switches(head):  # which is done once the body has been sent
            check_sent(upload.done)
            await self._respond(head)

    def _new_upload(self) -> Upload:
        return Upload(self.client, self.request, self.record, self.terms.pipe)

    async def _heard(self, deadline: float) -> ResponseHead:
        """The next head; an interim one has been passed on."""
        head = await self._read_head(deadline)
        if head.status < 200:
            await self._pass_interim(head)
        return head

    # -- towards the client ------------------------------------------------------------------

    async def _after_interim(self, head: ResponseHead, deadline: float) -> ResponseHead:
        """The final head (or 101), interim ones before it passed on."""
        while head.status < 200 and not await self._pass_interim(head):
            head = await self._read_head(deadline)
        return head

    async def _pass_interim(self, head: ResponseHead) -> bool:
        """Pass an interim response on (RFC 9110 section 15.2); True for a 101, which is final."""
        if head.status == 101:
            check_switch(self.request, head)
            return True
        self._interim += 1
        if self._interim > self.origin.settings.max_interim:
            raise BadResponse("more interim responses than max_interim", limit="max_interim")
        told = head.status == 100 and self._heard_continue()
        if self.request.minor and not told:
            await self.client.send(response_for_client(head, b"") + b"\r\n")
        return False

    def _heard_continue(self) -> bool:
        """The origin has sent a 100; whether the client was told before, by us."""
        timeout = self.origin.settings.continue_timeout
        self.origin.expectation.answered(self.client.transport.now() - self.client.since, timeout)
        return self.upload is not None and self.upload.told_to_continue

    async def _respond(self, head: ResponseHead) -> None:
        """Pass the final response (or a 101 and what follows it) on."""
        whole = self.whole(head)
        if whole is None:
            await self._relay(head)
        else:
            await self.client.send(whole)
            self.client.unbounded = False

    def whole(self, head: ResponseHead) -> bytes | None:
        """The response in one piece if it is at hand, the upstream link given back; else None."""
        body = head.body
        upstream, record = self.upstream, self.record
        chunked = False
        if body is NO_BODY and head.status != 101:
            content = b""
        elif body is SIZED and len(upstream.buffer) >= head.length:
            content = upstream.take_sized_body()
        elif body is CHUNKED and (taken := upstream.take_chunked_body()) is not None:
            content = taken
            chunked = self.request.minor == 1
        else:
            return None
        out = self._client_head(head, chunked=chunked)
        self.client.unbounded = body is CHUNKED and not chunked
        record.status = head.status
        record.sent = len(content)
        record.first_byte = now = self.client.transport.now()
        self._release(head, now)
        if chunked:
            return out + (chunk(content) if content else b"") + LAST_CHUNK
        return out + content

    async def _relay(self, head: ResponseHead) -> None:
        """Pass a response on while it comes in."""
        if head.status == 101:
            await self._tunnel(head)
            return
        client, upstream, record = self.client, self.upstream, self.record
        pipe = self.terms.pipe
        delimited = head.body is SIZED
        chunked = self.request.minor == 1 and not delimited
        data = upstream.take_at_hand()  # broken from the start: then nothing has begun
        client.write(self._client_head(head, chunked=chunked))
        record.status = head.status
        record.first_byte = client.transport.now()
        client.unbounded = not chunked and not delimited
        while True:
            if data:
                record.sent += len(data)
                client.write_body(data, chunked=chunked)
            if not upstream.buffer:
                await client.flush()
            if client.gone:
                raise client_gone()
            if pipe.suits(upstream):
                record.sent += await pipe.carry(upstream, client)
                data = b""
                continue
            data = await upstream.read_body()
            if not data:
                break
        if chunked:
            client.write_last_chunk(end_to_end_trailers(upstream.trailers, head.options))
        self._release(head, client.transport.now())
        await client.flush()
        client.unbounded = False

    def _client_head(self, head: ResponseHead, *, chunked: bool) -> bytes:
        """The head for the client's hop, whose persistence is decided here."""
        request, client = self.request, self.client
        added = self.terms.via_client[head.minor]
        if not head.dated:
            added += self.terms.date_line()
        if chunked:
            added += CODED
        reason = client.verdict(request, head.body, draining=self.terms.draining)
        if reason is None and not client.body_done:
            reason = CloseReason.BODY_UNREAD
        if reason is not None:
            added += CLOSE
        elif request.minor == 0:
            added += KEEP_ALIVE
        self.verdict = reason
        return response_for_client(head, added) + b"\r\n"

    def _release(self, head: ResponseHead, now: float) -> None:
        """The response has been read: the upstream link is free for others."""
        upstream, client = self.upstream, self.client
        upstream.end_cycle(head, self.upload is None or self.upload.done)
        if self.request.upgrade is not None:
            upstream.ending = upstream.ending or declined(self.request)
        self.record.upstream_close = upstream.ending
        if self.request.binds:
            self.origin.bind(upstream, head.status)
        self.released = True
        client.awaits = client.partner = None
        self.pool.release(self.origin, upstream, now)
        if upstream.private and not upstream.transport.closed:
            if client.private is not None:  # bound by an origin of another application
                client.private.end()
            client.private = PrivateLink(self.pool, self.origin, upstream)

    async def _tunnel(self, head: ResponseHead) -> None:
        """The protocol has been switched: bytes both ways from here on."""
        client, upstream, record = self.client, self.upstream, self.record
        protocol = check_switch(self.request, head)
        self.verdict = CloseReason.TUNNEL_ENDED
        added = self.terms.via_client[head.minor]
        added += b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        record.status = 101
        record.upgraded = True
        record.first_byte = self.client.transport.now()
        client.awaits = None
        await client.send(response_for_client(head, added) + b"\r\n")
        tunnel = Tunnel(client, upstream, self.origin.settings.tunnel_timeout)
        await tunnel.run()
        record.sent, inwards = tunnel.carried
        record.received += inwards
        self.verdict = record.upstream_close = tunnel.reason
        self.released = True
        self.pool.discard(self.origin, upstream, tunnel.reason)
        self.origin.last_end = CloseReason.TUNNEL_ENDED  # however it did: no request has failed

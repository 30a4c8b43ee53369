"""A request's body on its way upstream, while the response may already come."""

from collections.abc import Awaitable, Callable

import trio

from hopproxy.errors import BadRequest, HopError, LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.splice import Pipe
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import CHUNKED, RequestHead, ResponseHead
from hopproxy.pool.origin import Origin
from hopproxy.record import CloseReason, ExchangeRecord, Hop
from hopproxy.rules.answer import CONTINUE
from hopproxy.rules.hop import end_to_end_trailers

#: Bytes of a body, and pieces of it, that are kept for a repetition.
KEPT = 65536
KEPT_PIECES = 256

Heard = Callable[[float], Awaitable[ResponseHead]]


class Upload:
    """Sends the body of one request, from its beginning on each attempt.

    `done` once all of it was sent.  `failure` is what ended it early, where the client or a limit
    is the cause.  `kept` is what has been read, None once that is too much to be sent again.
    `told_to_continue` once the client has had its 100 from us.
    """

    __slots__ = (
        "_client",
        "_pipe",
        "_record",
        "_request",
        "done",
        "failure",
        "kept",
        "told_to_continue",
    )

    def __init__(
        self, client: ClientLink, request: RequestHead, record: ExchangeRecord, pipe: Pipe
    ) -> None:
        self._client = client
        self._pipe = pipe
        self._request = request
        self._record = record
        self.done = False
        self.failure: HopError | None = None
        self.kept: list[bytes] | None = []
        self.told_to_continue = False

    async def hold_back(self, heard: Heard, origin: Origin) -> ResponseHead | None:
        """Hold the body back until the origin wants it; the response if it answers instead.

        `heard` reads the next head, up to a deadline.  An origin that says nothing for
        `continue_timeout`, or is known to say nothing, gets the body all the same, and the client
        its 100 from us (RFC 9110 section 10.1.1).  So does one that sends 101 first: no protocol
        begins before the request has ended (section 7.8).
        """
        head = None
        now = self._client.transport.now()
        if not origin.expectation.is_silent(now):
            deadline = now + origin.settings.continue_timeout
            try:
                head = await heard(deadline)
                while head.status < 200 and head.status not in (100, 101):
                    head = await heard(deadline)
            except LinkError as error:
                if error.reason is not CloseReason.RESPONSE_TIMEOUT:
                    raise
                head = None
                origin.expectation.stayed_silent(self._client.transport.now())
        if head is None or head.status == 101:
            self.told_to_continue = True
            await self._client.send(CONTINUE)
        return None if head is None or head.status == 100 else head

    async def run(self, upstream: UpstreamLink, both: trio.CancelScope) -> None:
        """Send the body; on a failure, `both` ways of the exchange are cancelled.

        Cancelled, it leaves the rest of the body unread on the client link.
        """
        upstream.uploading = True
        try:
            await self._send(upstream)
        except HopError as error:
            # An origin that stops reading may well have answered: its response is the better news.
            if error.at is Hop.UPSTREAM and error.reason is not CloseReason.WRITE_TIMEOUT:
                self._expect_response(upstream)
                return
            self.failure = error
            both.cancel()
        finally:
            upstream.uploading = False

    async def _send(self, upstream: UpstreamLink) -> None:
        client, record = self._client, self._record
        chunked = self._request.body is CHUNKED
        limit = client.limits.max_body_size
        for data in self.kept or ():
            upstream.write_body(data, chunked=chunked)
        while True:
            if not client.buffer:
                await upstream.flush()
            if self.kept is None and self._pipe.suits(client):
                record.received += await self._pipe.carry(client, upstream)
                continue
            data = await client.read_body()
            if not data:
                break
            record.received += len(data)
            if limit and record.received > limit:
                raise BadRequest(
                    "the body is larger than max_body_size", 413, limit="max_body_size"
                )
            upstream.write_body(data, chunked=chunked)
            self._keep(data)
        if chunked:
            trailers = end_to_end_trailers(client.trailers, self._request.options)
            upstream.write_last_chunk(trailers)
        await upstream.flush()
        self.done = True
        self._expect_response(upstream)

    def _keep(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.append(data)
            if self._record.received > KEPT or len(self.kept) > KEPT_PIECES:
                self.kept = None

    def _expect_response(self, upstream: UpstreamLink) -> None:
        """From here on it is the origin's turn, unless it has begun to answer already."""
        if not self._record.status:
            now = upstream.transport.now()
            upstream.expect_head(now + upstream.limits.response_timeout)

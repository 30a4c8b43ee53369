"""A request's body on its way upstream, while the response may already come."""

import trio

from hopproxy.errors import BadRequest, HopError
from hopproxy.link.client import ClientLink
from hopproxy.link.splice import Pipe
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import CHUNKED, RequestHead
from hopproxy.record import CloseReason, ExchangeRecord, Hop
from hopproxy.rules.hop import end_to_end_trailers

#: Bytes of a body, and pieces of it, that are kept for a repetition.
KEPT = 65536
KEPT_PIECES = 256


class Upload:
    """Sends the body of one request, from its beginning on each attempt.

    `done` once all of it was sent.  `failure` is what ended it early, where the client or a limit
    is the cause.  `kept` is what has been read, None once that is too much to be sent again.
    """

    __slots__ = ("_client", "_pipe", "_record", "_request", "done", "failure", "kept")

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

    async def run(self, upstream: UpstreamLink, both: trio.CancelScope) -> None:
        """Send the body; on a failure, `both` ways of the exchange are cancelled.

        Cancelled, it leaves the rest of the body unread on the client link.
        """
        try:
            await self._send(upstream)
        except HopError as error:
            # An origin that stops reading may well have answered: its response is the better news.
            if error.at is Hop.UPSTREAM and error.reason is not CloseReason.WRITE_TIMEOUT:
                self._expect_response(upstream)
                return
            self.failure = error
            both.cancel()

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
                raise BadRequest("the body is larger than max_body_size", 413)
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

"""A request's body on its way upstream, while the response may already come."""

from collections.abc import Awaitable, Callable

from hopproxy.errors import BadRequest, HopError, LinkError
from hopproxy.link.splice import Pipe
from hopproxy.link.stepper import Stepper, Waker, wait
from hopproxy.link.stream import ClientStream
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.pool.origin import Origin
from hopproxy.record import CloseReason, ExchangeRecord, Hop
from hopproxy.rules.answer import CONTINUE
from hopproxy.rules.hop import end_to_end_trailers

#: Bytes of a body, and pieces of it, that are kept for a retry.
KEPT = 65536
KEPT_PIECES = 256

Heard = Callable[[float], Awaitable[ResponseHead]]


class Upload(Stepper):
    """Sends the body of one request, from its beginning on each attempt.

    A second coroutine beside that of the exchange, since the response may come before the body
    has ended.  `done` once all of it was sent.  `failure` is what ended it early; it is thrown into
    the exchange where that waits.  `kept` is what has been read, None once that is too much to be
    sent again.  `told_to_continue` once the client has had its 100 from us.
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
        "waker",
    )

    def __init__(
        self, client: ClientStream, request: RequestHead, record: ExchangeRecord, pipe: Pipe
    ) -> None:
        super().__init__()
        self._client = client
        self._pipe = pipe
        self._request = request
        self._record = record
        self.done = False
        self.failure: Exception | None = None
        self.kept: list[bytes] | None = []
        self.told_to_continue = False
        self.waker: Waker | None = None

    @property
    def begun(self) -> bool:
        """Whether the client has been told to send its body, or has sent some of it."""
        return self.told_to_continue or self.kept != []

    async def hold_back(self, heard: Heard, origin: Origin) -> ResponseHead | None:
        """Hold the body back until the origin wants it; the response if it answers instead.

        `heard` reads the next head, up to a deadline.  An origin that says nothing for
        `continue_timeout`, or is known to say nothing, gets the body all the same, and the client
        its 100 from us (RFC 9110 section 10.1.1).  So does one that sends 101 first: no protocol
        begins before the request has ended (section 7.8).
        """
        head = None
        now = self._client.now()
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
                origin.expectation.stayed_silent(self._client.now())
        if head is None or head.status == 101:
            self.told_to_continue = True
            await self._client.send_interim(CONTINUE)
        return None if head is None or head.status == 100 else head

    def start(self, stream: UpstreamLink) -> None:
        """Begin to send the body.  Raises what fails at once.

        Closed, it leaves the rest of the body unread on the client link.
        """
        self.done = False
        self.begin(self._run(stream))
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it holds this frame

    async def ended(self) -> None:
        """Wait until the body has been sent, or will not be."""
        while self.running:
            await wait(self)

    def on_end(self, result: object) -> None:
        """The coroutine has returned."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

    def on_fault(self, error: Exception) -> None:
        """The body cannot be sent to its end: neither can the exchange go on."""
        driver = self._client.driver
        if driver is None or not driver.throw(error):
            self.failure = error

    async def _run(self, stream: UpstreamLink) -> None:
        stream.uploading = True
        try:
            await self._send(stream)
        except HopError as error:
            # An origin that stops reading may well have answered: its response is the better news.
            if error.at is not Hop.UPSTREAM or error.reason is CloseReason.WRITE_TIMEOUT:
                raise
        finally:
            stream.uploading = False
        self._expect_response(stream)

    async def _send(self, stream: UpstreamLink) -> None:
        client, record, pipe = self._client, self._record, self._pipe
        limit = client.limits.max_body_size
        for data in self.kept or ():
            stream.write_content(data)
        while True:
            if not client.at_hand:
                await stream.flush()
            if self.kept is None and pipe.suits(client.link, stream.link):
                record.received += await pipe.carry(client.link, stream.link)
                continue
            data = await client.read_body()
            if not data:
                break
            record.received += len(data)
            if limit and record.received > limit:
                raise BadRequest(
                    "the body is larger than max_body_size", 413, limit="max_body_size"
                )
            stream.write_content(data)
            self._keep(data)
        stream.end_content(end_to_end_trailers(client.trailers, self._request.options))
        await stream.flush()
        self.done = True

    def _keep(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.append(data)
            if self._record.received > KEPT or len(self.kept) > KEPT_PIECES:
                self.kept = None

    def _expect_response(self, stream: UpstreamLink) -> None:
        """From here on it is the origin's turn, unless it has begun to answer already."""
        if not self._record.status:
            now = stream.now()
            stream.expect_head(now + stream.limits.response_timeout)

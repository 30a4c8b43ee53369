"""Sending a request's body upstream while the response may already arrive."""

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from hopproxy.errors import HopError, LinkError
from hopproxy.link.splice import Pipe
from hopproxy.link.stepper import Stepper, Waker, wait
from hopproxy.link.stream import ClientStream, UpstreamStream
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.pool.origin import Origin
from hopproxy.proxy.route import RouteTerms
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.rules.answer import CONTINUE
from hopproxy.rules.framing import check_size
from hopproxy.rules.hop import end_to_end_trailers
from hopproxy.rules.pace import Pace

#: Most bytes of a body, and most pieces of it, that are kept for a retry.
KEPT = 65536
KEPT_PIECES = 256

T = TypeVar("T")
Heard = Callable[[float], Awaitable[ResponseHead]]


class Upload(Stepper):
    """Sends the body of one request; on each attempt, from its beginning.

    It is a second coroutine beside the exchange, since the response may come before the body has
    ended.  `done` once all of it was sent.  An error is thrown into the exchange; if the exchange
    does not wait, `failure` keeps it.  `kept` is what has been read, None once that is too much for
    a retry.  `told_to_continue` once we have sent the client a 100.
    """

    __slots__ = (
        "_client",
        "_pace",
        "_pipe",
        "_record",
        "_request",
        "_route",
        "counted",
        "done",
        "failure",
        "kept",
        "told_to_continue",
        "waker",
    )

    def __init__(
        self,
        client: ClientStream,
        request: RequestHead,
        record: ExchangeRecord,
        pipe: Pipe,
        route: RouteTerms,
    ) -> None:
        super().__init__()
        self._route = route
        self._client = client
        self._pipe = pipe
        self._pace = Pace(client.limits.body_rate)
        self._request = request
        self._record = record
        self.counted = False  # as a slow upload of its upstream
        self.done = False
        self.failure: Exception | None = None
        self.kept: list[bytes] | None = []
        self.told_to_continue = False
        self.waker: Waker | None = None

    @property
    def begun(self) -> bool:
        """Whether we have sent the client a 100, or it has sent some of the body."""
        return self.told_to_continue or self.kept != []

    async def hold_back(self, heard: Heard, origin: Origin) -> ResponseHead | None:
        """Wait for a 100 before sending the body; return the response if one comes instead.

        `heard` reads the next head, until a deadline.  If the origin sends nothing for
        `continue_timeout`, or is known not to send 100, we send the client a 100 and the origin the
        body (RFC 9110 section 10.1.1).  The same if the origin sends 101: it may switch only after
        the whole request (section 7.8).
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

    def start(self, stream: UpstreamStream) -> None:
        """Begin to send the body.  Raises an error that occurs at once.

        `close` leaves the rest of the body unread in the client stream.
        """
        self.done = False
        self.begin(self._run(stream))
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    async def ended(self) -> None:
        """Wait until the coroutine has ended, whether or not it has sent the body."""
        while self.running:
            await wait(self)

    def on_end(self, result: object) -> None:
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

    def on_fault(self, error: Exception) -> None:
        """The body cannot be sent: raise the error in the exchange."""
        driver = self._client.driver
        if driver is None or not driver.throw(error):
            self.failure = error

    async def _run(self, stream: UpstreamStream) -> None:
        stream.uploading = True
        try:
            await self._send(stream)
        except HopError as error:
            # An origin that stops reading may have sent a response: wait for it.
            if error.at is not Hop.UPSTREAM or error.reason is CloseReason.WRITE_TIMEOUT:
                raise
        finally:
            stream.uploading = False
        self._expect_response(stream)

    async def _send(self, stream: UpstreamStream) -> None:
        client, record, pipe = self._client, self._record, self._pipe
        source, sink = client.link, stream.link
        plan, limit = self._route.plan, self._route.largest_body(client.limits)
        for data in self.kept or ():
            stream.write_content(data)
        if record.received > KEPT:
            self.kept = None
        while True:
            if not client.at_hand:
                await stream.flush()
            if (
                self.kept is None
                and source is not None
                and sink is not None
                and pipe.suits(source, sink)
            ):
                record.received += await self._paced(partial(pipe.carry, source, sink), int)
                continue
            data = await self._paced(client.read_body, len)
            if not data:
                break
            record.received += len(data)
            check_size(record.received, limit)
            stream.write_content(data)
            self._keep(data)
        trailers = end_to_end_trailers(client.trailers, self._request.options)
        stream.end_content(trailers if plan is None else plan.request.kept(trailers))
        await stream.flush()
        self.done = True

    async def read_first(self, by: float) -> bytes | None:
        """Read more of the body before anything is sent; None at `by`.

        Raises LinkError: BODY_RATE if the client is too slow, others as `read_body`.
        """
        try:
            return await self._paced(self._client.read_body, len, by)
        except LinkError as error:
            if error.reason is CloseReason.BODY_RATE and by <= self._client.now():
                return None
            raise

    async def _paced(
        self, read: Callable[[], Awaitable[T]], size: Callable[[T], int], by: float = math.inf
    ) -> T:
        """Read more of the body; raises if it is too slow, returns None at `by`.

        Once the response has begun, client and origin may talk to each other, so any pace is
        allowed.
        """
        client, pace, record = self._client, self._pace, self._record
        while True:
            began = client.now()
            client.body_by = math.inf if record.status else min(by, began + pace.patience)
            try:
                data = await read()
            except LinkError as error:
                if error.reason is not CloseReason.BODY_RATE or not record.status:
                    raise
            else:
                pace.came(size(data))
                return data
            finally:
                client.body_by = math.inf
                pace.waited(client.now() - began)

    def _keep(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.append(data)
            if self._record.received > KEPT or len(self.kept) > KEPT_PIECES:
                self.kept = None

    def _expect_response(self, stream: UpstreamStream) -> None:
        """Start `response_timeout`, unless the response has begun."""
        if not self._record.status:
            now = stream.now()
            stream.expect_head(now + self._route.limits.response_timeout)

"""The upstream hop: writes requests, reads responses, decides whether its connection persists."""

import math

from hopproxy.errors import BadResponse, HopError, LinkError
from hopproxy.link.endpoint import RECEIVE_SIZE
from hopproxy.link.pooled import Keeper, PooledLink
from hopproxy.link.stepper import Wait, wait
from hopproxy.link.stream import Added
from hopproxy.link.transport import Transport
from hopproxy.message import CHUNKED, NO_BODY, KeepAliveHint, RequestHead, ResponseHead
from hopproxy.pool.delayed_ack import DelayedAck
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.hop import request_for_upstream
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire import http1
from hopproxy.wire.unfinished import UnfinishedResponse

# A global is faster than an attribute of the class (see `message.Body`).
_UNFINISHED = CloseReason.EARLY_ANSWER
_LATE = CloseReason.RESPONSE_TIMEOUT
#: Idle seconds after which the kernel may send an ACK at once by itself (its shortest delay).
_RECENT = 0.04


class UpstreamLink(PooledLink):
    """One HTTP/1.1 connection, and the upstream stream of each attempt on it (`link.stream`).

    A *cycle* is one request and its response.  `answer_by` is the deadline for the head.  `doubted`
    is why the link must not be used again after an interim response that announced a body.
    `announced` is the PROXY header that it began with, empty if there was none.
    `delayed_ack` learns whether the origin waits for our ACKs, None on Unix sockets.
    """

    __slots__ = (
        "announced", "answer_by", "delayed_ack", "doubted", "hinted", "paused_in", "uploading",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, origin: str, keeper: Keeper, limits: UpstreamSettings
    ) -> None:
        super().__init__(transport, origin, keeper, limits)
        self.announced = b""
        self.answer_by = math.inf
        self.doubted: CloseReason | None = None
        self.uploading = False
        self.hinted: int | None = None
        self.delayed_ack: DelayedAck | None = None
        self.paused_in = 0  # the last request whose response came with a pause

    def begin(self) -> None:
        """A new cycle begins."""
        self.served += 1
        if self.reuses_left is not None:
            self.reuses_left -= 1
        self.transport.resting = False
        self.answer_by = math.inf
        # As in `PooledLink`, without a call: each request gets here.
        self._received_before = self.transport.received
        self._sent_before = self.transport.sent
        self.ending = _UNFINISHED  # until `end_cycle`

    # -- the request -------------------------------------------------------------------------

    def write_request(self, head: RequestHead, added: Added, body: bytes) -> None:
        """Queue the request's head, with what the gateway adds, and the body that has arrived."""
        self.codes = head.body is CHUNKED
        written = request_for_upstream(head, *added)
        self._out += written + body if body else written

    # -- the response ------------------------------------------------------------------------

    def head_at_hand(self, method: bytes) -> ResponseHead | None:
        """The response's head, if one receive gets all of it: the usual case.

        Its content can be taken whole; otherwise call `begin_response`.  After None, call
        `read_head`.  Raises BadResponse and LinkError.
        """
        transport = self.transport
        if self.buffer or self._out or self.fell_short or transport.error is not None:
            return None
        data = transport.receive_now()
        if not data:
            return None
        end = data.find(b"\r\n\r\n") + 4
        if not 4 <= end <= self.limits.max_head_size:
            self.buffer = data
            return None
        self.buffer = data[end:]
        return http1.read_response(data[: end - 4], method)

    async def read_head(self, method: bytes) -> ResponseHead:
        """The next response head, interim ones included; its body can then be read.

        Raises BadResponse as soon as the bytes cannot become a head, and LinkError:
        RESPONSE_TIMEOUT after `answer_by`, which may change during the wait, PEER_CLOSED or
        PEER_RESET if the origin ended the connection first.
        """
        transport = self.transport
        transport.raise_error()
        unfinished: UnfinishedResponse | None = None
        read = 0
        while True:
            if self.buffer:
                head = self.next_head(method, read)
                if head is not None:
                    return head
                if unfinished is None:
                    unfinished = UnfinishedResponse(method)
                unfinished.check(self.buffer)
                read = len(self.buffer)
            data: bytes | None
            if transport.received != self._received_before:
                data = await self._receive(self.answer_by, _LATE)
            else:  # the usual case, without calling another coroutine
                if not (transport.readable or self.fell_short):
                    transport.wait_until(self.answer_by, _LATE)
                    await wait(transport)
                    if transport.error is not None:
                        transport.raise_error()
                if self._out or self.fell_short:
                    await self._request_unsent()
                    continue
                data = transport.receive_now()
            if data:
                self.buffer = self.buffer + data if self.buffer else data
            elif data is not None:
                raise LinkError(
                    Hop.UPSTREAM,
                    CloseReason.PEER_CLOSED,
                    "the origin closed the connection "
                    + ("inside the response's head" if self.answered else "before it answered"),
                )

    async def _request_unsent(self) -> None:
        """Wait for an event before our request is sent: input, or room for the rest."""
        if not self._waits_for_batch:
            await self.send_unsent()
        elif self.transport.endpoint.has_input():
            self._out = b""
            raise self.unasked()
        else:
            self.transport.readable = False

    async def _receive(self, deadline: float, late: CloseReason, size: int = RECEIVE_SIZE) -> bytes:
        """As `Transport.receive`; sends an ACK first if the origin may wait for one."""
        transport, delayed = self.transport, self.delayed_ack
        if delayed is None or not self.answered:
            return await transport.receive(deadline, late, size)
        if transport.readable:
            await transport.until_readable(deadline, late)  # gives others a turn
            at_hand = transport.receive_now(size)
            if at_hand is not None:
                transport.weigh(at_hand)
                return at_hand
        first = self.paused_in != self.served
        self.paused_in = self.served
        came = transport.received - self._received_before
        judged = first and self.served > 1 and came < RECEIVE_SIZE
        at_once = delayed.at_once and not (judged and delayed.take_trial())
        if at_once:
            transport.endpoint.acknowledge()
        if not judged:
            return await transport.receive(deadline, late, size)
        began = transport.now()
        try:
            data = await transport.receive(deadline, late, size)
        except BaseException:
            if not at_once:
                delayed.gave_up()
            raise
        pause = transport.now() - began
        delayed.paused(pause, acknowledged=at_once, recent=self.idled < _RECENT)
        return data

    def next_head(self, method: bytes, read: int = 0) -> ResponseHead | None:
        """Take the head in the buffer, None if it is incomplete.  Raises BadResponse.

        The first `read` bytes are known to contain no empty line.
        """
        try:
            raw = self.take_head(self.limits.max_head_size, read)
        except ValueError:
            raise BadResponse(
                "the response's head is larger than max_head_size", limit="max_head_size"
            ) from None
        if raw is None:
            return None
        head = http1.read_response(raw, method)
        self.begin_response(head)
        return head

    def begin_response(self, head: ResponseHead) -> None:
        """From here on `read_body` returns the body of this head."""
        if head.body is not NO_BODY:
            self.begin_body(head)
        elif head.doubtful and head.status < 200:
            self.doubted = head.ending

    def unasked(self) -> HopError:
        """The error for an origin that sent bytes or closed before our request was sent.

        BadResponse if the first bytes of a fresh link are another protocol (SSH, for example).
        """
        if not self.reused:
            try:
                data = self.transport.receive_now() or b""
                UnfinishedResponse(b"GET").check_lines(data.partition(b"\r\n\r\n")[0])
            except HopError as error:
                return error
        return self.transport.broken(OSError("it sent bytes or closed before the request"))

    def expect_head(self, deadline: float) -> Wait | None:
        """Set `answer_by`, even while `read_head` waits; return what to wait for, if anything."""
        self.answer_by = deadline
        transport = self.transport
        transport.wait_until(deadline, _LATE)
        return None if transport.readable or self.fell_short else transport

    #: Unused: HTTP/1.1 has no streams.
    stream_id = 0

    def tunnel_end(self) -> "UpstreamLink":
        """After a 101: the origin's end of the tunnel."""
        return self

    def end_cycle(self, head: ResponseHead, request_sent: bool) -> None:
        """The response has been read: decide whether the link may be used again.

        `request_sent` is False if the response came before all of our request was sent.
        """
        delayed = self.delayed_ack
        if delayed is not None and delayed.at_once and self.paused_in != self.served:
            delayed.whole()
        if not request_sent:
            self.ending = CloseReason.EARLY_ANSWER
        elif self.buffer:
            self.ending = CloseReason.OVER_READ
        elif self.transport.hung_up:  # there will be no second event for it
            self.ending = head.ending or CloseReason.PEER_CLOSED
        else:
            self.ending = head.ending or self.doubted
            if head.hint is not None:
                self._take_hint(head.hint)

    def _take_hint(self, hint: KeepAliveHint) -> None:
        if hint.max is not None:
            self.reuses_left = hint.max
            if hint.max == 0:
                self.ending = self.ending or CloseReason.HINT
        if hint.timeout is not None:
            if hint.timeout != self.hinted:
                self.hinted = hint.timeout
                self.keeper.on_hint(self, hint.timeout)
            if self.keep_for <= 0:
                self.ending = self.ending or CloseReason.HINT

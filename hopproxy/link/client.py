"""The client-facing hop: reads requests, and decides whether its own connection lives on."""

from __future__ import annotations

from hopproxy.errors import BadRequest, HopError, LinkError
from hopproxy.link.link import MAX_EMPTY_LINES, Link
from hopproxy.link.stepper import Stepper, Waker, wait
from hopproxy.link.stream import Bound
from hopproxy.link.transport import Transport
from hopproxy.message import CHUNKED, NO_BODY, SIZED, Body, RequestHead, ResponseHead
from hopproxy.record import CloseReason, Hop
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.persistence import client_asks, client_can_keep
from hopproxy.settings.schema import ClientSettings
from hopproxy.settings.units import authority
from hopproxy.wire import http1
from hopproxy.wire.chunked import LAST_CHUNK, chunk
from hopproxy.wire.unfinished import UnfinishedRequest

# For every message: a global, as those of `message.Body`.
_LATE = CloseReason.IDLE_TIMEOUT
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

#: Bytes of a response that a socket takes at once, as a rule.
SMALL = 16384
#: Characters of a client's name that are kept: an obfuscated one may be of any length.
NAME_SIZE = 64

#: Bytes of a refused head in which its request line and its Host are looked for.
GLIMPSE = 16384


class Clients:
    """The client links of one worker: all of them, and those that are idle, longest first.

    `draining` once none is to be kept after the response under way.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.links: dict[ClientLink, None] = {}
        self.idle: dict[ClientLink, None] = {}
        self.accepted = 0
        self.draining = False


class ClientLink(Link):
    """One connection of one client, and the stream of each exchange on it (`link.stream`).

    `closing` is why the link will close after the response on its way; set before, the response
    says so.  `close_delimited` while a response goes out whose end only the close will tell.
    `partner` is the upstream link of the exchange under way, for those who look, and `tunnelling`
    tells that the two carry a tunnel.  `bound` is an upstream link that only this client may use
    (NTLM).  `peer` is the address and the port at its other end, `named` the client that a trusted
    proxy there has named last.
    """

    __slots__ = (
        "bound", "clients", "close_delimited", "closing", "driver", "gone", "limits",
        "named", "partner", "request", "sender", "tunnelling",
    )  # fmt: skip

    request: RequestHead

    def __init__(
        self,
        transport: Transport,
        sender: Sender,
        limits: ClientSettings,
        clients: Clients,
        port: int = 0,
    ) -> None:
        super().__init__(transport, authority(sender.peer, port) if port else sender.peer)
        self.named = ""
        self.sender = sender
        self.limits = limits
        self.body_timeout = limits.body_timeout
        self.write_timeout = limits.write_timeout
        self.clients = clients
        self.driver: Stepper | None = None
        self.gone = False
        self.closing: CloseReason | None = None
        self.partner: Link | None = None
        self.bound: Bound | None = None
        self.close_delimited = False
        self.tunnelling = False
        transport.owner = self

    def name_by(self, request: RequestHead) -> str:
        """The client that this request names, where a trusted proxy sent it; empty if none."""
        self.named = self.sender.client(request)[:NAME_SIZE]
        return self.named

    # -- the request -------------------------------------------------------------------------

    @property
    def has_none(self) -> bool:
        """Whether not a byte of a next request is at hand."""
        return not self.transport.readable and (not self.buffer or self.buffer == b"\r")

    def rest(self, waker: Waker) -> None:
        """Be idle until the next request begins, which wakes `waker`; as does the idle timeout."""
        self.clients.idle[self] = None
        limits = self.limits
        limit = limits.idle_timeout if self.served else limits.head_timeout
        self.transport.wait_until(self.since + limit, _LATE)
        self.transport.waker = waker

    def end_rest(self) -> None:
        """Be idle no more.  Raises LinkError: IDLE_TIMEOUT, or what `interrupt` was given.

        Before an idle link is closed, the kernel is asked whether a request has just arrived.
        """
        self.clients.idle.pop(self, None)
        if self.transport.error is not None:
            try:
                self.transport.raise_error()
            except LinkError:
                if not self.transport.endpoint.has_input():
                    raise

    def take_request(self) -> RequestHead | None:
        """The request that is at hand whole, the usual case; None where there is none such.

        Raises BadRequest (with what can be answered), Denied and LinkError.
        """
        data = self.buffer
        if len(data) < 2:
            more = self.transport.receive_now()
            if not more:
                return None
            data = self.buffer = data + more if data else more
        end = data.find(b"\r\n\r\n")
        if end <= 0 or data[0] <= 32 or end + 4 > self.limits.max_head_size:
            return None
        self.buffer = data[end + 4 :]
        return self._read(data[:end])

    async def read_head(self) -> RequestHead | None:
        """A request that has begun and comes in several pieces, or never comes whole.

        None when there were empty lines only: the link is as idle as before.  Raises as
        `take_request`, and HEAD_TIMEOUT.
        """
        try:
            raw = await self._read_in_pieces()
        except HopError as error:
            error.read = self.buffer[:GLIMPSE]
            raise
        return None if raw is None else self._read(raw)

    async def _read_in_pieces(self) -> bytes | None:
        """The bytes of a head; None when there were empty lines only."""
        limits = self.limits
        deadline = self.transport.now() + limits.head_timeout
        empty_lines = read = 0
        unfinished: UnfinishedRequest | None = None
        while True:
            while self.buffer.startswith(b"\r\n") and empty_lines < MAX_EMPTY_LINES:
                self.buffer = self.buffer[2:]
                empty_lines += 1
            try:
                raw = self.take_head(limits.max_head_size, read)
            except ValueError:
                raise self._too_large() from None
            if raw is not None or self.buffer in (b"", b"\r"):
                return raw
            if unfinished is None:
                unfinished = UnfinishedRequest(limits)
            unfinished.check(self.buffer)
            read = len(self.buffer)
            data = await self.transport.receive(deadline, CloseReason.HEAD_TIMEOUT)
            if not data:
                raise LinkError(
                    Hop.CLIENT, CloseReason.INCOMPLETE, "the connection ended inside a head"
                )
            self.buffer += data

    def _read(self, raw: bytes) -> RequestHead:
        self.served += 1
        self.since = self.now()
        self.closing = None
        if self.transport.hung_up:
            self.gone = True
        try:
            request = self.request = http1.read_request(raw, self.limits)
        except HopError as error:
            error.read = raw[:GLIMPSE]
            raise
        if request.body is not NO_BODY:
            self.begin_body(request)
        return request

    def _too_large(self) -> BadRequest:
        line_end = self.buffer.find(b"\r\n", 0, self.limits.max_head_size)
        if line_end < 0 or line_end > self.limits.max_target_size + 64:
            return BadRequest(
                "the request line is longer than max_target_size", 414, limit="max_target_size"
            )
        return BadRequest("the head is larger than max_head_size", 431, limit="max_head_size")

    # -- the response ------------------------------------------------------------------------

    async def send_interim(self, head: ResponseHead) -> None:
        """Send an interim response; HTTP/1.0 has none (RFC 9110 section 15.2)."""
        if self.request.minor:
            await self.send(http1.write_response(head, b""))

    def respond(self, head: ResponseHead, added: bytes, content: bytes) -> None:
        """Queue a whole response, with the fields `added` by the gateway."""
        if head.body is CHUNKED and self.request.minor:
            out = self._write_head(head, added + _CHUNKED)
            self._out += out + (chunk(content) if content else b"") + LAST_CHUNK
        else:
            self.close_delimited = head.body is CHUNKED
            self._out += self._write_head(head, added) + content

    def begin_response(self, head: ResponseHead, added: bytes) -> None:
        """Queue the head of a response whose body follows."""
        self.codes = head.body is not SIZED and self.request.minor == 1
        self.close_delimited = not self.codes and head.body is not SIZED
        self.write(self._write_head(head, added + _CHUNKED if self.codes else added))

    def send_last(self) -> bool:
        """The response has been queued to its end: send it at the end of this batch of events.

        Sends that follow each other are cheaper than sends with other work between them.  False
        where `finish` has to wait for it.  A small response on a link that is kept is not waited
        for: should the client not take it, the next wait on this link ends with it.
        """
        small = len(self._out) <= SMALL and self.closing is None
        self._waits_for_batch = self.transport.send_later(self)
        if self.fell_short or (self._waits_for_batch and not small):
            return False
        self.close_delimited = False
        return True

    async def finish(self) -> None:
        """Wait until the whole response has been sent.  Raises LinkError as `flush`."""
        if self._waits_for_batch:
            await wait(self)
        if self.fell_short:
            await self.send_unsent()
        self.close_delimited = False

    async def switch(self, head: ResponseHead, added: bytes, protocol: bytes) -> None:
        """Send a 101: from here on the link is a tunnel."""
        self.closing = CloseReason.TUNNEL_ENDED
        self.tunnelling = True
        added += b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        await self.send(http1.write_response(head, added))

    def _write_head(self, head: ResponseHead, added: bytes) -> bytes:
        """The head of a final response, in which the persistence of this link is settled."""
        reason = self.closing or self._verdict(head.body)
        if reason is None and self.body is not NO_BODY:
            reason = CloseReason.BODY_UNREAD
        if reason is not None:
            self.closing = reason
            added += b"Connection: close\r\n"
        elif self.request.minor == 0:
            added += b"Connection: keep-alive\r\n"
        return http1.write_response(head, added)

    def _verdict(self, body: Body) -> CloseReason | None:
        """None to keep the link after a response with this `body`, or why it will be closed."""
        request, limits = self.request, self.limits
        if self.clients.draining:
            return CloseReason.DRAINING
        if request.options or request.minor == 0:
            reason = client_asks(request) or client_can_keep(request, body)
            if reason is not None:
                return reason
        if limits.max_requests and self.served >= limits.max_requests:
            return CloseReason.REQUEST_LIMIT
        if limits.max_age and self.transport.now() - self.opened >= limits.max_age:
            return CloseReason.MAX_AGE
        return None

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket, behind what has been queued for the end of this batch of events."""
        if self._waits_for_batch and not reset:
            self.send_queued()
        super().close(reason, reset=reset)

    # -- told by the transport ---------------------------------------------------------------

    def on_unawaited(self, hung_up: bool) -> None:
        """The client closed (or reset) while its request was under way: nobody waits any more."""
        if hung_up and not self.gone:
            self.gone = True
            if self.driver is not None and self.waker is None:
                self.driver.throw(client_gone())

    def on_lapsed(self) -> None:
        """A client link has no deadline of its own while an exchange is under way."""

    def on_fault(self, error: Exception) -> None:
        """Its event met a fault of ours: that of its exchange, if there is one."""
        if self.driver is not None and not self.driver.throw(error):
            self.driver.on_fault(error)


def client_gone() -> LinkError:
    """The client left while its exchange was under way."""
    return LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, "the client closed before the response")

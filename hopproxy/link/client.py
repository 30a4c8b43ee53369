"""The client's hop: reads requests, writes responses, decides whether its connection persists."""

from __future__ import annotations

from hopproxy.errors import HopError, LinkError
from hopproxy.link.clients import Bound, Clients
from hopproxy.link.faults import report
from hopproxy.link.link import MAX_EMPTY_LINES, Link
from hopproxy.link.own_copy import own_copy
from hopproxy.link.stepper import Stepper, Waker, wait
from hopproxy.link.transport import Transport
from hopproxy.message import CHUNKED, NO_BODY, SIZED, Body, RequestHead, ResponseHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.persistence import CLOSE, KEEP_ALIVE, client_ends
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.units import authority
from hopproxy.wire import http1
from hopproxy.wire.chunked import LAST_CHUNK, chunk
from hopproxy.wire.glimpse import glimpse
from hopproxy.wire.unfinished import UnfinishedRequest

# A global is faster than an attribute of the class (see `message.Body`).
_LATE = CloseReason.IDLE_TIMEOUT
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

#: Bytes of a response that a socket usually accepts at once.
SMALL = 16384
#: Characters kept of a client's name: an obfuscated identifier can have any length.
NAME_SIZE = 64

#: Bytes of a refused head that are searched for its request line and Host.
GLIMPSE = 16384


class ClientLink(Link):
    """One connection of one client, and the client stream of each exchange on it (`link.stream`).

    `closing` is why the link is going to close after the current response, which announces it if
    `closing` is set in time; `close_reason` is why it has closed.  `close_delimited` while a
    response is sent that ends with the connection.  `partner` is the upstream link of the current
    exchange, shown by the admin listener; `tunnelling` if the two carry a tunnel.  `bound` is an
    upstream link that only this client may use (NTLM).  `peer` is the client's address and port,
    `named` the client that a trusted proxy at that address has named last.
    """

    __slots__ = (
        "bound", "bounded", "clients", "close_delimited", "closing", "driver", "gone", "limits",
        "named", "partner", "request", "sender", "tunnelling",
    )  # fmt: skip

    protocol = "http/1.1"
    stream_id = 0
    request: RequestHead

    def __init__(
        self,
        transport: Transport,
        sender: Sender,
        limits: LinkSettings,
        clients: Clients,
        port: int = 0,
    ) -> None:
        super().__init__(transport, authority(sender.peer, port) if port else sender.peer)
        self.named = ""
        self.sender = sender
        self.limits = limits
        self.body_timeout = limits.body_timeout
        self.write_timeout = limits.write_timeout
        self.bounded = bool(limits.max_requests or limits.max_age)
        self.clients = clients
        self.driver: Stepper | None = None
        self.gone = False
        self.closing: CloseReason | None = None
        self.partner: Link | None = None
        self.bound: Bound | None = None
        self.close_delimited = False
        self.tunnelling = False
        transport.owner = self

    @property
    def fd(self) -> int:
        """As `ClientStream.fd`."""
        return self.transport.fd

    def name_by(self, request: RequestHead) -> str:
        """Return and remember the client that a trusted proxy names in this request, "" if none."""
        self.named = self.sender.client(request)[:NAME_SIZE]
        return self.named

    def gone_error(self) -> LinkError:
        """The error for a client that has left during its exchange."""
        detail = "the client closed before the response"
        return LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, detail)

    def glimpse(self, error: HopError) -> tuple[bytes, bytes, bytes]:
        """(method, target, host) of a request that was refused with `error`, as far as known."""
        return glimpse(error.read)

    def tunnel_end(self) -> Link:
        """After `switch`: the client's end of the tunnel."""
        return self

    # -- the request -------------------------------------------------------------------------

    @property
    def has_no_request(self) -> bool:
        """Whether no byte of the next request has arrived."""
        return not self.transport.readable and (not self.buffer or self.buffer == b"\r")

    def rest(self, waker: Waker) -> None:
        """Be idle until the next request or the idle timeout wakes `waker`."""
        self.clients.idle[self] = None
        limits = self.limits
        limit = limits.idle_timeout if self.served else limits.head_timeout
        transport = self.transport
        transport.wait_until(self.since + limit, _LATE)
        transport.waker = waker

    def end_rest(self) -> None:
        """Stop being idle.  Raises LinkError: IDLE_TIMEOUT, or the error given to `interrupt`.

        Before an idle link is closed, check that no request has just arrived.
        """
        self.clients.idle.pop(self, None)
        try:
            self.transport.raise_error()
        except LinkError:
            if not self.transport.endpoint.has_input():
                raise

    def take_request(self) -> RequestHead | None:
        """Take a request whose head has arrived completely, the usual case; else None.

        Raises BadRequest, Denied, LinkError.
        """
        data = self.buffer
        if len(data) < 2:
            more = self.transport.receive_now()
            if not more:
                return None
            data = self.buffer = data + more if data else more
        end = data.find(b"\r\n\r\n")
        rest = end + 4
        if end <= 0 or data[0] <= 32 or rest > self.limits.max_head_size:
            return None
        self.buffer = data[rest:]
        return self._read(data[:end])

    async def read_head(self) -> RequestHead | None:
        """Read a request whose head arrives in several pieces.

        None if there were only empty lines: the link is still idle.  Raises as `take_request`,
        and LinkError: HEAD_TIMEOUT, INCOMPLETE.
        """
        try:
            raw = await self._read_in_pieces()
        except HopError as error:
            error.read = self.buffer[:GLIMPSE]
            raise
        return None if raw is None else self._read(raw)

    async def _read_in_pieces(self) -> bytes | None:
        """The bytes of a head; None if there were only empty lines."""
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
                raise http1.too_large(self.buffer, limits) from None
            if raw is not None or self.buffer in (b"", b"\r"):
                return raw
            if unfinished is None:
                unfinished = UnfinishedRequest(limits)
                self.transport.endpoint.acknowledge()  # as in `_read`
            unfinished.check(self.buffer)
            read = len(self.buffer)
            data = await self.transport.receive(deadline, CloseReason.HEAD_TIMEOUT)
            if not data:
                detail = "the connection ended inside a head"
                raise LinkError(Hop.CLIENT, CloseReason.INCOMPLETE, detail)
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
        if not request.simple and request.body is not NO_BODY:
            self.begin_body(request)
            came = self.buffer
            whole = len(came) >= self.left if self.body is SIZED else came.endswith(LAST_CHUNK)
            if not (whole or request.expects or self.transport.readable):
                # With Nagle's algorithm, a client that sends the rest of the body separately keeps
                # it back until this part is acknowledged; the kernel would delay that by 40 ms.
                self.transport.endpoint.acknowledge()
        return request

    # -- the response ------------------------------------------------------------------------

    async def send_interim(self, head: ResponseHead) -> None:
        """Send an interim response; HTTP/1.0 has none (RFC 9110 section 15.2)."""
        if self.request.minor:
            await self.send(http1.write_response(head, b""))

    def respond(self, head: ResponseHead, added: bytes, content: bytes) -> None:
        """Queue a complete response, with the field lines `added` by the gateway."""
        if head.body is CHUNKED and self.request.minor:
            out = self._write_head(head, added + _CHUNKED)
            self._out += out + (chunk(content) if content else b"") + LAST_CHUNK
        else:
            self.close_delimited = head.body is CHUNKED
            self._out += self._write_head(head, added) + content

    def begin_response(self, head: ResponseHead, added: bytes) -> None:
        """Queue the head of a response whose body follows, or whose end does, if it has none."""
        has_length = head.body is SIZED or head.body is NO_BODY
        self.codes = not has_length and self.request.minor == 1
        self.close_delimited = not has_length and not self.codes
        self.write(self._write_head(head, added + _CHUNKED if self.codes else added))

    def send_last(self) -> bool:
        """Call when all of the response is queued: sends it at the end of this batch of events.

        False: await `finish`.  Sends in a row are cheaper than sends with other work between them.
        A small response on a persistent link is not waited for: if it cannot be sent, the next step
        on this link finds out.  If the link closes, that is other work, so it is sent at once.
        """
        if self.closing is not None:
            endpoint = self.transport.endpoint
            if endpoint.tells_end:
                endpoint.end_with_next()
            self.send_queued()
            if self.fell_short:
                return False
        else:
            small = len(self._out) <= SMALL
            self._waits_for_batch = self.transport.send_later(self)
            if self.fell_short or (self._waits_for_batch and not small):
                return False
        self.close_delimited = False
        return True

    async def finish(self) -> None:
        """After `send_last` has returned False: wait until all of the response has been sent.

        Raises LinkError as `flush`.
        """
        if self._waits_for_batch:
            await wait(self)
        if self.fell_short:
            await self.send_unsent()
        self.close_delimited = False

    async def switch(self, head: ResponseHead, added: bytes, protocol: bytes) -> None:
        """Send a 101: from now on the link is a tunnel."""
        self.closing = CloseReason.TUNNEL_ENDED
        self.tunnelling = True
        added += b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        await self.send(http1.write_response(head, added))

    def _write_head(self, head: ResponseHead, added: bytes) -> bytes:
        """The head of a final response, with the Connection field this link needs."""
        reason = self.closing
        # If there is a reason already, there may be no request: its head could not be read.
        if reason is None and (not self.request.simple or self.clients.draining or self.bounded):
            reason = self._verdict(head.body)
            if reason is None and self.request.minor == 0:
                added += KEEP_ALIVE
        if reason is not None:
            self.closing = reason
            added += CLOSE
        return http1.write_response(head, added)

    def _verdict(self, body: Body) -> CloseReason | None:
        """Why the link must close after a response with this `body`; None to keep it."""
        request, limits = self.request, self.limits
        if self.clients.draining:
            return CloseReason.DRAINING
        reason = client_ends(request, body)
        if reason is not None:
            return reason
        if limits.max_requests and self.served >= limits.max_requests:
            return CloseReason.REQUEST_LIMIT
        if limits.max_age and self.transport.now() - self.opened >= limits.max_age:
            return CloseReason.MAX_AGE
        return CloseReason.BODY_UNREAD if self.body is not NO_BODY else None

    send_queued = own_copy(Link.send_queued)

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket.  Output queued for the end of this batch is sent first."""
        if self._waits_for_batch and not reset:
            self.send_queued()
        super().close(reason, reset=reset)

    # -- called by the transport -------------------------------------------------------------

    def on_unawaited(self, hung_up: bool) -> None:
        """The client closed or reset the connection during its request: abort the exchange."""
        if hung_up and not self.gone:
            self.gone = True
            if self.driver is not None and self.waker is None:
                self.driver.throw(self.gone_error())

    def on_lapsed(self) -> None:
        """Not used: an idle client link always has a waker."""

    def on_fault(self, error: Exception) -> None:
        """A callback raised an unexpected exception: raise it in the exchange, if there is one."""
        if self.driver is None:  # it is being closed
            report(error, f"the end of a connection from {self.peer}")
        elif not self.driver.throw(error):
            self.driver.on_fault(error)

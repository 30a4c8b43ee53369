"""The client-facing hop: reads requests, and decides whether its own connection lives on."""

from typing import Protocol

from hopproxy.errors import BadRequest, HopError, LinkError
from hopproxy.link.link import MAX_EMPTY_LINES, Link
from hopproxy.link.transport import Transport
from hopproxy.message import Body, RequestHead
from hopproxy.record import CloseReason, Hop
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.persistence import client_asks, client_can_keep
from hopproxy.settings.units import authority
from hopproxy.wire import http1
from hopproxy.wire.unfinished import UnfinishedRequest

#: Characters of a client's name that are kept: an obfuscated one may be of any length.
NAME_SIZE = 64

#: Bytes of a refused head in which its request line and its Host are looked for.
GLIMPSE = 16384


class ClientLimits(Protocol):
    """The settings of the client-facing hop: seconds, bytes, counts; 0 is no limit."""

    @property
    def idle_timeout(self) -> float: ...
    @property
    def head_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def write_timeout(self) -> float: ...
    @property
    def max_requests(self) -> int: ...
    @property
    def max_age(self) -> float: ...
    @property
    def max_head_size(self) -> int: ...
    @property
    def max_fields(self) -> int: ...
    @property
    def max_target_size(self) -> int: ...
    @property
    def max_body_size(self) -> int: ...
    @property
    def linger_timeout(self) -> float: ...
    @property
    def linger_size(self) -> int: ...


class Interruptible(Protocol):
    """A wait on behalf of a client, which ends when the client has gone."""

    def interrupt(self, error: Exception) -> bool: ...


class Bound(Protocol):
    """What is bound to one client link, and ends with it."""

    def end(self) -> None: ...


class ClientLink(Link):
    """One connection of one client.

    `idle_links` is the crowd's register of links between two requests, longest idle first.
    `awaits` is what the exchange under way waits for; `partner` is the upstream link it is coupled
    to, for those who look.  `ending` is set once the link must close after the answer on its way.
    `private` is an upstream link that only this client may use (NTLM).  `unbounded` while a
    response goes out whose end only the close will tell.  `peer` is the address and the port at
    its other end, `named` the client that a trusted proxy there has named last.
    """

    __slots__ = (
        "awaits",
        "ending",
        "gone",
        "idle_links",
        "limits",
        "named",
        "partner",
        "private",
        "sender",
        "unbounded",
    )

    def __init__(
        self,
        transport: Transport,
        sender: Sender,
        limits: ClientLimits,
        idle_links: "dict[ClientLink, None]",
        port: int = 0,
    ) -> None:
        super().__init__(transport, authority(sender.peer, port) if port else sender.peer)
        self.named = ""
        self.sender = sender
        self.limits = limits
        self.body_timeout = limits.body_timeout
        self.write_timeout = limits.write_timeout
        self.idle_links = idle_links
        self.awaits: Interruptible | None = None
        self.gone = False
        self.ending: CloseReason | None = None
        self.partner: Link | None = None
        self.private: Bound | None = None
        self.unbounded = False
        transport.owner = self

    def name_by(self, request: RequestHead) -> str:
        """The client that this request names, where a trusted proxy sent it; empty if none."""
        self.named = self.sender.client(request)[:NAME_SIZE]
        return self.named

    async def read_head(self) -> RequestHead | None:
        """The next request, None when the client closed between two of them.

        Raises BadRequest (with what can be answered), Denied, and LinkError: IDLE_TIMEOUT before a
        head's first byte (nothing may be sent then), HEAD_TIMEOUT after it.
        """
        limits = self.limits
        while True:
            if not self.buffer or self.buffer == b"\r":
                # The usual case: the link is idle, then a whole head comes in one piece.
                self.idle_links[self] = None
                limit = limits.idle_timeout if self.served else limits.head_timeout
                try:
                    data = await self.transport.receive(
                        self.since + limit, CloseReason.IDLE_TIMEOUT
                    )
                finally:
                    del self.idle_links[self]
                if not data:
                    return None
                self.buffer = data = self.buffer + data
                end = data.find(b"\r\n\r\n")
                if end > 0 and end + 4 == len(data) <= limits.max_head_size and data[0] > 32:
                    self.buffer = b""
                    return self._read(data[:end])
            try:
                raw = await self._read_in_pieces()
            except HopError as error:
                error.read = self.buffer[:GLIMPSE]
                raise
            if raw is not None:
                return self._read(raw)

    def _read(self, raw: bytes) -> RequestHead:
        self.served += 1
        self.since = self.transport.now()
        try:
            return http1.read_request(raw, self.limits)
        except HopError as error:
            error.read = raw[:GLIMPSE]
            raise

    async def _read_in_pieces(self) -> bytes | None:
        """A head that is in the buffer, or comes in several pieces, or never comes whole.

        None when there were empty lines only: the link is as idle as before.
        """
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

    def _too_large(self) -> BadRequest:
        line_end = self.buffer.find(b"\r\n", 0, self.limits.max_head_size)
        if line_end < 0 or line_end > self.limits.max_target_size + 64:
            return BadRequest(
                "the request line is longer than max_target_size", 414, limit="max_target_size"
            )
        return BadRequest("the head is larger than max_head_size", 431, limit="max_head_size")

    # -- verdict -----------------------------------------------------------------------------

    def verdict(self, request: RequestHead, body: Body, *, draining: bool) -> CloseReason | None:
        """None to keep the link after a response with this `body`, or why it will be closed.

        Asked when the response's head is written, since the client is to be told.
        """
        limits = self.limits
        if draining:
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

    # -- told by the transport ---------------------------------------------------------------

    def on_unawaited(self, hung_up: bool) -> None:
        """The client closed (or reset) while its request was under way: nobody waits any more."""
        if hung_up and not self.gone:
            self.gone = True
            if self.awaits is not None:
                self.awaits.interrupt(client_gone())

    def on_lapsed(self) -> None:
        """A client link never rests without a task."""


def client_gone() -> LinkError:
    """The client left while its exchange was under way."""
    return LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, "the client closed before the response")

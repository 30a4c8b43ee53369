"""One HTTP/1.1 client connection: its requests in turn, and how it ends.

While the link is idle there is no coroutine; the transport wakes this object when bytes arrive.
Then a coroutine begins, and runs until the link is idle again.  Most connections never get a task.
If one got a task, because the worker drains, it keeps its coroutine while idle.

`server.h2_connection` does the same for HTTP/2.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from hopproxy.errors import LOG_ONLY, HopError, LinkError
from hopproxy.link.client import ClientLink
from hopproxy.link.faults import contain, report
from hopproxy.link.handshake import TlsTransport
from hopproxy.link.stepper import Stepper, wait
from hopproxy.link.transport import Transport
from hopproxy.proxy.exchange import exchange, refuse
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.served import Owner
from hopproxy.wire.h2_frames import PREFACE

_PEER_CLOSED = CloseReason.PEER_CLOSED  # a global is faster (see `message.Body`)
#: Reasons to close while the client may still be sending a body.
_MORE_TO_COME = frozenset(
    {
        CloseReason.BODY_UNREAD,
        CloseReason.BODY_TIMEOUT,
        CloseReason.BODY_RATE,
        CloseReason.BAD_REQUEST,
    }
)


Work = Coroutine[Any, Any, CloseReason | bytes | None]


class Http1Owner(Owner, Protocol):
    """The gateway, as a connection of HTTP/1.1 sees it."""

    def speak_h2(self, connection: Connection, data: bytes) -> None:
        """The client has begun with `data`, the preface of HTTP/2."""


class Connection(Stepper):
    """Serves one client link.

    `in_task` once a task drives it.  `speaks_h2` if its client may begin with the preface of
    HTTP/2.
    """

    __slots__ = ("client", "in_task", "owner", "speaks_h2")

    def __init__(self, client: ClientLink, owner: Http1Owner, *, speaks_h2: bool = False) -> None:
        super().__init__()
        self.client = client
        self.in_task = False
        self.owner = owner
        self.speaks_h2 = speaks_h2

    def start(self) -> None:
        """Wait for the first request.

        A TLS handshake or a PROXY header would come before, in an opening (DESIGN.md section 3).
        """
        self.client.driver = self
        self.client.rest(self)

    def wake(self) -> None:
        """An event on the idle link, or the end of a wait of its coroutine."""
        if self._woken is not None:
            Stepper.wake(self)
            return
        if self._work is None:
            self._work = self._begin()
        self._wait = None
        self._step()

    def _begin(self) -> Work:
        """Make the coroutine for an event on the idle link: most often directly an exchange."""
        client = self.client
        client.clients.idle.pop(client, None)
        if client.transport.error is None and not client.fell_short:
            try:
                request = client.take_request()
            except HopError as error:
                return self._refuse(error)
            if request is not None:
                return exchange(client, request, self.owner.terms)
        return self._serve()

    def on_end(self, result: object) -> None:
        """A coroutine of this connection has returned.

        An exchange returns None; `_serve` and `_refuse` return the reason to close, None if the
        link is idle, or the preface of HTTP/2.
        """
        client = self.client
        if isinstance(result, bytes):
            self.owner.speak_h2(self, result)
        elif result is not None:
            assert isinstance(result, CloseReason)
            self.owner.close(self, result)
        elif client.closing is not None:
            if lingers(client, client.closing):
                self.begin(self._linger(client.closing))
            else:
                self.owner.close(self, client.closing)
        elif (
            not self.in_task
            and not client.transport.readable
            and (not client.buffer or client.has_no_request)
        ):
            client.rest(self)
        else:
            self.begin(self._serve())

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception outside an exchange: end this link, and nothing else."""
        report(error, f"a connection from {self.client.peer}")
        self.close()
        self.owner.close(self, CloseReason.INTERNAL_ERROR)

    # -- the worker stops ----------------------------------------------------------------------

    def announce_close(self) -> None:
        """The worker is about to stop, but still serves.

        HTTP/1.1 can only say so in a response (`Clients.draining`).
        """

    def end_idle(self) -> None:
        """Close the link if it is idle; a request that arrives at this moment is still answered."""
        draining = LinkError(Hop.CLIENT, CloseReason.DRAINING, "the gateway is draining")
        self.client.transport.interrupt(draining)

    @property
    def under_way(self) -> int:
        """How many requests are being served."""
        return int(self.running and self.client not in self.client.clients.idle)

    async def _say_goodbye(self) -> None:
        """Send FIN on an idle link and wait a moment for the client's.

        A request that comes now is lost; it is only counted.
        """
        client = self.client
        received = client.transport.received
        await client.linger(client.clients.goodbye, client.limits.linger_size)
        client.clients.late += client.transport.received > received

    # -- in a task -----------------------------------------------------------------------------

    async def run_in_task(self) -> None:
        """Serve this connection in the calling task until it ends.  Closes it when cancelled."""
        try:
            await self.drive()
        except Exception as error:  # as the watch does with an event
            contain(self, error)
        finally:
            self.owner.close(self, CloseReason.STOPPED)

    def move_to_task(self) -> None:
        """Stop stepping from events: `run_in_task` follows."""
        self.in_task = True
        if self._work is None:  # idle: the task needs a coroutine that waits
            self.begin(self._serve(rests=True))
        super().move_to_task()

    async def _rest(self) -> None:
        self.client.rest(self)
        await wait(self.client.transport)
        self.client.end_rest()

    async def _serve(self, *, rests: bool = False) -> CloseReason | bytes | None:
        """Serve requests until none is at hand: None if the link is idle again.

        Otherwise returns the reason to close it.  `rests` if the link is idle at the beginning.
        """
        client = self.client
        try:
            if rests:
                await self._rest()
            else:
                client.end_rest()
            while client.closing is None:
                await client.send_unsent()  # it must not wait for the next response
                request = client.take_request()
                if request is None and client.buffer:
                    request = await client.read_head()
                if request is not None:
                    await exchange(client, request, self.owner.terms)
                    await client.transport.take_turns()
                elif client.transport.readable and client.buffer in (b"", b"\r"):
                    return CloseReason.PEER_CLOSED
                elif client.has_no_request:
                    if not self.in_task:
                        return None
                    await self._rest()
        except HopError as error:
            return await self._refuse(error)
        return await self._linger(client.closing)

    async def _refuse(self, error: HopError) -> CloseReason | bytes:
        """End the connection: its head cannot be read, or no request has come.

        Returns what was read if it is the preface of HTTP/2.
        """
        if self.speaks_h2 and error.read.startswith(PREFACE[:3]):
            data = await self._read_preface(error.read)
            if data:
                return data
        if error.status == LOG_ONLY:
            if error.reason is CloseReason.DRAINING and self.client.clients.goodbye:
                await self._say_goodbye()
            return error.reason
        await refuse(self.client, error, self.owner.terms)
        return await self._linger(self.client.closing or error.reason)

    async def _read_preface(self, read: bytes) -> bytes:
        """What has arrived, if it begins with the preface (RFC 9113 section 3.4), else b""."""
        client = self.client
        if client.served > 1:
            return b""
        if client.served:  # it was taken for a head, without its empty line
            read += b"\r\n\r\n" + client.buffer
        deadline = client.opened + client.limits.head_timeout
        try:
            while len(read) < len(PREFACE) and PREFACE.startswith(read):
                more = await client.transport.receive(deadline, CloseReason.HEAD_TIMEOUT)
                if not more:
                    return b""
                read += more
        except LinkError:
            return b""
        return read if read.startswith(PREFACE) else b""

    async def _linger(self, reason: CloseReason) -> CloseReason:
        """Close gracefully if the client may still be sending."""
        client = self.client
        if lingers(client, reason):
            await client.linger(client.limits.linger_timeout, client.limits.linger_size)
        return reason


#: Reasons to close inside a response.
_CUTS = frozenset(
    {
        CloseReason.RESPONSE_CUT,
        CloseReason.WRITE_TIMEOUT,
        CloseReason.INTERNAL_ERROR,
        CloseReason.STOPPED,
    }
)


def is_cut(transport: Transport, reason: CloseReason) -> bool:
    """Whether a response over TLS ends early: without close_notify, it cannot look complete."""
    return reason in _CUTS and isinstance(transport, TlsTransport)


def lingers(client: ClientLink, reason: CloseReason) -> bool:
    """Whether the client may still be sending: then a lingering close is needed."""
    if reason is _PEER_CLOSED or client.close_delimited:
        return False
    if is_cut(client.transport, reason):
        return False
    return bool(client.buffer or client.transport.readable or reason in _MORE_TO_COME)

"""Client connections, each from accept to close: its requests in turn, and how it ends.

A connection begins on its express lane, without a task.  It gets one when something is to be waited
for, and keeps it.
"""

import logging
import socket
from collections.abc import Callable
from itertools import islice

import trio

from hopproxy.carriage import Carriage
from hopproxy.errors import BadRequest, Denied, HopError, LinkError, note_failure
from hopproxy.exchange import exchange
from hopproxy.express import COUNTED, Express
from hopproxy.lane import Lane
from hopproxy.link.client import ClientLink
from hopproxy.link.transport import Transport
from hopproxy.message import NO_BODY, SIZED, RequestHead, ResponseHead
from hopproxy.record import CloseReason, CloseRecord, ExchangeRecord, Hop, setting_behind
from hopproxy.rules.answer import answer_to, last_hop_answer
from hopproxy.rules.forwarding import Sender, hops_left
from hopproxy.rules.hop import response_for_client
from hopproxy.runtime import Runtime
from hopproxy.wire.glimpse import glimpse

log = logging.getLogger("hopproxy")

Log = Callable[[ExchangeRecord], None]
#: Makes the body of an answer of our own richer for those who would read it in a browser.
Page = Callable[[RequestHead | None, HopError], tuple[ResponseHead, bytes] | None]

#: Addresses whose senders are remembered.
SENDERS = 1024

#: Idle links that are looked at for one that has not just asked, where room is to be made.
LOOKS = 16

#: Why a link ends although its message was sound, or before one was read.
_ENDS_AT_ONCE = (
    CloseReason.IDLE_TIMEOUT,
    CloseReason.PEER_RESET,
    CloseReason.INCOMPLETE,
    CloseReason.MADE_ROOM,
    CloseReason.DRAINING,
)

#: Why a link ends while the client may well be sending a body still.
_MORE_TO_COME = (CloseReason.BODY_UNREAD, CloseReason.BODY_TIMEOUT, CloseReason.BAD_REQUEST)


class Gateway:
    """Serves client connections out of one runtime; `log` is told of every exchange.

    Tasks run in `nursery`.
    """

    def __init__(
        self, runtime: Runtime, nursery: trio.Nursery, log: Log | None, page: Page | None = None
    ) -> None:
        self.log = log
        self._runtime = runtime
        self._nursery = nursery
        self._page = page
        self._senders: dict[str, Sender] = {}
        #: The lanes of links without a task.
        self._lanes: dict[ClientLink, Lane] = {}

    def admit(self, sock: socket.socket, peer: str | tuple[str, int]) -> None:
        """Begin to serve an accepted connection of this address, or address and port."""
        address, port = (peer, 0) if isinstance(peer, str) else peer
        runtime = self._runtime
        limits = runtime.settings.client
        try:
            transport = Transport(sock, runtime.watch, Hop.CLIENT)
        except OSError as error:
            sock.close()
            who = self._sender(address).peer
            log.warning("a connection from %s cannot be served: %s", who, error)
            return
        clients = runtime.clients
        client = ClientLink(transport, self._sender(address), limits, clients.idle, port)
        clients.links[client] = None
        clients.accepted += 1
        lane = self._lanes[client] = Express(client, runtime, self)
        lane.start()

    def take_up(self, lane: Lane) -> None:
        """Begin the task of this lane's link."""
        del self._lanes[lane.client]
        self._nursery.start_soon(self._serve, lane)

    def end(self, lane: Lane, reason: CloseReason) -> bool:
        """Close the link of a lane without a task; False where that needs one."""
        client = lane.client
        if _lingers(client, reason):
            return False
        lane.leave()
        del self._lanes[client]
        self._close(client, reason)
        return True

    async def _serve(self, lane: Lane) -> None:
        """Serve one connection until it ends.  Leaves nothing behind, cancelled or not."""
        client = lane.client
        reason = CloseReason.STOPPED
        try:
            reason = await self._requests(client, lane)
        except trio.Cancelled:
            raise
        except Exception:  # a fault of ours must not take the other connections along
            reason = CloseReason.INTERNAL_ERROR
            log.exception("a connection from %s failed through a fault in hopproxy", client.peer)
        finally:
            self._close(client, reason)

    def _sender(self, address: str) -> Sender:
        """Who sends from this address: what upstream is told is the same for all its links."""
        sender = self._senders.get(address)
        if sender is None:
            if len(self._senders) >= SENDERS:
                self._senders.clear()
            settings = self._runtime.settings
            sender = Sender(address, b"http", settings.trusted_proxies, settings.forwarding)
            self._senders[address] = sender
        return sender

    async def _requests(self, client: ClientLink, lane: Lane) -> CloseReason:
        """Request after request; why the link is to be closed."""
        while True:
            try:
                carried = await lane.run()
                request = await client.read_head() if carried is None else None
            except HopError as error:
                return await self._refuse(client, error)
            reason: CloseReason | None
            if isinstance(carried, CloseReason):
                reason = carried
            elif carried is not None:
                reason = await self._exchange(client, carried.request, carried)
            elif request is not None:
                reason = await self._exchange(client, request, None)
            else:
                return CloseReason.PEER_CLOSED
            if reason is not None:
                if _lingers(client, reason):
                    await client.linger(client.limits.linger_timeout, client.limits.linger_size)
                return reason

    async def _exchange(
        self, client: ClientLink, request: RequestHead, carriage: Carriage | None
    ) -> CloseReason | None:
        """One exchange, from its beginning or from where the express lane has left it."""
        runtime = self._runtime
        if carriage is not None:
            record = carriage.record
        else:
            record = ExchangeRecord(client.peer, client.number, client.served, client.since)
            record.method, record.target, record.host = request.method, request.target, request.host
            if client.sender.trusted:
                record.client = client.name_by(request)
        try:
            if carriage is not None:
                begun = runtime.applications[record.route]
                reason = await exchange(carriage, begun, runtime.pool)
            elif request.method in COUNTED and (own := self._last_hop(request)) is not None:
                reason = await self._send_own(client, request, record, own)
            else:
                application = runtime.table.find(request.host, request.target)
                if application is None:
                    raise Denied(
                        "no route matches this host and path", 404, "destination_not_found"
                    )
                record.route = application.name
                carriage = Carriage(client, request, record, runtime.terms)
                reason = await exchange(carriage, application, runtime.pool)
        except HopError as error:
            reason = await self._fail(client, request, record, error)
        except BaseException:
            record.cause = record.cause or "stopped"
            raise
        finally:
            record.ended = client.since = client.transport.now()
            runtime.tallies[record.route].add(record)
            if self.log is not None:
                self.log(record)
        return reason

    # -- failures ----------------------------------------------------------------------------

    async def _fail(
        self, client: ClientLink, request: RequestHead, record: ExchangeRecord, error: HopError
    ) -> CloseReason | None:
        """The exchange failed: answer if nothing has begun, else cut; the client link's verdict."""
        application = self._runtime.applications.get(record.route)
        note_failure(record, error, client.limits, application and application.settings)
        if record.status:
            return CloseReason.RESPONSE_CUT if error.at is Hop.UPSTREAM else error.reason
        record.status = error.status
        if isinstance(error, LinkError) and error.at is Hop.CLIENT and error.status == 499:
            return error.reason
        return await self._answer(client, request, record, error)

    async def _refuse(self, client: ClientLink, error: HopError) -> CloseReason:
        """A head that could not be read: answered where that is right, then closed."""
        if isinstance(error, LinkError) and error.reason in _ENDS_AT_ONCE:
            return error.reason
        record = ExchangeRecord(client.peer, client.number, client.served, client.since)
        record.method, record.target, record.host = glimpse(error.read)
        note_failure(record, error, client.limits)
        record.status = error.status
        await self._answer(client, None, record, error)
        record.ended = client.transport.now()
        self._runtime.tallies[""].add(record)
        if self.log is not None:
            self.log(record)
        await client.linger(client.limits.linger_timeout, client.limits.linger_size)
        return error.reason

    async def _answer(
        self,
        client: ClientLink,
        request: RequestHead | None,
        record: ExchangeRecord,
        error: HopError,
    ) -> CloseReason | None:
        """Send the answer to a failed exchange; the client link's verdict."""
        page = self._page(request, error) if self._page is not None else None
        own = page or answer_to(error, self._runtime.terms.pseudonym)
        if request is None or isinstance(error, BadRequest) or error.status in (405, 408):
            client.ending = error.reason
        return await self._send_own(client, request, record, own)

    async def _send_own(
        self,
        client: ClientLink,
        request: RequestHead | None,
        record: ExchangeRecord,
        own: tuple[ResponseHead, bytes],
    ) -> CloseReason | None:
        """Send a response of our own making; the client link's verdict."""
        terms = self._runtime.terms
        head, body = own
        added = terms.date_line()
        reason = client.ending
        if reason is None and request is not None:
            taken = request.body is SIZED and record.received == request.length
            unread = record.attempts == 0 and request.body is not NO_BODY and not taken
            reason = client.verdict(request, SIZED, draining=terms.draining)
            if unread or not client.body_done:
                reason = CloseReason.BODY_UNREAD
        if reason is not None:
            added += b"Connection: close\r\n"
        elif request is not None and request.minor == 0:
            added += b"Connection: keep-alive\r\n"
        out = response_for_client(head, added) + b"\r\n"
        record.status = head.status
        if request is None or request.method != b"HEAD":
            out += body
            record.sent = len(body)
        try:
            await client.send(out)
        except LinkError as broken:
            return broken.reason
        await trio.lowlevel.checkpoint()  # pipelined answers must not starve the others
        return reason

    def _last_hop(self, request: RequestHead) -> tuple[ResponseHead, bytes] | None:
        """Our own answer to a TRACE or OPTIONS that goes no further.  Raises Denied (405)."""
        if request.method == b"TRACE" and not self._runtime.settings.trace:
            raise Denied("TRACE is not served here", 405)
        return last_hop_answer(request) if hops_left(request) == 0 else None

    # -- ending ------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Give each link a task, so that the nursery waits for all of them."""
        for lane in list(self._lanes.values()):
            lane.adopt()

    def stop(self) -> None:
        """Close at once every link that has no task; the others end with theirs."""
        for client, lane in list(self._lanes.items()):
            lane.leave()
            self._close(client, CloseReason.STOPPED)
        self._lanes.clear()

    def shed(self) -> None:
        """Let go of the longest idle client link, if there is one."""
        made_room = LinkError(Hop.CLIENT, CloseReason.MADE_ROOM, "made room for a new connection")
        for longest in islice(self._runtime.clients.idle, LOOKS):
            if longest.transport.is_readable():
                continue  # it has asked, or left: its event is on its way
            lane = self._lanes.get(longest)
            if lane is not None and self.end(lane, CloseReason.MADE_ROOM):
                return
            if longest.transport.interrupt(made_room):  # else it was asked already, and is going
                return

    def _close(self, client: ClientLink, reason: CloseReason) -> None:
        del self._runtime.clients.links[client]
        if client.private is not None:
            client.private.end()
        now = client.transport.now()
        client.close(reason, reset=client.unbounded)
        times = (now, now - client.opened, now - client.since)
        reason = client.close_reason or reason
        record = CloseRecord(Hop.CLIENT, client.peer, reason, times, client.served)
        record.client = client.named
        if not client.gone:  # who leaves under its own request was not idle
            record.limit = setting_behind(reason, client.limits)
        self._runtime.closes.add(record)


def _lingers(client: ClientLink, reason: CloseReason) -> bool:
    """Whether the client may not have sent its last: then closing must wait for it."""
    if reason is CloseReason.PEER_CLOSED or client.unbounded:
        return False
    return bool(client.buffer or client.transport.readable or reason in _MORE_TO_COME)


def interrupt_idle(runtime: Runtime) -> None:
    """Close every client link that is between two requests: the worker drains."""
    for client in list(runtime.clients.idle):
        if not client.transport.is_readable():  # else it has asked: the answer will say close
            client.transport.interrupt(
                LinkError(Hop.CLIENT, CloseReason.DRAINING, "the gateway is draining")
            )

"""The express lane of a client link: whole, plain exchanges carried from event to event.

On a persistent connection most exchanges are alike: a head comes in one piece, an idle upstream
link is at hand or only to be dialled, the response comes in one piece.  Such an exchange needs no
decision that waits, so its two steps run straight from the watch's events.  It is the same code
that a task would run (`exchange`, `Carriage`), only there is none: switching tasks costs more than
the work between, and beginning one costs more still.

At the first thing that is not plain (a body still on its way, an interim response, an error, others
who wait for a link) the link's task takes up the carriage as it stands (`lane`).  The lane decides
nothing of its own.
"""

from hopproxy.carriage import Carriage
from hopproxy.errors import HopError
from hopproxy.exchange import outbound_head
from hopproxy.lane import Entrance, Lane
from hopproxy.link.client import ClientLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import NO_BODY, SIZED, RequestHead
from hopproxy.record import CloseReason, ExchangeRecord, Unused
from hopproxy.rules.retry import IDEMPOTENT
from hopproxy.runtime import Runtime
from hopproxy.wire import http1

#: Methods that the gateway may have to answer itself (Max-Forwards, TRACE).
COUNTED = frozenset({b"TRACE", b"OPTIONS"})

# For every message: a global, as those of `message.Body`.
_LATE = CloseReason.RESPONSE_TIMEOUT


class Express(Lane):
    """Plain exchanges of one client link."""

    __slots__ = ("_data", "_why")

    def __init__(self, client: ClientLink, runtime: Runtime, entrance: Entrance) -> None:
        super().__init__(client, runtime, entrance)
        self._data = b""  # on its way out
        self._why: Unused | None = None  # the link that is waited for is a fresh one

    # -- the client's event: a request -------------------------------------------------------

    def _on_request(self) -> None:
        client = self.client
        try:
            data = client.transport.receive_now()
            if data is None:
                return
            if not data and self._ended(CloseReason.PEER_CLOSED):
                return
            client.buffer = data
            if not self._begin(data):
                self._wake()
        except Exception as error:  # the watch must not fall with one link: its task raises this
            self._error = error
            self._wake()

    def _begin(self, data: bytes) -> bool:
        """Send a plain request on its way; False leaves it, unread, to the task."""
        client, runtime = self.client, self._runtime
        end = data.find(b"\r\n\r\n")
        if end <= 0 or data[0] <= 32 or end + 4 > client.limits.max_head_size:
            return False
        try:
            request = http1.read_request(data[:end], client.limits)
            application = runtime.table.find(request.host, request.target)
            if application is None or not self._is_plain(request, len(data) - end - 4):
                return False
            record = ExchangeRecord(client.peer, client.number, client.served + 1, 0.0)
            carriage = Carriage(client, request, record, runtime.terms)
            carriage.outbound = outbound_head(carriage, application)
        except HopError:
            return False
        now = client.transport.now()
        balancer = application.balancer
        origin = balancer.only or balancer.look(now)
        link = runtime.pool.acquire_now(origin, look=request.method not in IDEMPOTENT)
        if link is None:
            # Where one dial fails another origin is to be tried: that takes a task.
            if balancer.only is None or not runtime.pool.dial_for(origin, self):
                return False
            self._why = origin.why_unused()
            client.awaits = self
        elif balancer.only is None:
            balancer.pick(now)
        self._carriage = carriage
        del client.idle_links[client]
        client.transport.unpark()
        client.served += 1
        client.since = record.started = now
        record.method, record.target, record.host = request.method, request.target, request.host
        record.route = application.name
        if client.sender.trusted:
            record.client = client.name_by(request)
        client.buffer = b""
        if request.body is SIZED:
            carriage.body = data[end + 4 :]
            record.received = request.length
        carriage.pool, carriage.origin = runtime.pool, origin
        if link is not None:
            carriage.lend(runtime.pool, origin, link)
            self._send(carriage, link, now)
        return True

    def _is_plain(self, request: RequestHead, rest: int) -> bool:
        """Whether the request is here whole, with nothing behind it, and is not ours to answer."""
        if request.method in COUNTED or self.client.transport.hung_up:
            return False
        if request.body is NO_BODY:
            return rest == 0
        limit = self.client.limits.max_body_size
        if request.body is not SIZED or (limit and request.length > limit):
            return False
        return rest == request.length

    def _send(self, carriage: Carriage, link: UpstreamLink, now: float) -> None:
        self.client.awaits = link
        deadline = carriage.deadline = now + carriage.origin.settings.response_timeout
        link.transport.park(self._on_response, self._rouse, deadline, _LATE)
        self._data = carriage.outbound + carriage.body if carriage.body else carriage.outbound
        if carriage.request.method in IDEMPOTENT:
            self._runtime.watch.later(self)
        else:  # its link was looked at in this moment, and can die in the next
            self.flush()

    def flush(self) -> None:
        """Send what the last event has brought: a request, or the response to one."""
        carriage, data = self._carriage, self._data
        self._data = b""
        if carriage is None or not data:  # it has left, or its link has
            return
        try:
            if carriage.released:
                if self._answer(carriage, data):
                    return
            elif carriage.upstream.push(data):
                return
        except HopError as error:
            carriage.failed = error
        except Exception as error:  # as in `_on_request`
            self._error = error
        self._wake()

    # -- a link that is waited for -----------------------------------------------------------

    def serve(self, link: UpstreamLink) -> None:
        """Here is a link for the request that waits."""
        carriage, client = self._carriage, self.client
        assert carriage is not None
        client.awaits = None
        try:
            pool, origin = carriage.pool, carriage.origin
            dialled = None if link.reused else link.dialled_at
            now, record = client.transport.now(), carriage.record
            record.note_wait(record.started, now, dialled)
            if pool.begin(origin, link, self._why) is None:
                self._wake()
                return
            carriage.lend(pool, origin, link)
            self._send(carriage, link, now)
        except Exception as error:  # as in `_on_request`
            self._error = error
            self._wake()

    def fail(self, error: Exception) -> None:
        """No link will come."""
        carriage = self._carriage
        assert carriage is not None
        self.client.awaits = None
        record = carriage.record
        record.note_wait(record.started, self.client.transport.now(), record.started)
        carriage.failed = error
        self._wake()

    def interrupt(self, error: Exception) -> bool:
        """The client has gone: nobody waits any more."""
        self._leave_queue()
        self.fail(error)
        return True

    def leave(self) -> None:
        if self.client.awaits is self:
            self._leave_queue()
        super().leave()

    def _leave_queue(self) -> None:
        carriage = self._carriage
        assert carriage is not None
        carriage.pool.leave(carriage.origin, self)

    # -- the upstream's event: a response ----------------------------------------------------

    def _on_response(self) -> None:
        carriage = self._carriage
        assert carriage is not None
        try:
            if not self._respond(carriage):
                self._wake()
        except HopError as error:
            carriage.failed = error
            self._wake()
        except Exception as error:  # as in `_on_request`
            self._error = error
            self._wake()

    def _respond(self, carriage: Carriage) -> bool:
        """Pass a plain response on; False leaves what has come of it to the task."""
        link = carriage.upstream
        if self._data:  # it has not gone out yet: what comes is no answer to it
            if not link.transport.is_readable():
                return True
            self._data = b""
            raise link.unasked()
        data = link.transport.receive_now()
        if data is None:
            return True  # not for us: it stays parked
        if not data:
            return False  # a FIN, which stays to be read again
        link.buffer = link.buffer + data if link.buffer else data
        head = link.next_head(carriage.request.method)
        carriage.head = head
        if head is None or head.status < 200:
            return False
        link.transport.unpark()
        whole = carriage.whole(head)
        if whole is None:
            return False
        carriage.head = None
        self._data = whole
        self._runtime.watch.later(self)
        return True

    def _answer(self, carriage: Carriage, data: bytes) -> bool:
        """Send the response; False leaves what follows to the task."""
        client = self.client
        if not client.push(data) or client.private is not None:
            return False
        client.unbounded = False
        self._end(carriage.record)
        self._carriage = None
        if carriage.verdict is not None:
            self._verdict = carriage.verdict
            return self._ended(carriage.verdict)
        self._await_request()
        # Bytes that came meanwhile are for the task, in its turn.
        return not client.transport.readable

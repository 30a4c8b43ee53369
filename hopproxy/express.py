"""The express lane of a client link: whole, plain exchanges carried from event to event.

On a persistent connection most exchanges are alike: a head comes in one piece, an idle upstream
link is at hand, the response comes in one piece.  Such an exchange needs no decision that waits, so
its two steps run straight from the watch's events.  It is the same code that a task would run
(`exchange`, `Carriage`), only there is none: switching tasks costs more than the work between, and
beginning one costs more still.

At the first thing that is not plain (a body still on its way, an interim response, an error, a link
to be waited for) the link gets its task, which takes up the carriage as it stands; from then on it
is parked while the lane serves, and woken.  The lane decides nothing of its own and never waits.
"""

from collections.abc import Callable
from typing import Protocol

from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from hopproxy.carriage import Carriage
from hopproxy.errors import HopError, LinkError
from hopproxy.exchange import discard, outbound_head
from hopproxy.link.client import ClientLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import Body, RequestHead
from hopproxy.record import CloseReason, ExchangeRecord, Unused
from hopproxy.rules.retry import IDEMPOTENT
from hopproxy.runtime import Runtime
from hopproxy.wire import http1

#: Methods that the gateway may have to answer itself (Max-Forwards, TRACE).
COUNTED = frozenset({b"TRACE", b"OPTIONS"})


class Entrance(Protocol):
    """The gateway, as a lane sees it.  `log` is told of every exchange that ends."""

    log: Callable[[ExchangeRecord], None] | None

    def take_up(self, lane: "Express") -> None:
        """Begin the task of this lane's link, which calls `run`."""

    def end(self, lane: "Express", reason: CloseReason) -> bool:
        """Close the link of a lane without a task; False where that needs one."""


class Express:
    """The lane of one client link.  `tasked` once the link has a task of its own."""

    __slots__ = (
        "_carriage",
        "_entrance",
        "_error",
        "_roused",
        "_runtime",
        "_task",
        "_verdict",
        "_why",
        "client",
        "tasked",
    )

    def __init__(self, client: ClientLink, runtime: Runtime, entrance: Entrance) -> None:
        self.client = client
        self.tasked = False
        self._runtime = runtime
        self._entrance = entrance
        self._roused = False
        self._task: Task | None = None
        self._carriage: Carriage | None = None
        self._error: Exception | None = None
        self._verdict: CloseReason | None = None
        self._why: Unused | None = None  # the link that is waited for is a fresh one

    def start(self) -> None:
        """Serve a link that has no task."""
        self._await_request()

    def adopt(self) -> None:
        """Give the link a task, whatever it does."""
        self.tasked = True
        self._entrance.take_up(self)

    async def run(self) -> Carriage | CloseReason | None:
        """Carry what is plain until something is not: in the link's task.

        Returns a carriage that is under way, to be resumed; why the link is to be closed after an
        exchange that has ended; or None when the link has bytes (or a FIN) to be read in the
        ordinary way.  Raises LinkError as `ClientLink.read_head` does.  Cancelled, it leaves
        nothing lent.
        """
        client = self.client
        if not self._roused:
            if client.transport.express is None and self._carriage is None:
                if client.buffer or client.transport.readable or client.private is not None:
                    return None
                self._await_request()
            self._task = current_task()
            try:
                await wait_task_rescheduled(self._abort)
            except BaseException:
                self.leave()
                raise
        self._roused = False
        client.idle_links.pop(client, None)
        error = self._error or client.transport.take_error()
        self._error = None
        carriage, self._carriage = self._carriage, None
        if carriage is None:
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # it holds this frame
            return self._verdict
        if not carriage.released:  # else the link may be another's by now, and so may its error
            error = carriage.upstream.transport.take_error() or error
        carriage.failed = carriage.failed or error
        return carriage

    def leave(self) -> None:
        """Cancelled, or to be closed: nothing stays lent, nothing stays armed."""
        self._disarm()
        self.client.idle_links.pop(self.client, None)
        carriage, self._carriage = self._carriage, None
        if carriage is not None:
            if self.client.awaits is self:
                carriage.pool.leave(carriage.origin, self)
            discard(carriage, None)

    def _abort(self, _: object) -> Abort:
        self._disarm()
        self._task = None
        return Abort.SUCCEEDED

    def _disarm(self) -> None:
        self.client.transport.unpark()
        if self._carriage is not None and not self._carriage.released:
            self._carriage.upstream.transport.unpark()

    def _wake(self) -> None:
        self._disarm()
        self._rouse()

    def _rouse(self) -> None:
        """On with the link's task."""
        self._roused = True
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)
        elif not self.tasked:
            self.adopt()

    def _ended(self, reason: CloseReason) -> bool:
        """Whether the link could be closed here and now."""
        return not self.tasked and self._entrance.end(self, reason)

    # -- the client's event: a request -------------------------------------------------------

    def _await_request(self) -> None:
        client = self.client
        client.idle_links[client] = None
        limits = client.limits
        deadline = client.since + (limits.idle_timeout if client.served else limits.head_timeout)
        client.transport.park(self._on_request, self._lapse, deadline, CloseReason.IDLE_TIMEOUT)

    def _lapse(self) -> None:
        """No request came in time, or the link is to go without one."""
        self._error = self.client.transport.take_error()
        if isinstance(self._error, LinkError) and self._ended(self._error.reason):
            self._error = None
        else:
            self._rouse()

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
        client.buffer = b""
        if request.body is Body.SIZED:
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
        if request.body is Body.NONE:
            return rest == 0
        limit = self.client.limits.max_body_size
        if request.body is not Body.SIZED or (limit and request.length > limit):
            return False
        return rest == request.length

    def _send(self, carriage: Carriage, link: UpstreamLink, now: float) -> None:
        transport = link.transport
        self.client.awaits = link
        try:
            whole = link.push(carriage.outbound + (carriage.body or b""))
        except LinkError as error:
            carriage.failed = error
            self._wake()
            return
        if not whole:
            self._wake()
            return
        deadline = carriage.deadline = now + carriage.origin.settings.response_timeout
        transport.park(self._on_response, self._rouse, deadline, CloseReason.RESPONSE_TIMEOUT)

    # -- a link that is waited for -----------------------------------------------------------

    def serve(self, link: UpstreamLink) -> None:
        """Here is a link for the request that waits."""
        carriage, client = self._carriage, self.client
        assert carriage is not None
        client.awaits = None
        try:
            pool, origin = carriage.pool, carriage.origin
            if pool.begin(origin, link, self._why) is None:
                self._wake()
                return
            carriage.lend(pool, origin, link)
            self._send(carriage, link, client.transport.now())
        except Exception as error:  # as in `_on_request`
            self._error = error
            self._wake()

    def fail(self, error: Exception) -> None:
        """No link will come."""
        assert self._carriage is not None
        self.client.awaits = None
        self._carriage.failed = error
        self._wake()

    def interrupt(self, error: Exception) -> bool:
        """The client has gone: nobody waits any more."""
        carriage = self._carriage
        assert carriage is not None
        carriage.pool.leave(carriage.origin, self)
        self.fail(error)
        return True

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
        link, client = carriage.upstream, self.client
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
        if not client.push(whole) or client.private is not None:
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

    def _end(self, record: ExchangeRecord) -> None:
        """One exchange is over."""
        client, log = self.client, self._entrance.log
        record.ended = client.since = client.transport.now()
        self._runtime.tallies[record.route].add(record)
        if log is not None:
            log(record)

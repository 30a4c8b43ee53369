"""The lane of a client link: served from the watch's events, and by a task once one must wait.

Most links never need a task.  When something is to be waited for the link gets one, which takes up
what is under way, and from then on it is parked while the lane serves, and woken.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from hopproxy.carriage import Carriage
from hopproxy.errors import LinkError
from hopproxy.exchange import discard
from hopproxy.link.client import ClientLink
from hopproxy.record import CloseReason, ExchangeRecord
from hopproxy.runtime import Runtime

# For every message: a global, as those of `message.Body`.
_LATE = CloseReason.IDLE_TIMEOUT


class Entrance(Protocol):
    """The gateway, as a lane sees it.  `log` is told of every exchange that ends."""

    log: Callable[[ExchangeRecord], None] | None

    def take_up(self, lane: "Lane") -> None:
        """Begin the task of this lane's link, which calls `run`."""

    def end(self, lane: "Lane", reason: CloseReason) -> bool:
        """Close the link of a lane without a task; False where that needs one."""


class Lane(ABC):
    """The lane of one client link.  `tasked` once the link has a task of its own."""

    __slots__ = (
        "_carriage",
        "_entrance",
        "_error",
        "_roused",
        "_runtime",
        "_task",
        "_verdict",
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
            discard(carriage, None)
            carriage.record.cause = carriage.record.cause or "stopped"
            self._end(carriage.record)

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

    def _await_request(self) -> None:
        client = self.client
        client.idle_links[client] = None
        limits = client.limits
        deadline = client.since + (limits.idle_timeout if client.served else limits.head_timeout)
        client.transport.park(self._on_request, self._lapse, deadline, _LATE)

    def _lapse(self) -> None:
        """No request came in time, or the link is to go without one."""
        self._error = self.client.transport.take_error()
        if self.client.transport.is_readable():  # one has come in this moment
            self._error = None
            self._await_request()
            self._on_request()
        elif isinstance(self._error, LinkError) and self._ended(self._error.reason):
            self._error = None
        else:
            self._rouse()

    @abstractmethod
    def _on_request(self) -> None:
        """Bytes have come, or a FIN."""

    def _end(self, record: ExchangeRecord) -> None:
        """One exchange is over."""
        client, log = self.client, self._entrance.log
        record.ended = client.since = client.transport.now()
        self._runtime.tallies[record.route].add(record)
        if log is not None:
            log(record)

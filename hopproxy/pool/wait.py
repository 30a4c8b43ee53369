"""One caller in the queue of an origin."""

from collections.abc import Callable

import trio

from hopproxy.errors import Unanswered
from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.origin import Origin
from hopproxy.pool.reach import PATIENCE


class Wait:
    """A wait for a link: parked until it is served, failed or interrupted."""

    __slots__ = ("_error", "_link", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._link: UpstreamLink | None = None
        self._error: Exception | None = None

    def serve(self, link: UpstreamLink) -> None:
        """The ledger hands over a link."""
        self._link = link
        self._wake()

    def fail(self, error: Exception) -> None:
        """No link will come."""
        self._error = error
        self._wake()

    def interrupt(self, error: Exception) -> bool:
        """The caller's client has gone.  False when the wait was over already."""
        if self._task is None:
            return False
        self.fail(error)
        return True

    async def settled(self) -> None:
        """Wait for whatever comes.  A checkpoint."""
        if self._link is None and self._error is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def take(self) -> UpstreamLink | None:
        """The link that was served, once."""
        link, self._link = self._link, None
        return link

    @property
    def error(self) -> Exception | None:
        """Why no link will come, if that is known."""
        return self._error

    def raise_error(self) -> None:
        """Raise why no link will come, once."""
        try:
            if self._error is not None:
                raise self._error
        finally:
            self._error = None  # it holds this frame

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


async def served(wait: Wait, origin: Origin, now: Callable[[], float], *, leave: bool) -> None:
    """Wait until it is served or failed, or until `queue_timeout`.  A checkpoint.

    Raises Unanswered where the caller may `leave`, and a dial has been under way for too long.
    """
    until = now() + origin.settings.pool.queue_timeout
    if leave:
        with trio.move_on_at(min(until, now() + PATIENCE, max(now(), origin.reach.away_from))):
            await wait.settled()
        if wait in origin.waiters and origin.reach.away_from <= now():
            raise Unanswered(f"{origin.label} has not accepted a connection yet")
    with trio.move_on_at(until) as patience:
        await wait.settled()
    if not patience.cancelled_caught or wait not in origin.waiters:
        return
    if origin.waiters.index(wait) < origin.dialling:
        # A dial that is under way for this caller has its own bound: connect_timeout.
        await wait.settled()

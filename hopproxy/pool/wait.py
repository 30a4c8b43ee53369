"""One caller in the queue of an origin."""

import trio

from hopproxy.link.upstream import UpstreamLink


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

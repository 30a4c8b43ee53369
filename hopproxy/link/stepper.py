"""Who runs an exchange: events step its coroutine, or a trio task does.

An exchange is a coroutine.  To wait, it yields a `Wait`; it does not know who steps it.  There are
two drivers, and both call the same `Stepper`:

- *The watch.*  An event wakes the stepper, which resumes the coroutine at once, inside the event.
  This costs 0.7 us where a switch of trio tasks costs 14 us.  It is the usual case.
- *A task.*  `drive` does the same in a trio task, which an event reschedules.  A nursery can then
  wait for the coroutine and cancel it: this is how a draining worker waits for its last requests.

A coroutine begun by the watch can go on in a task, at any wait.  An error can be thrown into a
coroutine where it waits: that is how it learns that its client has left.  When it is cancelled or
closed there, its `finally` blocks run and give back what it holds; so they must not wait.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Protocol, TypeVar, cast

from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled


class Waker(Protocol):
    """Is called when a wait may be over."""

    def wake(self) -> None:
        """Something has happened: look again."""


class Wait(Protocol):
    """Something that a coroutine can wait for, one at a time: `waker`, None if nobody waits.

    Whoever ends the wait sets `waker` to None and wakes it.  The coroutine then checks what has
    happened, and waits again if that was not enough.
    """

    waker: Waker | None


@types.coroutine
def wait(what: Wait) -> Generator[Wait, None, None]:
    """Wait until `what` wakes us.  Raises any error that is thrown in during the wait."""
    yield what


class Stepper:
    """Steps one coroutine at a time, from events or in a task."""

    __slots__ = ("_error", "_task", "_wait", "_woken", "_work")

    def __init__(self) -> None:
        self._work: Any = None  # a coroutine: mypy's own type of one lacks `cr_running`
        self._wait: Wait | None = None
        self._task: Task | None = None
        # None: events step it.  In a task: True if the next step is due, False if it must wait.
        self._woken: bool | None = None
        self._error: BaseException | None = None

    @property
    def running(self) -> bool:
        """Whether there is a coroutine that has not ended."""
        return self._work is not None

    @property
    def waits_for(self) -> Wait | None:
        """What the coroutine waits for, None if it does not wait."""
        return self._wait

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Step a new coroutine for the first time."""
        self._work = work
        self._step()

    def adopt(self, work: Coroutine[Any, Any, Any]) -> None:
        """Take a new coroutine, which `drive` will step."""
        self._work = work
        self._woken = True

    def wake(self) -> None:
        """The wait may be over: resume the coroutine, or reschedule the task that steps it."""
        self._wait = None
        if self._woken is None:
            self._step()
        else:
            self._wake_task()

    def _wake_task(self) -> None:
        self._woken = True
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def throw(self, error: Exception) -> bool:
        """Raise `error` in the coroutine at its current wait; False if it does not wait."""
        if self._work is None or self._work.cr_running:
            return False
        self._error = error
        self._leave_wait()
        self.wake()
        return True

    def close(self) -> None:
        """End the coroutine at its current wait: its `finally` blocks run.  Ends `drive` too."""
        self._leave_wait()
        self._error = None
        work, self._work = self._work, None
        if work is not None:
            work.close()
        if self._task is not None:
            self._wake_task()

    def on_end(self, result: object) -> None:
        """The coroutine has returned."""

    def on_fault(self, error: Exception) -> None:
        """The coroutine has raised."""
        raise error

    def _leave_wait(self) -> None:
        waiting, self._wait = self._wait, None
        if waiting is not None:
            waiting.waker = None

    def _step(self) -> None:
        work = self._work
        assert work is not None
        try:
            waiting = work.send(None) if self._error is None else self._thrown(work)
        except StopIteration as end:
            self._work = None
            self.on_end(end.value)
        except Exception as error:
            self._work = None
            self.on_fault(error)
        except BaseException:  # Cancelled
            self._work = None
            raise
        else:
            self._wait = waiting
            waiting.waker = self

    def _thrown(self, work: Coroutine[Wait, None, object]) -> Wait:
        error, self._error = self._error, None
        assert error is not None
        try:
            return work.throw(error)
        finally:
            del error  # its traceback refers to this frame

    # -- in a task ---------------------------------------------------------------------------

    def move_to_task(self) -> None:
        """Stop stepping from events.  `drive`, in a task that starts later, misses no event."""
        self._woken = False

    async def drive(self) -> None:
        """Step the coroutine to its end in this task.  A checkpoint at each wait.

        A cancellation is raised in the coroutine first, then here.
        """
        while self._work is not None:
            if not self._woken:
                self._task = current_task()
                try:
                    await wait_task_rescheduled(self._abort)
                except BaseException as cancelled:
                    self._error = cancelled
            self._woken = False
            if self._work is not None:  # otherwise it was closed
                self._step()

    def _abort(self, _: object) -> Abort:
        self._task = None
        self._leave_wait()
        return Abort.SUCCEEDED


class _Alone(Stepper):
    """A stepper for a coroutine that runs in one task from beginning to end."""

    __slots__ = ("result",)

    def on_end(self, result: object) -> None:
        self.result = result


T = TypeVar("T")


async def in_task(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of `Wait`s in the calling task and return its result.

    Raises what the coroutine raises.  A checkpoint at each wait; a cancellation ends the coroutine.
    """
    alone = _Alone()
    alone.adopt(work)
    await alone.drive()
    return cast("T", alone.result)

"""Requests that wait while their upstream is down, instead of failing at once."""

from __future__ import annotations

import math
from collections.abc import Callable

from hopproxy.link.stepper import Waker, wait
from hopproxy.link.watch import Watch

#: Seconds between two attempts to connect for all requests that wait for one upstream.
STEP = 0.2


class Hold:
    """The requests that wait for one upstream.  One of them at a time tries to connect."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._next = -math.inf

    async def turn(self, until: float, is_up: Callable[[], bool]) -> bool:
        """Wait until the request should try to connect again; False once `until` has passed.

        It should if the upstream is up again, or if it is this request's turn to try.
        """
        while (now := self._watch.now()) < until:
            await _Pause(self._watch).end(min(until, now + STEP))
            now = self._watch.now()
            if is_up():
                return True
            if self._next <= now < until:
                self._next = now + STEP
                return True
        return False


class _Pause:
    """A wait until a time."""

    __slots__ = ("_fault", "_watch", "timer_at", "waker")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.waker: Waker | None = None
        self.timer_at = math.inf
        self._fault: Exception | None = None

    async def end(self, until: float) -> None:
        """Wait until `until`."""
        self._watch.wake_at(self, until)
        try:
            while self._watch.now() < until and self._fault is None:
                await wait(self)
        finally:
            self._watch.forget_deadline(self)
        if self._fault is not None:
            raise self._fault

    def on_time(self, now: float) -> float:
        """The time has come."""
        self._wake()
        return math.inf

    def on_fault(self, error: Exception) -> None:
        """`on_time` raised an unexpected exception."""
        self._fault = error
        self._wake()

    def _wake(self) -> None:
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

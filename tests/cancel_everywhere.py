"""Cancel one party at every step that a trio run takes, and see what it leaves to the others.

The run is repeated with the same seed for trio's scheduler: cancelled before its first step, then
before its second, until it ends by itself.  So every await has been the last one once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from trio._core import _run

from tests.wire_pair import Hops, nothing_left, virtual_time


class Victim(trio.abc.Instrument):
    """A party whose `scope` is cancelled before a given step, counted from `arm` on."""

    def __init__(self, step: int) -> None:
        self.scope = trio.CancelScope()
        self.struck = False
        self._left = step
        self._armed = False

    def arm(self) -> None:
        """Count from here."""
        self._armed = True

    def disarm(self) -> None:
        """Count no more: what follows looks at the consequences."""
        self._armed = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        if not self._armed or self.struck:
            return
        self._left -= 1
        if self._left == 0:
            self.struck = True
            self.scope.cancel()


Scenario = Callable[[Hops, Victim], Awaitable[None]]


def everywhere(scenario: Scenario, seed: int) -> int:
    """Run `scenario` with its victim cancelled at each step in turn; how many there were.

    After each run both hops are at rest and nothing of them is left.
    """
    step = 0
    while True:
        step += 1
        victim = Victim(step)
        with tempfile.TemporaryDirectory(prefix="hops") as directory:
            virtual_time(_once(scenario, victim, seed, directory), instruments=[victim])
        if not victim.struck:
            return step - 1


def _once(
    scenario: Scenario, victim: Victim, seed: int, directory: str
) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        _run._r.seed(seed)
        with nothing_left():
            async with trio.open_nursery() as nursery:
                hops = Hops(nursery, Path(directory))
                await scenario(hops, victim)
                victim.disarm()
                await hops.end()

    return run

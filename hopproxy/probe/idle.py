"""How long an origin keeps an idle connection.

Most origins close idle connections.  So a few connections are watched until they end.  They are
opened one after another, since some origins check their timers in steps.  A middlebox may forget a
connection silently.  So a connection that has not ended gets a second request.  If there is no
response, a binary search finds the age, with several connections at a time.
"""

from collections.abc import Callable
from typing import NamedTuple

import trio

from hopproxy.errors import HopError
from hopproxy.link.watch import Watch
from hopproxy.probe.asker import Asker, Ending, Target

#: Connections to watch, and seconds between opening them.
WATCHED, APART = 3, 0.37
#: Connections used at a time to search for a silent limit, and the precision in seconds.
SEARCHED, CLOSE_ENOUGH = 4, 0.4

Tell = Callable[[str], None]


class IdleLimit(NamedTuple):
    """`seconds` is None if connections outlive the longest wait; `how` they end, or "silent".

    `latest` is the longest time that a connection was kept; it varies if timers are checked in
    steps.
    """

    seconds: float | None
    latest: float | None
    how: str


class IdleWatch:
    """Measures one origin, for no longer than `most` seconds at a time.

    `at_once` is how many connections it serves at a time, None if they are many.
    """

    def __init__(
        self, target: Target, watch: Watch, most: float, tell: Tell, at_once: int | None = None
    ) -> None:
        self._target = target
        self._watch = watch
        self._most = most
        self._tell = tell
        self._watched = min(WATCHED, at_once or WATCHED)
        self._searched = min(SEARCHED, at_once or SEARCHED)
        self._endings: list[Ending] = []
        self._alive = 0

    async def measure(self) -> IdleLimit:
        """Measure the idle limit.  Raises HopError if the origin cannot be reached."""
        failures: list[HopError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            async with trio.open_nursery() as watched:
                for number in range(self._watched):
                    watched.start_soon(self._one, number * APART, failures)
            nursery.cancel_scope.cancel()
        if failures and not self._endings:
            raise failures[0]
        ended = [ending for ending in self._endings if ending.how]
        if ended:
            ages = [ending.after for ending in ended]
            return IdleLimit(min(ages), max(ages), ended[0].how)
        if self._alive:
            return IdleLimit(None, None, "")
        return await self._search()

    async def _one(self, delay: float, failures: list[HopError]) -> None:
        await trio.sleep(delay)
        try:
            async with Asker(self._target, self._watch) as asker:
                await asker.get()
                ending = await asker.ending(self._most)
                if not ending.how:
                    self._alive += await asker.is_alive()
        except HopError as error:
            failures.append(error)
        else:
            self._endings.append(ending)

    async def _report(self) -> None:
        began = trio.current_time()
        while True:
            gone = trio.current_time() - began
            ended = f"{len(self._endings)} of {self._watched} ended"
            self._tell(f"idle limit: {gone:.0f} s of at most {self._most:g} s, {ended}")
            await trio.sleep(1)

    async def _search(self) -> IdleLimit:
        """Search for the age at which connections that end silently no longer respond."""
        lives, dies = 0.0, self._most
        while dies - lives > CLOSE_ENOUGH:
            self._tell(f"idle limit: silent, between {lives:.1f} s and {dies:.1f} s")
            step = (dies - lives) / (self._searched + 1)
            ages = [lives + step * (number + 1) for number in range(self._searched)]
            lived: dict[float, bool] = {}
            async with trio.open_nursery() as nursery:
                for age in ages:
                    nursery.start_soon(self._lives, age, lived)
            for age in ages:
                if not lived[age]:
                    dies = age
                    break
                lives = age
        return IdleLimit(lives, dies, "silent")

    async def _lives(self, age: float, lived: dict[float, bool]) -> None:
        try:
            async with Asker(self._target, self._watch) as asker:
                await asker.get()
                await trio.sleep(age)
                lived[age] = await asker.is_alive()
        except HopError:
            lived[age] = False

"""Links that carry a request and have never answered, and the idle links that may block them.

An origin that serves few connections at a time does not serve a new one while our idle ones are
open (`pool.width`).  So if a link stays silent, one idle link of the same address is closed, of any
upstream.  If none is idle, the next link that is released is closed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from hopproxy.link.faults import report
from hopproxy.link.pooled import PooledLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.width import Width


class Idling(Protocol):
    """An origin's idle links, those of all clients and those bound to one."""

    idle: dict[PooledLink, None]
    bound_idle: dict[PooledLink, None]


class Unheard:
    """The silent links of one address.  `shares` hold its idle links, `give_up` closes one.

    `waiting` are the links and dials for which no idle link has been closed yet, and since when
    each of them is silent.
    """

    __slots__ = ("_freed", "_give_up", "_last", "_shares", "_watch", "timer_at", "waiting", "width")

    def __init__(
        self,
        watch: Watch,
        shares: Sequence[Idling],
        give_up: Callable[[PooledLink], None],
    ) -> None:
        self.width = Width()
        self.waiting: dict[object, float] = {}
        self.timer_at = math.inf
        self._watch = watch
        self._shares = shares
        self._give_up = give_up
        #: Those for which an idle link was closed: when, and since when they were silent.
        self._freed: dict[object, tuple[float, float]] = {}
        self._last = -math.inf  # when the last experiment ended

    # -- called by the pool ------------------------------------------------------------------

    def begin(self, silent: object, now: float) -> None:
        """A request is sent on a link that has never answered, or a dial begins."""
        self.waiting[silent] = now
        self._watch.wake_at(self, now + self.width.patience)

    def heard(self, link: PooledLink, now: float) -> None:
        """A link has answered for the first time."""
        freed = self._freed.pop(link, None)
        if freed is not None:
            self._judge(now, helped=now - freed[0] <= self.width.within)
        self.waiting.pop(link, None)
        if not link.heard:
            link.heard = True
            self.width.heard()
        if self._freed:
            self._watch.wake_at(self, min(self._due(), self._next(now)))
        elif self.waiting:
            self._watch.wake_at(self, self._due())

    def ended(self, silent: object) -> None:
        """A link or a dial has ended."""
        self.waiting.pop(silent, None)
        self._freed.pop(silent, None)
        if isinstance(silent, UpstreamLink) and silent.heard:
            silent.heard = False
            self.width.closed()

    def wants(self, link: PooledLink, now: float) -> bool:
        """Whether a link that has just been released must be closed for a silent one."""
        if link.bound:  # its client is authenticated by it
            return False
        if link.served > 1:
            self.width.took(now - link.since - link.idled)
        if not self._is_due(now):
            return False
        self._take(now)
        return True

    # -- time --------------------------------------------------------------------------------

    def on_time(self, now: float) -> float:
        """End experiments that took too long, and close an idle link if that is due."""
        for silent, (freed_at, since) in list(self._freed.items()):
            if now > freed_at + self.width.within:
                del self._freed[silent]
                self._judge(now, helped=False)
                # The origin served another link, or is slow: wait as long again for the next try.
                self.waiting[silent] = 2 * now - since
        if self._is_due(now):
            self._free(now)
        return self._next(now)

    def _next(self, now: float) -> float:
        """When to look again; what is due already waits for an idle link."""
        times = [at + self.width.within + 0.001 for at, _ in self._freed.values()]
        return min([at for at in [*times, self._due()] if at > now], default=math.inf)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: look again later."""
        report(error, "a look at links that stay silent")
        self._watch.wake_at(self, self._watch.now() + self.width.patience)

    def _due(self) -> float:
        """When an idle link may be closed for the one that has been silent longest."""
        if not self.waiting or len(self._freed) >= self.width.at_once:
            return math.inf
        return max(min(self.waiting.values()), self._last) + self.width.patience

    def _is_due(self, now: float) -> bool:
        """Whether a link was silent for long enough, and has no other reason to be."""
        while now >= self._due():
            silent = self._longest()
            if not isinstance(silent, UpstreamLink):
                return True
            if silent.transport.received:  # its response has begun, and has not ended
                self.heard(silent, now)
            elif silent.transport.endpoint.is_taken_up():
                del self.waiting[silent]  # the origin has read the request, and is slow
            elif silent.uploading and not silent.transport.waits_for_room:
                del self.waiting[silent]  # the client is slow: start again
                self.waiting[silent] = now
            else:
                return True
        return False

    def _longest(self) -> object:
        return min(self.waiting, key=lambda silent: self.waiting[silent])

    def _take(self, now: float) -> None:
        """Note that an idle link is closed for the one that has been silent longest."""
        silent = self._longest()
        self._freed[silent] = (now, self.waiting.pop(silent))

    def _free(self, now: float) -> None:
        """Close the coldest idle link, and those that never served, which may be next in turn."""
        idle = [link for share in self._shares for link in (*share.idle, *share.bound_idle)]
        served = [link for link in idle if link.heard]
        if not idle:
            return  # `wants` takes the next link that is released
        self._take(now)
        for link in idle:
            if not link.heard:
                self._give_up(link)
        if served:
            self._give_up(min(served, key=lambda link: (link.bound, link.idle_stamp)))

    def _judge(self, now: float, *, helped: bool) -> None:
        self._last = now
        self.width.judge(helped=helped)

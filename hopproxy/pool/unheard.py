"""Links that carry a request and have never answered, and idle links that may be why.

An origin that serves few connections at a time does not take up a new one while idle ones of ours
are open (`pool.width`).  So a link that stays silent costs one idle link of the same address,
whichever upstream holds it: one that is idle by then, or else the next that would become idle.
"""

import math
from collections.abc import Callable, Sequence

from hopproxy.link.faults import report
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.ledger import Share
from hopproxy.pool.width import Width


class Unheard:
    """The silent links of one address, whose `shares` hold its idle ones; `give_up` closes one.

    `waiting` are those for which no idle link has been closed: a link, or a dial under way, and
    since when it is silent.
    """

    __slots__ = ("_freed", "_give_up", "_last", "_shares", "_watch", "timer_at", "waiting", "width")

    def __init__(
        self,
        watch: Watch,
        shares: Sequence[Share[UpstreamLink]],
        give_up: Callable[[UpstreamLink], None],
    ) -> None:
        self.width = Width()
        self.waiting: dict[object, float] = {}
        self.timer_at = math.inf
        self._watch = watch
        self._shares = shares
        self._give_up = give_up
        #: Those for which one was closed: when, and since when they were silent.
        self._freed: dict[object, tuple[float, float]] = {}
        self._last = -math.inf  # when it was seen whether the last close helped

    # -- what the pool tells -----------------------------------------------------------------

    def begin(self, silent: object, now: float) -> None:
        """A request goes out on a link that has never answered, or a dial begins."""
        self.waiting[silent] = now
        self._watch.wake_at(self, now + self.width.patience)

    def heard(self, link: UpstreamLink, now: float) -> None:
        """A link has answered for the first time."""
        freed = self._freed.pop(link, None)
        if freed is not None:
            self._judge(now, helped=now - freed[0] <= self.width.within)
        self.waiting.pop(link, None)
        if not link.heard:
            link.heard = True
            self.width.heard()
        if self.waiting or self._freed:
            self._watch.wake_at(self, min(self._due(), self._next(now)))

    def ended(self, silent: object) -> None:
        """A link is no more, or a dial has ended."""
        self.waiting.pop(silent, None)
        self._freed.pop(silent, None)
        if isinstance(silent, UpstreamLink) and silent.heard:
            silent.heard = False
            self.width.closed()

    def wants(self, link: UpstreamLink, now: float) -> bool:
        """Whether a link that has just become free is to be closed for one that waits."""
        if link.bound:  # another must not take its place: its client is known by it
            return False
        if link.served > 1:
            self.width.took(now - link.since - link.idled)
        if not self._is_due(now):
            return False
        self._take(now)
        return True

    # -- time --------------------------------------------------------------------------------

    def on_time(self, now: float) -> float:
        """See whether the last close has helped, and close an idle link if one is due."""
        for silent, (freed_at, since) in list(self._freed.items()):
            if now > freed_at + self.width.within:
                del self._freed[silent]
                self._judge(now, helped=False)
                # Another was taken up, or it is slow: its next turn is once it was silent as long.
                self.waiting[silent] = 2 * now - since
        if self._is_due(now):
            self._free(now)
        return self._next(now)

    def _next(self, now: float) -> float:
        """When there is something to see or to do again; what is due already waits for a link."""
        times = [at + self.width.within + 0.001 for at, _ in self._freed.values()]
        return min([at for at in [*times, self._due()] if at > now], default=math.inf)

    def on_fault(self, error: Exception) -> None:
        """A fault of ours: the silent links wait on, and are looked at again."""
        report(error, "a look at links that stay silent")
        self._watch.wake_at(self, self._watch.now() + self.width.patience)

    def _due(self) -> float:
        """When the one that has been silent for longest may cost an idle link its place."""
        if not self.waiting or len(self._freed) >= self.width.at_once:
            return math.inf
        return max(min(self.waiting.values()), self._last) + self.width.patience

    def _is_due(self, now: float) -> bool:
        """Whether one is silent for so long, and has no other reason for it."""
        while now >= self._due():
            silent = self._longest()
            if not isinstance(silent, UpstreamLink):
                return True
            if silent.transport.received:  # its response goes on still: nobody has told of it
                self.heard(silent, now)
            elif silent.transport.endpoint.is_taken_up():
                del self.waiting[silent]  # it is the origin that takes its time
            elif silent.uploading and not silent.transport.waits_for_room:
                del self.waiting[silent]  # the request is not whole: it is silent from now on
                self.waiting[silent] = now
            else:
                return True
        return False

    def _longest(self) -> object:
        return min(self.waiting, key=lambda silent: self.waiting[silent])

    def _take(self, now: float) -> None:
        """An idle link is closed for the one that has been silent for longest."""
        silent = self._longest()
        self._freed[silent] = (now, self.waiting.pop(silent))

    def _free(self, now: float) -> None:
        """Close the coldest idle link, and all that have never served: they may be next in turn."""
        idle = [link for share in self._shares for link in (*share.idle, *share.bound_idle)]
        served = [link for link in idle if link.heard]
        if not idle:
            return  # the next that becomes free
        self._take(now)
        for link in idle:
            if not link.heard:
                self._give_up(link)
        if served:
            self._give_up(min(served, key=lambda link: (link.bound, link.idle_stamp)))

    def _judge(self, now: float, *, helped: bool) -> None:
        self._last = now
        self.width.judge(helped=helped)

"""HTTP/2 links in use that have gone silent: they get no more requests.

A link in use is lent before any other, so a host that has vanished, or a process that hangs, would
get one request after the other on the same link.  So links in use are looked at every `TICK`.  One
on which nothing is heard for a while is asked by a PING.  It is silent if that is not answered, or
if what was sent had to be repeated without an ACK.

Some servers of gRPC end a connection on which they see more than two PINGs between their own
responses within five minutes.  So a link is asked once, and again after a response.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hopproxy.link.faults import report
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.pooled import PooledLink
from hopproxy.link.tcp import repeats
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin

#: Seconds between two looks.
TICK = 0.25
#: Seconds without a byte after which a link is asked, and after which it has not answered.
QUIET, PATIENCE = 1.0, 1.0
#: Seconds after which a link is asked again that has sent no response since.
AGAIN = 301.0
#: A segment that was sent so often again has met nobody.
REPEATS = 2


class Pulse:
    """Looks at the HTTP/2 links of one pool while some are in use.  `wake` starts it.

    `links` are all links, `stop` is called for a silent one.
    """

    def __init__(
        self,
        watch: Watch,
        links: Mapping[PooledLink, Origin],
        stop: Callable[[Origin, H2UpstreamLink], None],
    ) -> None:
        self.timer_at = math.inf
        self.awake = False
        self._watch = watch
        self._links = links
        self._stop = stop

    def wake(self) -> None:
        """A link gets its first stream."""
        self.awake = True
        self._watch.wake_at(self, self._watch.now() + TICK)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: look again later."""
        report(error, "a look at HTTP/2 connections")
        self._watch.wake_at(self, self._watch.now() + 1.0)

    def on_time(self, now: float) -> float:
        """Look at every link in use that still gets requests."""
        silent = []
        self.awake = False
        for link, origin in self._links.items():
            if isinstance(link, H2UpstreamLink) and link.streams and link.retiring is None:
                self.awake = True
                if now - max(link.heard_at, link.begun_at) >= QUIET and _is_silent(link, now):
                    silent.append((origin, link))
        for origin, link in silent:
            self._stop(origin, link)
        return now + TICK if self.awake else math.inf


def _is_silent(link: H2UpstreamLink, now: float) -> bool:
    """Whether a quiet link is silent; asks it unless it was asked already."""
    asked_at = link.pings.asked_at
    if asked_at > link.heard_at:
        if now - asked_at >= PATIENCE:
            return True
    elif asked_at < link.answered_at or now - asked_at >= AGAIN:
        link.pings.ask()
    return repeats(link.transport.fd) >= REPEATS

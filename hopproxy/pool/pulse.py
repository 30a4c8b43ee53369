"""HTTP/2 links in use that have gone silent: they get no more requests.

A link in use is lent before any other, so a host that has vanished, or a process that hangs, would
get one request after the other.  So links in use are looked at every `TICK`.  If nothing is
received on a link for a while, a PING is sent.  The link is silent if that is not answered, or if
the kernel had to retransmit without an ACK.

Some gRPC servers close a connection with more than two PINGs between their own responses within
five minutes.  So a second PING is sent only after a response, or after these five
minutes.
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
#: Seconds without a byte until a PING is sent, and until it counts as unanswered.
QUIET, PATIENCE = 1.0, 1.0
#: Seconds until a second PING on a link without a response since the first.
AGAIN = 301.0
#: Retransmissions after which the peer counts as gone.
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
    """Whether a quiet link is silent; sends a PING unless one was sent already."""
    asked_at = link.pings.asked_at
    if asked_at > link.heard_at:
        if now - asked_at >= PATIENCE:
            return True
    elif asked_at < link.answered_at or now - asked_at >= AGAIN:
        link.pings.ask()
    return repeats(link.transport.fd) >= REPEATS

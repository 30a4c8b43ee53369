"""Origins that leave requests without a response while others could serve them.

A process that hangs, or a host that has vanished, sends nothing, and `response_timeout` is long.
So the links of upstreams with several origins are looked at every `TICK`.  An origin is silent if
one of its requests waits for longer than responses usually take, and it has sent nothing on other
links meanwhile.  Then one request at a time tries it (`pool.reach`).

How long responses usually take is learned from the requests that were seen waiting.
"""

import math
from collections.abc import Mapping

from hopproxy.link.faults import report
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.link.pooled import PooledLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.health import is_unanswered
from hopproxy.pool.origin import Origin
from hopproxy.pool.peers import Peers

#: Seconds between two looks.
TICK = 0.25
#: The shortest silence that counts: seconds, and as a multiple of the slowest recent response.
SILENCE, TIMES = 1.0, 3.0
#: Seconds after which the slowest response counts half.
FADES = 60.0


class Silence:
    """Looks at the links of one upstream while requests are under way.  `wake` starts it.

    `links` are those of all upstreams.
    """

    def __init__(self, watch: Watch, links: Mapping[PooledLink, Origin], peers: Peers) -> None:
        self.timer_at = math.inf
        self.awake = False
        self._watch = watch
        self._links = links
        self._peers = peers
        #: Links seen waiting: the request, and for how long it had waited.
        self._waiting: dict[PooledLink, tuple[int, float]] = {}
        #: Bytes received on links whose response had begun.
        self._received: dict[PooledLink, int] = {}
        #: When streams of HTTP/2 were first seen waiting.
        self._begun: dict[H2UpstreamStream, float] = {}

    def wake(self) -> None:
        """A request begins on one of several origins."""
        self.awake = True
        self._watch.wake_at(self, self._watch.now() + TICK)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: look again later."""
        report(error, "a look at silent origins")
        self._watch.wake_at(self, self._watch.now() + 1.0)

    def on_time(self, now: float) -> float:
        """Look at every link in use."""
        oldest: dict[Origin, float] = {}
        heard: dict[Origin, float] = {}
        waiting: dict[PooledLink, tuple[int, float]] = {}
        received: dict[PooledLink, int] = {}
        begun: dict[H2UpstreamStream, float] = {}
        in_use = False
        for link, origin in self._links.items():
            if origin.peers is not self._peers:
                continue
            if isinstance(link, H2UpstreamLink):
                in_use = in_use or bool(link.streams)
                last = link.answered_at if link.heard else origin.heard_at
                heard[origin] = max(heard.get(origin, origin.heard_at), last)
                for stream in link.streams:
                    if stream.waits and not stream.uploading:
                        begun[stream] = since = self._begun.get(stream, now)
                        oldest[origin] = min(oldest.get(origin, now), since)
                continue
            last = link.since if link.heard else origin.heard_at
            if is_unanswered(link):
                in_use = True
                if not (isinstance(link, UpstreamLink) and link.uploading):
                    since = link.since + max(0.0, link.idled)
                    oldest[origin] = min(oldest.get(origin, now), since)
                    waiting[link] = link.served, now - since
            elif not link.transport.resting:
                in_use = True
                received[link] = link.transport.received
                if self._received.get(link, 0) != received[link]:
                    last = now
            heard[origin] = max(heard.get(origin, origin.heard_at), last)
        self._learn(now)
        self._peers.latencies.look(now, TICK)
        self._waiting, self._received, self._begun = waiting, received, begun
        patience = max(SILENCE, TIMES * self._peers.slowest)
        for origin, since in oldest.items():
            if now - max(since, heard[origin]) >= patience:
                origin.reach.silent(now)
        self.awake = in_use
        return now + TICK if in_use else math.inf

    def _learn(self, now: float) -> None:
        """Learn from requests that were seen waiting and were answered since."""
        peers = self._peers
        peers.slowest *= 0.5 ** (TICK / FADES)
        for link, (served, age) in self._waiting.items():
            if link in self._links and (link.served != served or link.answered):
                peers.slowest = max(peers.slowest, age + TICK)
        for stream, since in self._begun.items():
            if stream.answered:
                peers.slowest = max(peers.slowest, now - since)

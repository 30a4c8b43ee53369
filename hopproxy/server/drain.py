"""How a worker stops.

1. For `drain_delay` it still serves, but is not ready, and each response says close, so that
   clients and balancers go elsewhere.
2. It accepts what waits in the kernel's queue and closes its listeners.
3. Idle client links close, spread over a few seconds so that their clients do not all connect
   elsewhere in the same moment.  A request that arrives meanwhile is answered, with close.  HTTP/2
   links in use get their GOAWAY in the same way, or at their next request.
4. After `drain_timeout`, or a second stop, the rest is cut.
"""

import logging
from typing import NamedTuple

import trio

from hopproxy.link.clients import AnyClientLink
from hopproxy.reasons import Hop
from hopproxy.server.entrance import H2
from hopproxy.server.gateway import Gateway
from hopproxy.server.runtime import Runtime
from hopproxy.settings.amounts import format_duration
from hopproxy.settings.schema import Settings

log = logging.getLogger("hopproxy")

#: Idle links closed in a second, and most seconds for all of them.
RATE, SPREAD = 20, 5.0
#: With a `drain_timeout` up to this, and no delay, all idle links close at once.
SHORT = 10.0
#: Seconds for which a new connection is kept, since its first request is on its way.
FRESH = 1.0
#: Seconds that an idle link, closed on our side, waits for the client to close too.
GOODBYE = 1.0
#: Seconds between two looks at the idle links: while they are closed one by one, and afterwards.
STEP, SWEEP = 0.05, 0.25


class Report(NamedTuple):
    """What became of the client links of a worker that stopped.

    `ended` links ended by themselves or were closed while idle, `cut` ones had requests under way,
    of which `tunnels` were upgraded.  `lost` requests got no complete response.
    """

    ended: int = 0
    cut: int = 0
    tunnels: int = 0
    lost: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        requests = "request" if self.lost == 1 else "requests"
        tunnels = f" ({self.tunnels} of them upgraded)" if self.tunnels else ""
        return (
            f"drained in {format_duration(round(self.seconds, 1))}: {self.ended} connections ended,"
            f" {self.cut} cut{tunnels}, {self.lost} {requests} lost"
        )


class Drain:
    """Stops one worker.  From its creation on each response says close.

    `slowly` if there is time, because other workers have taken its place.
    """

    def __init__(
        self, runtime: Runtime, gateway: Gateway, settings: Settings, *, slowly: bool = False
    ) -> None:
        self._clients = runtime.clients
        self._gateway = gateway
        self._counts = runtime.closes.counts
        self._before = self._closed()
        self._began = trio.current_time()
        self._timeout = settings.drain_timeout
        self._at_once = not (slowly or settings.drain_delay) and self._timeout <= SHORT
        self._cut: tuple[int, int, int] = (0, 0, 0)
        runtime.drain()
        if self._at_once:
            self._announce(list(self._clients.links))
        else:
            self._clients.goodbye = min(GOODBYE, self._timeout / 4)

    @property
    def report(self) -> Report:
        """What became of the client links so far."""
        cut, tunnels, lost = self._cut
        ended = self._closed() - self._before - cut
        lost += self._clients.late
        return Report(ended, cut, tunnels, lost, trio.current_time() - self._began)

    def _closed(self) -> int:
        return sum(count for (hop, _), count in self._counts.items() if hop is Hop.CLIENT)

    async def cut_late(self, stop_now: trio.Event, scope: trio.CancelScope) -> None:
        """Cancel `scope`, which holds the connections, after `drain_timeout` or at `stop_now`."""
        with trio.move_on_after(self._timeout) as patience:
            await stop_now.wait()
        links = self._clients.links
        if patience.cancelled_caught and links:
            log.warning(
                "drain_timeout is over after %s: the remaining connections are cut",
                format_duration(self._timeout),
            )
        tunnels = sum(link.tunnelling for link in links)
        under_way = self._gateway.requests_under_way() - tunnels
        busy = sum(link not in self._clients.idle for link in links)
        self._cut = busy, tunnels, under_way
        scope.cancel()

    async def end_idle(self) -> None:
        """Close idle client links, those that were idle longest first.  Runs until cancelled.

        A link may become idle later, if its response had begun before it could say close.
        """
        idle = self._clients.idle
        count = sum(link.served > 0 for link in idle)
        busy = [link for link in self._clients.links if link not in idle and link.protocol == H2]
        spread = min(SPREAD, (count + len(busy)) / RATE, self._timeout / 2)
        if self._at_once:
            spread = 0.0
        began, closed, told = trio.current_time(), 0, 0
        while True:
            passed = trio.current_time() - began
            if passed < spread:
                share = (passed + STEP) / spread
                closed += self.end_some(int(count * share) - closed)
                already, told = told, int(len(busy) * share)
                self._announce(busy[already:told])
                await trio.sleep(STEP)
            else:
                self.end_some(len(idle))
                self._announce(busy[told:])
                told = len(busy)
                await trio.sleep(SWEEP)

    def _announce(self, links: list[AnyClientLink]) -> None:
        """Announce the close on links in use."""
        for link in links:
            self._gateway.announce_close(link)

    def end_some(self, most: int) -> int:
        """Close up to `most` links that are idle; return how many."""
        closed = 0
        now = trio.current_time()
        for link in list(self._clients.idle):
            if closed >= most:
                break
            if self._may_end(link, now):
                self._gateway.end_idle(link)
                closed += 1
        return closed

    def _may_end(self, link: AnyClientLink, now: float) -> bool:
        if link.closing is not None:
            return False  # it was announced
        if not link.served and now - link.opened < min(FRESH, self._timeout / 4):
            return False
        return not link.transport.endpoint.has_input()  # a request has arrived: answer it first

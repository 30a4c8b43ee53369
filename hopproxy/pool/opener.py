"""Opens links to origins: a dial, and what is set on its socket.

No task waits for a dial unless a name has to be resolved.
"""

import logging
import random
import socket
from collections.abc import Callable
from functools import partial

import trio

from hopproxy.errors import ConnectFailed, HopError, LocalShortage
from hopproxy.link.dial import Dial, Result, connect, known_targets
from hopproxy.link.tcp import break_after, round_trip, tune
from hopproxy.link.transport import Transport
from hopproxy.link.upstream import Keeper, UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin
from hopproxy.record import Hop

log = logging.getLogger("hopproxy")

#: What a dial comes to; None where the worker ends before it does.
Opened = UpstreamLink | HopError | None
Done = Callable[[Origin, Opened], None]


class Opener:
    """Opens links for one pool, their `keeper`.  Dials by name run in `nursery`."""

    def __init__(self, watch: Watch, nursery: trio.Nursery, keeper: Keeper) -> None:
        self._watch = watch
        self._nursery = nursery
        self._keeper = keeper
        self._random = random.Random()
        self._dials: dict[Dial, Callable[[None], None]] = {}

    def begin(self, origin: Origin, done: Done) -> None:
        """Begin a dial; `done` is told later how it ended."""
        targets = known_targets(origin.address)
        if targets is None:
            self._nursery.start_soon(self._by_name, origin, done)
            return

        def ended(result: Result) -> None:
            del self._dials[dial]
            done(origin, self._opened(origin, result))

        deadline = self._watch.now() + origin.settings.connect_timeout
        dial = Dial(origin.address, self._watch, deadline, ended)
        self._dials[dial] = partial(done, origin)
        dial.begin(targets)

    async def _by_name(self, origin: Origin, done: Done) -> None:
        opened: Opened = None
        try:
            opened = await self._open(origin)
        finally:
            done(origin, opened)

    async def open(self, origin: Origin) -> UpstreamLink:
        """A link for the caller alone.  A checkpoint; cancelled, it leaves no socket behind.

        Raises ConnectFailed.
        """
        opened = await self._open(origin)
        if isinstance(opened, UpstreamLink):
            return opened
        assert opened is not None
        try:
            raise opened
        finally:
            del opened  # it holds this frame

    async def _open(self, origin: Origin) -> Opened:
        result: Result
        try:
            result = await connect(origin.address, origin.settings.connect_timeout, self._watch)
        except Exception as error:
            result = error
        return self._opened(origin, result)

    def _opened(self, origin: Origin, result: Result) -> Opened:
        """What has come of a dial; the origin notes whether it can be reached."""
        try:
            link = self._link(origin, result)
        except LocalShortage as error:  # the origin was not even asked
            return error.with_traceback(None)
        except ConnectFailed as error:
            origin.failed_at = self._watch.now()
            return error.with_traceback(None)  # it would hold this frame, which holds it
        except Exception:  # a fault of ours must not take the worker along
            log.exception("a connection to %s failed through a fault in hopproxy", origin.label)
            return ConnectFailed("a fault in hopproxy", 500, "proxy_internal_error")
        origin.failed_at = None
        return link

    def _link(self, origin: Origin, result: Result) -> UpstreamLink:
        """The link on the socket of a dial.  Raises ConnectFailed, or what the dial ended with."""
        settings = origin.settings
        if isinstance(result, Exception):
            if isinstance(result, ConnectFailed) and result.cause == "connection_refused":
                # Gone, and to come back as another process.
                origin.learned.restarted()
                origin.refresh(self._watch.now())
            raise result
        try:
            transport = self._transport(result, origin)
        except BaseException as error:
            result.close()
            if not isinstance(error, OSError):
                raise
            detail = f"the connection to {origin.label} cannot be used: {error.strerror}"
            raise LocalShortage(detail) from error
        link = UpstreamLink(transport, origin.label, self._keeper, settings)
        origin.learned.rtt = round_trip(result)
        origin.refresh(link.opened)
        origin.opened += 1
        if settings.pool.max_age:
            # Up to a tenth younger, so that links opened together do not all end together.
            link.old_at = link.opened + settings.pool.max_age * self._random.uniform(0.9, 1.0)
        return link

    def _transport(self, sock: socket.socket, origin: Origin) -> Transport:
        settings = origin.settings
        tune(sock, nodelay=settings.tcp_nodelay, keepalive=settings.tcp_keepalive)
        break_after(sock, settings.tcp_user_timeout)
        return Transport(sock, self._watch, Hop.UPSTREAM)

    def stop(self) -> None:
        """Call off every dial."""
        for dial, done in self._dials.items():
            dial.call_off()
            done(None)
        self._dials.clear()

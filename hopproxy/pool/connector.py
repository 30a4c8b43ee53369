"""Opens links to origins: dials, and sets the options of the socket.  No task waits for a dial."""

import logging
import random
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from hopproxy.errors import ConnectFailed, HopError, LocalShortage
from hopproxy.link.dial import Dial, Result
from hopproxy.link.endpoint import QUICKACK, Plain
from hopproxy.link.faults import report
from hopproxy.link.h2_upstream import H2UpstreamLink, StreamKeeper
from hopproxy.link.handshake import Handshakes
from hopproxy.link.origin_tls import OriginTransport, Shaking
from hopproxy.link.pooled import Keeper, PooledLink
from hopproxy.link.tcp import local_port, round_trip, tune
from hopproxy.link.transport import Transport
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool import health
from hopproxy.pool.origin import Origin
from hopproxy.pool.resolver import Resolver
from hopproxy.reasons import UPSTREAM
from hopproxy.record import Closes
from hopproxy.settings.units import OriginAddress

log = logging.getLogger("hopproxy")

#: The result of a dial; None if the worker ends first, or if a trial has succeeded.
Opened = PooledLink | HopError | None
Done = Callable[[Origin, Opened], None]


class Made(NamedTuple):
    """A connected socket, and the transport on it."""

    sock: socket.socket
    transport: Transport

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()


class Holder(Keeper, health.Links, Protocol):
    """The pool, as its connector sees it."""


class Connector:
    """Opens links for one pool: the `keeper` of HTTP/1.1's, and `streams` that of HTTP/2's."""

    def __init__(self, watch: Watch, keeper: Holder, streams: StreamKeeper, closes: Closes) -> None:
        self._watch = watch
        self._closes = closes
        self._keeper = keeper
        self._streams = streams
        self.resolver = Resolver()
        self._random = random.Random()
        self._dials: dict[Dial, Callable[[None], None]] = {}
        self._shaking: dict[Dial, Shaking] = {}
        self.handshakes = Handshakes(watch)
        #: Called after each dial that did not succeed.
        self.plans: dict[Origin, Callable[[], None]] = {}

    def begin(
        self, origin: Origin, done: Done, *, trial: bool = False, header: bytes = b""
    ) -> Dial:
        """Begin a dial.  `done` is called later with the result, unless the dial is called off.

        The connection of a `trial` is closed unless a request waits for one.  A PROXY `header` is
        sent before anything else.
        """
        now = self._watch.now()
        number = origin.reach.begin(now)

        def connected(result: Result) -> None:
            if header and not isinstance(result, Exception):
                result = _announced(origin, result, header)
            if origin.secured is None or isinstance(result, Exception):
                ended(result)
            else:
                self._secure(dial, origin, result, ended)

        def ended(result: Result | Made) -> None:
            del self._dials[dial]
            self._shaking.pop(dial, None)
            if trial and not isinstance(result, Exception) and not origin.waiters:
                result.close()
                self._up(origin)
                done(origin, None)
                return
            opened = self._opened(origin, number, result)
            if isinstance(opened, PooledLink):
                opened.dialled_at = now
            done(origin, opened)

        deadline = now + origin.settings.connect_timeout
        dial = Dial(origin.address, self._watch, deadline, connected, self.resolver.shared)
        self._dials[dial] = partial(done, origin)
        self.resolver.begin(dial)
        return dial

    def _up(self, origin: Origin) -> None:
        """A dial has succeeded."""
        failed_at, now = origin.reach.failed_at, self._watch.now()
        origin.reach.succeeded(now)
        if failed_at is not None and not origin.removed:
            log.info("origin %s is up again", origin.label)

    def untold(self, origin: Origin, number: int = 0) -> None:
        """A dial has ended, or could not begin, but says nothing about the origin."""
        origin.reach.untold(number, self._watch.now())
        self._plan(origin)

    def turned_away(self, origin: Origin) -> None:
        """The origin has closed a connection that had counted as opened."""
        origin.reach.failed(origin.reach.begin(self._watch.now()), self._watch.now())
        self._plan(origin)

    def _plan(self, origin: Origin) -> None:
        if (plan := self.plans.get(origin)) is not None:
            plan()

    def _secure(
        self,
        dial: Dial,
        origin: Origin,
        sock: socket.socket,
        ended: Callable[[Result | Made], None],
    ) -> None:
        """Begin the handshake on a connected socket, within the deadline of its dial."""
        try:
            made = self._made(sock, origin)
        except Exception as error:
            ended(error)
            return
        assert isinstance(made.transport, OriginTransport)
        shaking = self._shaking[dial] = Shaking(made.transport)
        shaking.start(
            self.handshakes,
            dial.deadline,
            lambda failure: ended(made if failure is None else failure),
        )

    def _opened(self, origin: Origin, number: int, result: Result | Made) -> Opened:
        """Turn a dial's result into a link or an error, and note whether the origin is up."""
        try:
            if not isinstance(result, Exception):
                self._up(origin)
            return self._link(origin, result)
        except LocalShortage as error:  # says nothing about the origin
            self.untold(origin, number)
            return error.with_traceback(None)
        except ConnectFailed as error:
            if origin.reach.failed(number, self._watch.now()) and not origin.removed:
                log.warning("origin %s is down: %s", origin.label, error.detail)
                if error.cause == "connection_timeout":
                    health.silent(self._keeper, origin, self._watch.now())
            self._plan(origin)
            return error.with_traceback(None)  # else a reference cycle with this frame
        except Exception as fault:
            self.untold(origin, number)
            report(fault, f"a connection to {origin.label}")
            self._closes.add_fault(UPSTREAM, origin.label, self._watch.now())
            return ConnectFailed("a fault in hopproxy", 500, "proxy_internal_error")

    def _link(self, origin: Origin, result: Result | Made) -> PooledLink:
        """Make a link of a dial's socket.  Raises ConnectFailed, or the dial's error."""
        settings = origin.settings
        if isinstance(result, Exception):
            if isinstance(result, ConnectFailed) and result.cause == "connection_refused":
                # The process has ended; a new one will listen there.
                origin.known.restarted(self._watch.now())
            raise result
        sock, transport = (
            self._made(result, origin) if isinstance(result, socket.socket) else result
        )
        link = self._speaking(origin, transport)
        link.local_port = local_port(sock)
        origin.learned.rtt = origin.delayed_ack.rtt = round_trip(sock)
        if isinstance(link, UpstreamLink) and not origin.address.path and QUICKACK is not None:
            link.delayed_ack = origin.delayed_ack
        if not (origin.learned.blank and origin.as_set):
            origin.refresh(link.opened)
        origin.opened += 1
        if settings.pool.max_age:
            # Up to a tenth earlier, so that links opened together do not end together.
            link.old_at = link.opened + settings.pool.max_age * self._random.uniform(0.9, 1.0)
        return link

    def _speaking(self, origin: Origin, transport: Transport) -> PooledLink:
        """A link of the protocol that the origin speaks.  Raises ConnectFailed."""
        multiplexed = origin.protocol == "h2"
        if isinstance(transport, OriginTransport) and origin.protocol != "http/1.1":
            asked, multiplexed = multiplexed, transport.alpn == "h2"
            if asked and not multiplexed:
                transport.close()
                detail = f"{origin.label} does not speak HTTP/2 (it chose no h2 by ALPN)"
                raise ConnectFailed(detail, 502, "tls_protocol_error")
        if not multiplexed:
            origin.each = 1
            return UpstreamLink(transport, origin.label, self._keeper, origin.settings)
        limits = origin.settings
        link = H2UpstreamLink(transport, origin.label, self._streams, limits, self._watch)
        link.speaks_http1 = origin.protocol == "auto"
        return link

    def _made(self, sock: socket.socket, origin: Origin) -> Made:
        """A transport on a connected socket.  Raises LocalShortage; then the socket is closed."""
        settings, secured = origin.settings, origin.secured
        try:
            tune(
                sock,
                nodelay=settings.tcp_nodelay,
                keepalive=settings.tcp_keepalive,
                user_timeout=settings.tcp_user_timeout,
            )
            if secured is not None:
                return Made(sock, secured.transport(sock, self._watch))
            return Made(sock, Transport(Plain(sock), self._watch, UPSTREAM))
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            detail = f"the connection to {origin.label} cannot be used: {error.strerror}"
            raise LocalShortage(detail) from error

    def stop(self) -> None:
        """Call off every dial and forget every name that is being resolved."""
        dials, self._dials = self._dials, {}
        for dial, done in dials.items():
            dial.call_off()
            if (shaking := self._shaking.pop(dial, None)) is not None:
                shaking.call_off()
            done(None)
        self.resolver.stop()


def _announced(origin: Origin, sock: socket.socket, header: bytes) -> Result:
    """Send a PROXY header on a connected socket, which has room for it."""
    try:
        if sock.send(header) == len(header):
            return sock
        failure = "it accepted only a part of the PROXY header"
    except OSError as error:
        failure = error.strerror or str(error)
    sock.close()
    return ConnectFailed(f"{origin.label} cannot be reached: {failure}", 502)


async def connect(address: OriginAddress, timeout: float, watch: Watch) -> socket.socket:
    """Open a connected, non-blocking socket.  A checkpoint; leaves no socket when cancelled.

    `timeout` seconds bound name resolution and all attempts together.  Raises the errors of `Dial`.
    """
    task = current_task()
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        reschedule(task)

    def abort(_: object) -> Abort:
        dial.call_off()
        return Abort.SUCCEEDED

    resolver = Resolver()
    dial = Dial(address, watch, watch.now() + timeout, done, resolver.shared)
    resolver.begin(dial)
    await wait_task_rescheduled(abort)
    result = results.pop()
    if isinstance(result, Exception):
        try:
            raise result
        finally:
            del result  # its traceback refers to this frame
    return result

"""One connection of the probe to an origin, for one request at a time."""

import socket
import ssl
from typing import NamedTuple, Self

import trio

from hopproxy import __version__
from hopproxy.errors import HopError, LinkError
from hopproxy.link.endpoint import QUICKACK, Plain
from hopproxy.link.handshake import Handshakes
from hopproxy.link.origin_tls import OriginTransport, Secured, Trust
from hopproxy.link.pooled import PooledLink
from hopproxy.link.stepper import in_task
from hopproxy.link.tcp import round_trip
from hopproxy.link.transport import Transport
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.message import ResponseHead
from hopproxy.pool.connector import connect
from hopproxy.pool.delayed_ack import DelayedAck
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings

#: Our User-Agent, for the origin's log.
USER_AGENT = f"hopproxy-probe/{__version__}"
#: Seconds for a response, and for a connection.
PATIENCE = 5.0


class Target:
    """An origin to probe, and the target of the requests."""

    def __init__(
        self, address: OriginAddress, path: str = "/", tls: OriginTls | None = None
    ) -> None:
        self.address = address
        self.path = path
        self.tls = tls or OriginTls()
        self.trust: Trust | None = None
        if address.scheme == "https":
            self.trust = Trust(self.tls, ("http/1.1",))
        self.limits = UpstreamSettings(
            origins=(address,), body_timeout=PATIENCE, write_timeout=PATIENCE
        )
        self.host = address.authority

    def request(self, method: str = "GET", *fields: str, minor: int = 1) -> bytes:
        """A request's head."""
        lines = [f"{method} {self.path} HTTP/1.{minor}", f"Host: {self.host}"]
        return "\r\n".join([*lines, f"User-Agent: {USER_AGENT}", *fields, "", ""]).encode()


class Ending(NamedTuple):
    """How an idle connection ended, and after how long.

    `how` is close_notify, FIN, RST or bytes; "" if it did not end.
    """

    how: str
    after: float


class Asker:
    """A connection.  Use it with `async with`, which closes the socket."""

    link: UpstreamLink
    secured: Secured | None = None

    def __init__(self, target: Target, watch: Watch, session: ssl.SSLSession | None = None) -> None:
        """`session` is a TLS session to resume."""
        self._target = target
        self._watch = watch
        self._session = session

    async def __aenter__(self) -> Self:
        sock = await connect(self._target.address, PATIENCE, self._watch)
        transport = await self._transport(sock)
        self.link = UpstreamLink(transport, str(self._target.address), self, self._target.limits)
        self._delays_acks = sock.family != socket.AF_UNIX and QUICKACK is not None
        self._rtt = round_trip(sock)
        return self

    async def _transport(self, sock: socket.socket) -> Transport:
        """A transport on a connected socket, after its TLS handshake if there is one."""
        trust, watch = self._target.trust, self._watch
        if trust is None:
            return Transport(Plain(sock), watch, Hop.UPSTREAM)
        handshakes = Handshakes(watch)
        self.secured = Secured(self._target.address, trust, handshakes)
        self.secured.session = self._session
        transport = self.secured.transport(sock, watch)
        try:
            failure = await in_task(transport.secure(handshakes, watch.now() + PATIENCE))
            if failure is not None:
                raise failure
        except BaseException:
            transport.close()
            raise
        return transport

    @property
    def notified(self) -> bool:
        """Whether the origin has sent close_notify."""
        transport = self.link.transport
        return isinstance(transport, OriginTransport) and transport.within.notified

    async def __aexit__(self, *_: object) -> None:
        self.link.close(CloseReason.STOPPED)

    async def get(self) -> ResponseHead:
        """Send a GET and read its complete response.  Raises HopError."""
        return await self.ask(self._target.request())

    async def ask(self, request: bytes, method: bytes = b"GET") -> ResponseHead:
        """Send a request and read its complete final response.  Raises HopError."""
        await self.send(request)
        return await self.answer(method)

    def learn_delays(self) -> DelayedAck | None:
        """From now on learn whether responses wait for our ACK; None on Unix sockets."""
        if self._delays_acks:
            self.link.delayed_ack = DelayedAck()
            self.link.delayed_ack.rtt = self._rtt
        return self.link.delayed_ack

    async def send(self, data: bytes) -> None:
        """Send bytes.  Raises LinkError."""
        await in_task(self.link.send(data))

    async def head(self, method: bytes, patience: float = PATIENCE) -> ResponseHead | None:
        """The next head, maybe an interim one; None if none came in time.  Raises HopError."""
        try:
            return await self._read_head(method, patience)
        except LinkError as error:
            if error.reason is CloseReason.RESPONSE_TIMEOUT:
                return None
            raise

    async def _read_head(self, method: bytes, patience: float) -> ResponseHead:
        self.link.expect_head(trio.current_time() + patience)
        return await in_task(self.link.read_head(method))

    async def answer(self, method: bytes = b"GET") -> ResponseHead:
        """The final response, its body read.  Raises HopError."""
        head = await self._read_head(method, PATIENCE)
        while head.status < 200:
            head = await self._read_head(method, PATIENCE)
        while await self.read_body():
            pass
        return head

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end.  Raises HopError."""
        return await in_task(self.link.read_body())

    async def ending(self, patience: float) -> Ending:
        """Stay idle until the origin ends the connection, or for `patience` seconds."""
        began = trio.current_time()
        try:
            if self.link.buffer:
                return Ending("bytes", 0.0)
            receiving = self.link.transport.receive(began + patience, CloseReason.IDLE_TIMEOUT)
            data = await in_task(receiving)
            how = "bytes" if data else "close_notify" if self.notified else "FIN"
        except LinkError as error:
            how = "" if error.reason is CloseReason.IDLE_TIMEOUT else "RST"
        return Ending(how, trio.current_time() - began)

    async def is_alive(self) -> bool:
        """Whether the connection still answers."""
        try:
            await self.get()
        except HopError:
            return False
        return True

    # -- called by the link ------------------------------------------------------------------

    def on_idle_event(self, link: PooledLink, hung_up: bool) -> None:
        """Not used: `ending` checks the connection itself."""

    def on_idle_lapsed(self, link: PooledLink) -> None:
        """Not used: the link never rests."""

    def on_hint(self, link: PooledLink, timeout: float) -> None:
        """Not used: the head has the hint too."""

    def on_fault(self, link: PooledLink, error: Exception) -> None:
        """An unexpected exception in the probe: raise it in the watch."""
        raise error

"""How an origin speaks HTTP/2: its settings, whether it answers a PING, how long it stays idle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from hopproxy.errors import BadResponse, HopError, LinkError
from hopproxy.link.endpoint import Plain
from hopproxy.link.h2_origin_wire import new_wire
from hopproxy.link.handshake import Handshakes
from hopproxy.link.origin_tls import OriginTransport, Secured, Trust
from hopproxy.link.stepper import in_task
from hopproxy.link.transport import Transport
from hopproxy.link.watch import Watch
from hopproxy.message import ResponseHead
from hopproxy.pool.connector import connect
from hopproxy.probe.asker import PATIENCE, Ending, Target
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.amounts import format_size
from hopproxy.wire.h2 import FAILED, HEAD, LEAVING, PEER_SETTINGS, PONG, Event, Settings
from hopproxy.wire.h2_asking import request_block

_PING = b"hopprobe"


class H2Asker:
    """One connection in HTTP/2.  Make it with `speaking`."""

    def __init__(self, transport: Transport, target: Target) -> None:
        self._transport = transport
        self._target = target
        self.wire = new_wire(target.limits)
        self.settings: Settings | None = None

    async def get(self) -> ResponseHead:
        """Send a GET and read its complete response.  Raises HopError."""
        scheme = b"https" if self._target.trust is not None else b"http"
        stream = self.wire.open(request_block(self._target.request(), scheme), ended=True)
        head: ResponseHead | None = None
        by = self._transport.now() + PATIENCE
        while not (stream.ended or stream.reset is not None):
            for what, whose, payload, _ in await self.events(by):
                if what == HEAD and whose is stream and not payload.is_interim:
                    head = head or payload.response(b"GET")
                elif whose is not None and isinstance(payload, bytes):
                    self.wire.credit(whose, len(payload))
        if head is None:
            raise BadResponse("the stream was reset before a response came")
        return head

    async def ping(self) -> float | None:
        """Seconds until a PING is answered, None if it is not.  Raises HopError."""
        began = self._transport.now()
        self.wire.ping(_PING)
        with suppress(LinkError):
            while True:
                for what, _, payload, _ in await self.events(began + PATIENCE):
                    if what == PONG and payload == _PING:
                        return self._transport.now() - began
        return None

    async def ending(self, patience: float) -> Ending:
        """Stay idle until the origin ends the connection, or for `patience` seconds."""
        began = self._transport.now()
        how = ""
        try:
            while not how:
                for what, _, _, _ in await self.events(began + patience):
                    if what == LEAVING:
                        how = "GOAWAY"
        except LinkError as error:
            if error.reason is not CloseReason.RESPONSE_TIMEOUT:
                how = "FIN" if error.reason is CloseReason.PEER_CLOSED else "RST"
        return Ending(how, self._transport.now() - began)

    async def events(self, deadline: float) -> list[Event]:
        """Send what is queued, and return what arrives next.  Raises HopError."""
        transport = self._transport
        if self.wire.has_output:
            await in_task(self._send(self.wire.take()))
        data = await in_task(transport.receive(deadline, CloseReason.RESPONSE_TIMEOUT))
        if not data:
            raise LinkError(Hop.UPSTREAM, CloseReason.PEER_CLOSED, "the origin closed")
        found = self.wire.receive(data, transport.now())
        for what, _, payload, _ in found:
            if what == PEER_SETTINGS:
                self.settings = payload
            elif what == FAILED:
                raise BadResponse(payload.detail)
        return found

    async def _send(self, data: bytes) -> None:
        count = self._transport.send_now(data)
        if count < len(data):
            await self._transport.send_rest(memoryview(data)[count:], PATIENCE)


@asynccontextmanager
async def speaking(target: Target, watch: Watch) -> AsyncIterator[H2Asker]:
    """A connection in HTTP/2, by ALPN with TLS, else by prior knowledge.  Raises HopError."""
    sock = await connect(target.address, PATIENCE, watch)
    if target.trust is None:
        transport = Transport(Plain(sock), watch, Hop.UPSTREAM)
    else:
        trust = Trust(target.trust.settings, ("h2",))
        handshakes = Handshakes(watch)
        secured = Secured(target.address, trust, handshakes)
        transport = secured.transport(sock, watch)
    try:
        if isinstance(transport, OriginTransport):
            failure = await in_task(transport.secure(handshakes, watch.now() + PATIENCE))
            if failure is not None:
                raise failure
            if transport.alpn != "h2":
                raise BadResponse("it does not choose h2 by ALPN")
        yield H2Asker(transport, target)
    finally:
        transport.close()


async def h2_habits(target: Target, watch: Watch) -> list[tuple[str, str]]:
    """How this origin speaks HTTP/2, as (name, finding)."""
    try:
        async with speaking(target, watch) as asker:
            await asker.get()
            found = [("HTTP/2", told(asker.settings or Settings()))]
            answered = await asker.ping()
    except HopError as error:
        return [("HTTP/2", f"no: {error.detail}")]
    late = "is not answered" if answered is None else f"answered after {answered * 1000:.1f} ms"
    return [*found, ("PING", late)]


def told(settings: Settings) -> str:
    """The settings of an origin, in words."""
    streams = "any number of streams"
    if settings.max_streams is not None:
        streams = f"up to {settings.max_streams} streams"
    words = [
        streams,
        f"windows of {format_size(settings.window)}",
        f"frames up to {format_size(settings.frame_size)}",
        f"a table of {format_size(settings.table_size)}",
    ]
    if settings.max_head_size is not None:
        words.append(f"heads up to {format_size(settings.max_head_size)}")
    if settings.connect:
        words.append("WebSockets (RFC 8441)")
    return ", ".join(words)


async def idle_in_h2(target: Target, watch: Watch, most: float) -> Ending:
    """How an idle connection ends, within `most` seconds.  Raises HopError."""
    async with speaking(target, watch) as asker:
        await asker.get()
        return await asker.ending(most)

"""After a switch of protocols: bytes both ways, with half-close, until both sides have ended."""

import trio

from hopproxy.errors import LinkError
from hopproxy.link.link import Link
from hopproxy.record import CloseReason


class Tunnel:
    """Two links that carry one upgraded connection.

    Silence of both sides for `idle_timeout` seconds ends it.  `carried` counts the bytes towards
    the client and towards the origin, `reason` says why it ended.
    """

    def __init__(self, client: Link, upstream: Link, idle_timeout: float) -> None:
        self._client = client
        self._upstream = upstream
        self._idle_timeout = idle_timeout
        # A side that reads nothing is silent: that, and no shorter limit, ends a tunnel.
        client.write_timeout = upstream.write_timeout = idle_timeout
        self._last = trio.current_time()
        self.carried = {client: 0, upstream: 0}
        self.reason = CloseReason.TUNNEL_ENDED

    async def run(self) -> None:
        """Carry until both sides have sent FIN, one breaks, or silence.  Closes nothing."""
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            nursery.start_soon(self._carry, self._client, self._upstream, scope)
            nursery.start_soon(self._carry, self._upstream, self._client, scope)

    async def _carry(self, source: Link, sink: Link, both: trio.CancelScope) -> None:
        try:
            data, source.buffer = source.buffer, b""
            while True:
                if data:
                    self.carried[sink] += len(data)
                    self._last = trio.current_time()
                    await sink.send(data)
                data = await self._more(source)
                if not data:
                    break
        except LinkError as error:
            self.reason = error.reason
            both.cancel()
            return
        sink.transport.shut_down()

    async def _more(self, source: Link) -> bytes:
        """More bytes; the silence that ends a tunnel is that of both sides."""
        while True:
            try:
                return await source.transport.receive(
                    self._last + self._idle_timeout, CloseReason.TUNNEL_TIMEOUT
                )
            except LinkError as error:
                spoke = trio.current_time() - self._last < self._idle_timeout
                if error.reason is not CloseReason.TUNNEL_TIMEOUT or not spoke:
                    raise

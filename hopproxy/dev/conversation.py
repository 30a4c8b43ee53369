"""One connection of the demo origin, with h11."""

from http import HTTPStatus

import h11
import msgspec
import trio

#: Seconds for which an idle connection is kept, as in Node and uvicorn; Keep-Alive announces it.
IDLE = 5.0
#: Bytes of a request's body that are shown.
SHOWN = 64 * 1024

Fields = list[tuple[str, str]]


class Received(msgspec.Struct):
    """A request as it arrived, and on which connection.

    `head` is its lines; `body` is the part to show, `size` the number of bytes of all of it.
    """

    connection: int
    request: int
    head: list[str]
    method: str
    target: str
    body: str = ""
    size: int = 0


class Conversation:
    """The server's side of one connection; `number` counts connections from 1."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        self.stream = stream
        self.number = number
        self.served = 0
        self.wire = h11.Connection(h11.SERVER)
        #: The fields of the current request, names as they were written.
        self.fields: list[tuple[bytes, bytes]] = []
        self._over = False

    # -- in ----------------------------------------------------------------------------------

    async def receive(self) -> Received | None:
        """The next request with its body; None if the peer has closed or was idle for too long.

        Raises h11.RemoteProtocolError.
        """
        event: h11.Event | type[h11.PAUSED] | None = None
        with trio.move_on_after(IDLE):
            event = await self._next()
        if not isinstance(event, h11.Request):
            return None
        self.served += 1
        self.fields = list(event.headers.raw_items())
        method, target = event.method.decode(), event.target.decode("latin-1")
        head = [f"{method} {target} HTTP/{event.http_version.decode()}"]
        head += [f"{name.decode()}: {value.decode('latin-1')}" for name, value in self.fields]
        received = Received(self.number, self.served, head, method, target)
        if self.wire.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        kept = b""
        while isinstance(event := await self._next(), h11.Data):
            received.size += len(event.data)
            kept += bytes(event.data)[: SHOWN - len(kept)]
        received.body = kept.decode(errors="replace")
        return received

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self.wire.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            self.wire.receive_data(bytes(await self.stream.receive_some()))

    def persists(self) -> bool:
        """Whether another request may follow; if so, prepare for it."""
        if self._over or self.wire.our_state is not h11.DONE:
            return False
        if self.wire.their_state is not h11.DONE:
            return False
        self.wire.start_next_cycle()
        return True

    # -- out ---------------------------------------------------------------------------------

    async def answer(
        self, status: int, media_type: str, body: bytes, fields: Fields | None = None
    ) -> None:
        """Send a complete response."""
        length = [("Content-Length", str(len(body)))]
        await self.begin(status, media_type, length + (fields or []))
        await self.more(body)
        await self.end()

    async def begin(self, status: int, media_type: str, fields: Fields | None = None) -> None:
        """Send a response's head.  Without Content-Length the body is chunked."""
        said: Fields = [
            ("Content-Type", media_type),
            ("Cache-Control", "no-store"),
            ("Keep-Alive", f"timeout={IDLE:.0f}"),
            ("Demo-Link", f"connection={self.number}, request={self.served}"),
            *(fields or []),
        ]
        phrase = HTTPStatus(status).phrase
        await self._send(h11.Response(status_code=status, headers=said, reason=phrase))

    async def more(self, data: bytes) -> None:
        """Send a part of the body."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """Send the end of the body."""
        await self._send(h11.EndOfMessage())

    async def refuse(self, why: str) -> None:
        """Answer an invalid request with 400, if that is still possible."""
        if self.wire.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            close = [("Connection", "close")]
            await self.answer(400, "text/plain; charset=utf-8", f"{why}\n".encode(), close)

    def drop(self) -> None:
        """Send nothing more: the connection ends, or switches to another protocol."""
        self._over = True

    async def _send(self, event: h11.Event) -> None:
        data = self.wire.send(event)
        if data:
            await self.stream.send_all(data)

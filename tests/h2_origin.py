"""A scripted HTTP/2 origin: the library `h2` on the far end of an upstream link."""

from __future__ import annotations

import select
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import trio

from tests.raw_peers import Peer

OK = [(":status", "200"), ("content-type", "text/plain")]


class Request:
    """One request as the origin saw it."""

    def __init__(self, number: int, fields: list[tuple[str, str]]) -> None:
        self.number = number
        self.fields = fields
        self.body = b""
        self.trailers: list[tuple[str, str]] = []
        self.ended = False
        self.reset: int | None = None

    def __getitem__(self, name: str) -> str:
        """The value of a field; KeyError if there is none."""
        return dict(self.fields)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.fields)


class H2Peer:
    """One connection of the gateway, as its HTTP/2 origin sees it.

    `requests` are all of them by stream, `events` what has arrived and was not looked for.
    """

    def __init__(self, peer: Peer, settings: dict[int, int] | None = None) -> None:
        self.peer = peer
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        later = dict(settings or {})
        connect = later.pop(8, 0)
        if connect:  # in the first SETTINGS
            self.h2.local_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] = connect
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        if later:
            self.h2.update_settings(
                {h2.settings.SettingCodes(key): value for key, value in later.items()}
            )
        self.requests: dict[int, Request] = {}
        self.arrived: list[Request] = []
        self.events: list[Any] = []
        self.credits = True
        self.left: Any = None  # the gateway's GOAWAY

    async def more(self) -> None:
        """Receive once, and answer what the protocol wants answered; EOFError at the end."""
        await self.send()
        if not self.peer.unread:
            await self.peer.more()
        data, self.peer.unread = self.peer.unread, b""
        self.take(data)
        await self.send()

    async def stay(self, seconds: float) -> None:
        """Only answer what the protocol wants answered for so long, such as PINGs."""
        with trio.move_on_after(seconds):
            while True:
                await self.more()

    async def catch_up(self) -> None:
        """Take what has arrived, if anything."""
        while select.select([self.peer.sock], [], [], 0)[0]:
            await self.more()

    def take(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            number = getattr(event, "stream_id", None)
            request = self.requests.get(number or 0)
            if isinstance(event, h2.events.RequestReceived):
                request = Request(event.stream_id, list(event.headers))  # type: ignore[arg-type]
                self.requests[event.stream_id] = request
                self.arrived.append(request)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.left = event
            elif request is None:
                continue
            elif isinstance(event, h2.events.DataReceived):
                request.body += event.data
                if self.credits and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                request.trailers = list(event.headers)  # type: ignore[arg-type]
            elif isinstance(event, h2.events.StreamEnded):
                request.ended = True
            elif isinstance(event, h2.events.StreamReset):
                request.reset = event.error_code

    async def send(self, *frames: bytes) -> None:
        """Send what is queued, then raw frames."""
        data = self.h2.data_to_send() + b"".join(frames)
        if data:
            await self.peer.send(data)

    async def request(self) -> Request:
        """The next request, as soon as its head is there."""
        while not self.arrived:
            await self.more()
        return self.arrived.pop(0)

    async def whole(self) -> Request:
        """The next request with its body."""
        request = await self.request()
        while not request.ended:
            await self.more()
        return request

    async def respond(
        self, number: int, body: bytes = b"ok", fields: Any = OK, *, ended: bool = True
    ) -> None:
        """A response; within the gateway's windows."""
        self.h2.send_headers(number, fields, end_stream=ended and not body)
        if body:
            await self.data(number, body, ended=ended)
        await self.send()

    async def data(self, number: int, body: bytes, *, ended: bool = False) -> None:
        """DATA, waiting for the gateway's windows."""
        while body:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room <= 0:
                await self.more()
                continue
            piece, body = body[:room], body[room:]
            self.h2.send_data(number, piece, end_stream=ended and not body)
            await self.send()

    async def serve(self, count: int = 1, body: bytes = b"ok") -> list[Request]:
        """Answer so many requests."""
        served = []
        for _ in range(count):
            request = await self.whole()
            await self.respond(request.number, body)
            served.append(request)
        return served

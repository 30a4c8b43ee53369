"""Both ends of a soak that speak HTTP/2, by a library that hopproxy does not use."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from tests.raw_peers import Peer

#: What an origin may do to a request on a stream, as in `tests.soak.origin`.
FAULTS = ("hang", "reset", "body-cut", "early", "interim", "dribble", "refused", "goaway")

#: Seconds in which a peer takes what is sent, or never.
LATEST = 10.0

Fields = list[tuple[bytes, bytes]]


class Answer:
    """The response on one stream.  `ended` if it is whole, `reset` why it was cut."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.reset is not None


class Multiplexed:
    """One end of an HTTP/2 connection over a raw peer."""

    def __init__(self, peer: Peer, *, client: bool) -> None:
        self.peer = peer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding=None)
        )
        self.turned_away = False
        self._room = trio.Event()
        self._sending = trio.Lock()

    async def begin(self) -> None:
        """Send our part of the connection preface."""
        self.h2.initiate_connection()
        await self.push()

    async def push(self) -> None:
        """Send what the library has to send.

        Frames of others may be among it, such as a WINDOW_UPDATE: a task that is cancelled here
        sends them first.
        """
        async with self._sending:
            if data := self.h2.data_to_send():
                with trio.CancelScope(deadline=trio.current_time() + LATEST, shield=True):
                    await self.peer.send(data)

    async def events(self) -> list[h2.events.Event]:
        """The next events.  EOFError once the connection has ended."""
        if not self.peer.unread:
            await self.peer.more()
        data, self.peer.unread = self.peer.unread, b""
        try:
            found = list(self.h2.receive_data(data))
        finally:
            await self.push()
        self._room.set()
        self._room = trio.Event()
        return found

    async def send_body(self, stream: int, body: bytes, *, end: bool = True) -> None:
        """Send a body as the windows allow; somebody else must read `events`."""
        rest = memoryview(body)
        while rest:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                await self._room.wait()
                continue
            self.h2.send_data(stream, bytes(rest[:room]))
            rest = rest[room:]
            await self.push()
        if end:
            self.h2.end_stream(stream)
        await self.push()


class Client(Multiplexed):
    """A client's end: many requests at once."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, client=True)
        self.answers: dict[int, Answer] = {}

    async def ask(self, fields: Fields, body: bytes) -> int:
        """Send a request whose body, if it is small, goes out at once; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, fields, end_stream=not body)
        await self.push()
        return stream

    async def upload(self, stream: int, body: bytes) -> None:
        """Send the body of a request, unless its stream ends before."""
        with contextlib.suppress(h2.exceptions.ProtocolError):
            await self.send_body(stream, body)

    async def call_off(self, stream: int) -> None:
        """Want no answer on this stream any more."""
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await self.push()

    async def read(self, enough: Callable[[], bool]) -> None:
        """Read until it is enough.  EOFError at the end of the connection."""
        while not enough():
            for event in await self.events():
                self._note(event)
            await self.push()

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.turned_away = True
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0)
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)


Act = Callable[["Server", int, bytes], Awaitable[None]]


class Server(Multiplexed):
    """An origin's end: each request is answered by `answer`, in a task of its own."""

    def __init__(
        self, peer: Peer, answer: Callable[[Server, int, dict[bytes, bytes]], Awaitable[None]]
    ) -> None:
        super().__init__(peer, client=False)
        self.bodies: dict[int, bytearray] = {}
        self._whole: dict[int, trio.Event] = {}
        self._answer = answer
        self._cancels: dict[int, trio.CancelScope] = {}
        self._last: int | None = None  # what GOAWAY has said

    async def serve(self) -> None:
        """Answer requests until the connection ends."""
        await self.begin()
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    for event in await self.events():
                        self._note(event, nursery)
                    await self.push()
            except (EOFError, OSError, h2.exceptions.ProtocolError):
                nursery.cancel_scope.cancel()

    def _note(self, event: h2.events.Event, nursery: trio.Nursery) -> None:
        if isinstance(event, h2.events.RequestReceived):
            stream = event.stream_id
            if self._last is not None and stream > self._last:
                return
            self.bodies[stream], self._whole[stream] = bytearray(), trio.Event()
            nursery.start_soon(self._one, stream, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in self.bodies:
                self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self._whole:
                self._whole[event.stream_id].set()
        elif isinstance(event, h2.events.StreamReset) and event.stream_id in self._cancels:
            self._cancels[event.stream_id].cancel()

    async def _one(self, stream: int, fields: dict[bytes, bytes]) -> None:
        with trio.CancelScope() as scope:
            self._cancels[stream] = scope
            try:
                await self._answer(self, stream, fields)
            except (OSError, h2.exceptions.ProtocolError):
                pass  # the stream or the connection has ended meanwhile
            finally:
                for kept in (self._cancels, self.bodies, self._whole):
                    kept.pop(stream, None)

    async def body(self, stream: int) -> bytes:
        """The whole body of a request."""
        await self._whole[stream].wait()
        return bytes(self.bodies[stream])

    async def head(self, stream: int, status: int, *fields: tuple[bytes, bytes]) -> None:
        """Send a response's head, or an interim one."""
        self.h2.send_headers(stream, [(b":status", b"%d" % status), *fields])
        await self.push()

    async def whole(self, stream: int, body: bytes) -> None:
        """A whole response."""
        await self.head(stream, 200, (b"content-length", b"%d" % len(body)))
        await self.send_body(stream, body)

    async def act(self, fault: str, stream: int, body: bytes) -> None:
        """Answer with a fault."""
        if fault == "hang":
            await trio.sleep_forever()
        elif fault == "reset":
            await self._reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif fault == "refused":
            await self._reset(stream, ErrorCodes.REFUSED_STREAM)
        elif fault == "body-cut":
            await self.head(stream, 200, (b"content-length", b"%d" % (len(body) + 100)))
            await self.send_body(stream, body, end=False)
            await self._reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif fault == "interim":
            await self.head(stream, 103, (b"link", b"</a>"))
            await self.whole(stream, body)
        elif fault == "dribble":
            await self.head(stream, 200)
            for at in range(0, 60, 5):
                await self.send_body(stream, body[at : at + 5], end=False)
                await trio.sleep(0.002)
            await self.send_body(stream, body[60:])
        else:  # goaway: what has begun is served
            await self.whole(stream, body)
            if self._last is None:
                self._last = self.h2.highest_inbound_stream_id
                # Not the library's own: it would end what is under way.
                async with self._sending:
                    await self.peer.send(GoAwayFrame(0, last_stream_id=self._last).serialize())

    async def early(self, stream: int) -> None:
        """Answer before the body has come, and want no more of it."""
        await self.head(stream, 413, (b"content-length", b"0"))
        self.h2.end_stream(stream)
        if not self._whole[stream].is_set():
            self.h2.reset_stream(stream, ErrorCodes.NO_ERROR)
        await self.push()

    async def _reset(self, stream: int, code: ErrorCodes) -> None:
        self.h2.reset_stream(stream, code)
        await self.push()


def fields_of(method: str, target: str, host: bytes, chance: random.Random) -> Fields:
    """The fields of a request, as a browser sends them now and then."""
    fields = [
        (b":method", method.encode()),
        (b":scheme", b"http"),
        (b":authority", host),
        (b":path", target.encode()),
    ]
    if chance.random() < 0.5:
        fields += [(b"user-agent", b"soak"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]
    return fields

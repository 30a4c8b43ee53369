"""The demo origin, spoken to without a proxy: what arrived is what it shows."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from hopproxy.dev.conversation import IDLE, SHOWN
from hopproxy.dev.demo import BEAT, CHUNKS, Demo
from hopproxy.dev.echo import ASK


class Visitor:
    """A client of the demo on one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.wire = h11.Connection(h11.CLIENT)

    async def ask(self, target: str, method: str = "GET", body: bytes = b"", **more: str) -> Any:
        """Send a request and read its whole answer: (response, body)."""
        fields = [("Host", "demo"), *((n.replace("_", "-"), v) for n, v in more.items())]
        if body:
            fields.append(("Content-Length", str(len(body))))
        out = self.wire.send(h11.Request(method=method, target=target, headers=fields)) or b""
        out += self.wire.send(h11.Data(data=body)) or b""
        out += self.wire.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(out)
        head = await self.next()
        assert isinstance(head, h11.Response)
        heard = b""
        while isinstance(event := await self.next(), h11.Data):
            heard += event.data
        if self.wire.our_state is h11.DONE and self.wire.their_state is h11.DONE:
            self.wire.start_next_cycle()
        return head, heard

    async def next(self) -> Any:
        while (event := self.wire.next_event()) is h11.NEED_DATA:
            self.wire.receive_data(bytes(await self.stream.receive_some()))
        return event

    async def tells(self, target: str, **more: Any) -> dict[str, Any]:
        """What the demo says that it received."""
        _, heard = await self.ask(target, **more)
        told: dict[str, Any] = json.loads(heard)
        return told


@pytest.fixture
async def demo(nursery: trio.Nursery) -> Demo:
    return Demo("http://127.0.0.1:9901")


@pytest.fixture
async def visitor(demo: Demo, nursery: trio.Nursery) -> Visitor:
    return connect(demo, nursery)


def connect(demo: Demo, nursery: trio.Nursery) -> Visitor:
    ours, theirs = memory_stream_pair()
    nursery.start_soon(demo.serve, theirs)
    return Visitor(ours)


async def test_the_head_is_shown_as_it_arrived(visitor: Visitor) -> None:
    told = await visitor.tells("/received?a=1", X_Two="Words", Via="1.1 gateway")
    assert told["head"] == [
        "GET /received?a=1 HTTP/1.1",
        "Host: demo",
        "X-Two: Words",
        "Via: 1.1 gateway",
    ]


async def test_connections_and_the_requests_on_each_are_counted(
    demo: Demo, visitor: Visitor, nursery: trio.Nursery
) -> None:
    other = connect(demo, nursery)
    seen = [await one.tells("/received") for one in (visitor, visitor, other, visitor)]
    assert [(told["connection"], told["request"]) for told in seen] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (1, 3),
    ]


async def test_the_number_of_the_link_is_in_every_answer(visitor: Visitor) -> None:
    await visitor.ask("/received")
    head, _ = await visitor.ask("/")
    assert (b"demo-link", b"connection=1, request=2") in list(head.headers)


async def test_a_body_is_echoed(visitor: Visitor) -> None:
    told = await visitor.tells("/echo", method="POST", body="gr\u00fc\u00df".encode())
    assert (told["method"], told["body"], told["size"]) == ("POST", "gr\u00fc\u00df", 6)


async def test_a_long_body_is_counted_and_its_beginning_shown(visitor: Visitor) -> None:
    told = await visitor.tells("/echo", method="POST", body=b"x" * (SHOWN + 70_000))
    assert (len(told["body"]), told["size"]) == (SHOWN, SHOWN + 70_000)


async def test_the_page_shows_the_request_for_itself(visitor: Visitor) -> None:
    head, page = await visitor.ask("/", X_Mark="<b>&")
    text = page.decode()
    assert head.status_code == 200
    assert "GET / HTTP/1.1\nHost: demo\nX-Mark: &lt;b&gt;&amp;" in text
    assert "connection 1, request 1" in text
    assert 'href="http://127.0.0.1:9901"' in text
    assert "{{" not in text


async def test_chunks_come_one_after_another(visitor: Visitor, autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    head, heard = await visitor.ask("/chunks")
    assert trio.current_time() - begun == pytest.approx(CHUNKS * BEAT)
    assert (b"transfer-encoding", b"chunked") in list(head.headers)
    lines = [json.loads(line) for line in heard.splitlines()]
    assert lines[0]["target"] == "/chunks"
    assert [line["chunk"] for line in lines[1:]] == list(range(1, CHUNKS + 1))


async def test_events_come_until_nobody_listens(
    visitor: Visitor, autojump_clock: MockClock
) -> None:
    out = b"GET /events HTTP/1.1\r\nHost: demo\r\n\r\n"
    await visitor.stream.send_all(out)
    heard = b""
    while b"data: event 3\n" not in heard:
        heard += await visitor.stream.receive_some()
    assert b"content-type: text/event-stream" in heard.lower()
    assert b"event: received\ndata: {" in heard
    await visitor.stream.aclose()


@pytest.mark.parametrize(("query", "seconds"), [("", 3), ("?seconds=7", 7), ("?seconds=900", 60)])
async def test_a_slow_answer_takes_as_long_as_asked(
    visitor: Visitor, autojump_clock: MockClock, query: str, seconds: int
) -> None:
    begun = trio.current_time()
    await visitor.tells("/slow" + query)
    assert trio.current_time() - begun == pytest.approx(seconds)


async def test_close_is_said_and_done(visitor: Visitor) -> None:
    head, _ = await visitor.ask("/close")
    assert (b"connection", b"close") in list(head.headers)
    assert await visitor.stream.receive_some() == b""


async def test_drop_ends_the_connection_without_a_byte(visitor: Visitor) -> None:
    await visitor.stream.send_all(b"GET /drop HTTP/1.1\r\nHost: demo\r\n\r\n")
    assert await visitor.stream.receive_some() == b""


@pytest.mark.parametrize(("target", "status"), [("/error", 500), ("/nowhere", 404)])
async def test_errors_tell_what_was_received_too(
    visitor: Visitor, target: str, status: int
) -> None:
    head, heard = await visitor.ask(target)
    assert (head.status_code, json.loads(heard)["target"]) == (status, target)
    assert (await visitor.tells("/received"))["request"] == 2


async def test_an_idle_connection_is_closed(visitor: Visitor, autojump_clock: MockClock) -> None:
    await visitor.ask("/received")
    begun = trio.current_time()
    assert await visitor.stream.receive_some() == b""
    assert trio.current_time() - begun == pytest.approx(IDLE)


async def test_who_waits_with_the_body_is_told_to_go_on(visitor: Visitor) -> None:
    fields = [("Host", "demo"), ("Content-Length", "2"), ("Expect", "100-continue")]
    head = visitor.wire.send(h11.Request(method="PUT", target="/echo", headers=fields))
    assert head is not None
    await visitor.stream.send_all(head)
    interim = await visitor.next()
    assert interim.status_code == 100
    await visitor.stream.send_all(b"ok")
    assert (await visitor.next()).status_code == 200


async def test_what_is_no_http_is_refused(visitor: Visitor) -> None:
    await visitor.stream.send_all(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await rest(visitor)).startswith(b"HTTP/1.1 400 ")


async def test_a_websocket_echoes_text_and_bytes(visitor: Visitor) -> None:
    socket = await opened(visitor)
    out = socket.send(TextMessage("hello")) + socket.send(BytesMessage(b"\0\1"))
    await visitor.stream.send_all(out + socket.send(Ping(b"are you there")))
    events = [await heard(visitor, socket) for _ in range(3)]
    assert events == [
        TextMessage("hello"),
        BytesMessage(b"\0\1"),
        Pong(b"are you there"),
    ]


async def test_a_websocket_tells_the_request_that_opened_it(visitor: Visitor) -> None:
    socket = await opened(visitor)
    await visitor.stream.send_all(socket.send(TextMessage(ASK)))
    event = await heard(visitor, socket)
    told = json.loads(event.data)
    assert told["head"][0] == "GET /websocket HTTP/1.1"
    assert told["connection"] == 1


async def test_a_websocket_closes_when_it_is_asked_to(visitor: Visitor) -> None:
    socket = await opened(visitor)
    await visitor.stream.send_all(socket.send(CloseConnection(1000)))
    event = await heard(visitor, socket)
    assert (type(event), event.code) == (CloseConnection, 1000)
    assert await visitor.stream.receive_some() == b""


async def test_a_websocket_that_breaks_the_rules_ends(visitor: Visitor) -> None:
    await opened(visitor)
    await visitor.stream.send_all(b"\x0f\xff\xff")  # no such opcode, and not masked
    assert b"Invalid opcode" in await rest(visitor)


async def test_a_websocket_without_an_upgrade_is_426(visitor: Visitor) -> None:
    head, _ = await visitor.ask("/websocket")
    assert head.status_code == 426
    assert (b"upgrade", b"websocket") in list(head.headers)
    assert (await visitor.tells("/received"))["request"] == 2


async def rest(visitor: Visitor) -> bytes:
    """All that the demo still sends until it closes."""
    return b"".join([bytes(data) async for data in visitor.stream])


async def opened(visitor: Visitor) -> WSConnection:
    """The client's side of an open WebSocket."""
    socket = WSConnection(ConnectionType.CLIENT)
    await visitor.stream.send_all(socket.send(Request(host="demo", target="/websocket")))
    event = await heard(visitor, socket)
    assert isinstance(event, AcceptConnection)
    return socket


async def heard(visitor: Visitor, socket: WSConnection) -> Any:
    """The next event of an open WebSocket."""
    while True:
        for event in socket.events():
            return event
        socket.receive_data(bytes(await visitor.stream.receive_some()))

"""The demo origin of `hopproxy dev`: an HTTP/1.1 server that shows the requests it receives.

It is a real origin on a socket, so it shows what hopproxy has sent.
"""

import html
import logging
import socket
from collections.abc import Awaitable, Callable
from importlib import resources
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec
import trio

from hopproxy.dev.conversation import Conversation, Received
from hopproxy.dev.echo import echo

log = logging.getLogger("hopproxy")

#: Seconds between two chunks or two events.
BEAT = 0.4
CHUNKS = 8
#: Events until the stream ends by itself.
EVENTS = 9000
#: Seconds that `/slow` takes by default, and at most.
SLOW, SLOWEST = 3.0, 60.0

_JSON = "application/json"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; " + (
    "connect-src 'self'; img-src data:"
)

Reaction = Callable[[Conversation, Received], Awaitable[None]]


class Demo:
    """The demo server.  `live_page` is the URL that its page links to."""

    def __init__(self, live_page: str) -> None:
        page = resources.files("hopproxy.dev").joinpath("demo.html").read_text()
        self._page = page.replace("{{live_page}}", html.escape(live_page))
        self._accepted = 0
        self._reactions: dict[str, Reaction] = {
            "/": self._show,
            "/received": _tell,
            "/echo": _tell,
            "/chunks": _chunks,
            "/events": _events,
            "/slow": _slow,
            "/close": _close,
            "/drop": _drop,
            "/error": _fail,
            "/websocket": echo,
        }

    async def run(self, listener: socket.socket) -> None:
        """Serve on a listening socket until cancelled."""
        listener.setblocking(False)
        sockets = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        await trio.serve_listeners(self.serve, [sockets])

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer on one connection until it ends; closes it."""
        self._accepted += 1
        conversation = Conversation(stream, self._accepted)
        try:
            async with stream:
                await self._requests(conversation)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone
        except Exception:  # a fault of the demo must not end the proxy beside it
            log.exception("the demo failed")

    async def _requests(self, conversation: Conversation) -> None:
        while True:
            try:
                received = await conversation.receive()
            except h11.RemoteProtocolError as error:
                return await conversation.refuse(str(error))
            if received is None:
                return None
            path = urlsplit(received.target).path
            await self._reactions.get(path, _miss)(conversation, received)
            if not conversation.persists():
                return None

    async def _show(self, conversation: Conversation, received: Received) -> None:
        """The page, with the request as it was received."""
        page = self._page
        for name, value in (
            ("head", "\n".join(received.head)),
            ("connection", str(received.connection)),
            ("request", str(received.request)),
        ):
            page = page.replace("{{" + name + "}}", html.escape(value))
        fields = [("Content-Security-Policy", _POLICY)]
        await conversation.answer(200, "text/html; charset=utf-8", page.encode(), fields)


async def _tell(conversation: Conversation, received: Received) -> None:
    await conversation.answer(200, _JSON, _json(received))


async def _chunks(conversation: Conversation, received: Received) -> None:
    """A slow chunked body; its first line is the request."""
    await conversation.begin(200, "application/jsonl")
    await conversation.more(_json(received) + b"\n")
    for number in range(1, CHUNKS + 1):
        await trio.sleep(BEAT)
        await conversation.more(b'{"chunk": %d, "of": %d}\n' % (number, CHUNKS))
    await conversation.end()


async def _events(conversation: Conversation, received: Received) -> None:
    """Server-sent events; the first one is the request."""
    await conversation.begin(200, "text/event-stream")
    await conversation.more(b"event: received\ndata: %s\n\n" % _json(received))
    for number in range(1, EVENTS + 1):
        await trio.sleep(BEAT)
        await conversation.more(b"id: %d\ndata: event %d\n\n" % (number, number))
    await conversation.end()


async def _slow(conversation: Conversation, received: Received) -> None:
    asked = parse_qs(urlsplit(received.target).query).get("seconds", [""])[0]
    seconds = min(float(asked), SLOWEST) if asked.isdecimal() else SLOW
    await trio.sleep(seconds)
    await _tell(conversation, received)


async def _close(conversation: Conversation, received: Received) -> None:
    """`Connection: close`: the upstream link ends, the client link persists."""
    await conversation.answer(200, _JSON, _json(received), [("Connection", "close")])


async def _drop(conversation: Conversation, _: Received) -> None:
    """Close without a response, as an application does when it crashes."""
    conversation.drop()


async def _fail(conversation: Conversation, received: Received) -> None:
    await conversation.answer(500, _JSON, _json(received))


async def _miss(conversation: Conversation, received: Received) -> None:
    await conversation.answer(404, _JSON, _json(received))


def _json(received: Received) -> bytes:
    return msgspec.json.encode(received)

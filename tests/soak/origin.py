"""An origin that does what each request asks of it, harm included, and remembers each POST.

The target says it all: `/FAULT/NUMBER/SIZE`.  A fault that hits an attempt hits only the first one
of its request, so that a repetition, where one is right, finds a sound origin.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from tests.raw_peers import Peer
from tests.soak.multiplexed import FAULTS as FAULTS_OF_STREAMS
from tests.soak.multiplexed import Server
from tests.soak.secure import SecureOrigin

#: What an origin may do to a request; the client knows what must come of each (`clients.py`).
FAULTS = (
    "hang", "reset", "close", "dribble", "garbage", "head-cut", "body-cut", "chunk-cut",
    "trailer-cut", "idle-close", "idle-408", "poison", "early", "interim", "until-close", "chunked",
)  # fmt: skip

Act = Callable[[Peer, bytes], Awaitable[bool]]


def content(number: int, size: int) -> bytes:
    """The body that belongs to a number, told apart from every other by each of its blocks."""
    block = hashlib.sha256(b"%d" % number).digest()
    return (block * (size // 32 + 1))[:size]


class Origin:
    """Several listening addresses, one memory."""

    def __init__(self) -> None:
        self.posts: Counter[int] = Counter()
        self.wrong_uploads: list[str] = []
        self.done: Counter[str] = Counter()
        self.crossed = 0  # 408s that met a request on its way
        self.restarts: list[tuple[float, float]] = []
        self._hit: set[int] = set()

    async def serve(
        self, port: int, speaks: str = "http", *, task_status: trio.TaskStatus[int]
    ) -> None:
        """Listen on `port` (0: any), until cancelled.  Speaks `http`, `https` or `h2c`."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        bound = listeners[0].socket.getsockname()[1]
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(bound)
                while True:
                    sock, _ = await listeners[0].socket.accept()
                    peer = SecureOrigin(sock) if speaks == "https" else Peer(sock)
                    serve = self._multiplexed if speaks == "h2c" else self._connection
                    nursery.start_soon(serve, peer)
        finally:
            listeners[0].socket.close()

    async def _connection(self, peer: Peer) -> None:
        try:
            if isinstance(peer, SecureOrigin):
                await peer.shake()
            while await self._exchange(peer):
                pass
        except (OSError, EOFError):
            pass  # the gateway ended it
        finally:
            peer.close()

    async def _multiplexed(self, peer: Peer) -> None:
        try:
            await Server(peer, self._stream).serve()
        finally:
            peer.close()

    async def _stream(self, server: Server, stream: int, fields: dict[bytes, bytes]) -> None:
        """One request on an HTTP/2 connection."""
        _, fault, number, size = fields[b":path"].decode().split("/")
        first = int(number) not in self._hit
        self._hit.add(int(number))
        fault = fault if first else "none"
        if fault != "refused" and fields[b":method"] == b"POST":  # what is refused is not processed
            self.posts[int(number)] += 1
        if fault in FAULTS_OF_STREAMS:
            self.done[f"h2 {fault}"] += 1
        if fault == "early":
            await server.early(stream)
            return
        body = await server.body(stream)
        if body != content(int(number), len(body)):
            self.wrong_uploads.append(f"upload {number}: {len(body)} bytes, not those sent")
        answer = b"" if fields[b":method"] == b"HEAD" else content(int(number), int(size))
        if fault in FAULTS_OF_STREAMS:
            await server.act(fault, stream, answer)
        elif fields[b":method"] == b"HEAD":
            server.h2.send_headers(stream, [(b":status", b"200")], end_stream=True)
            await server.push()
        else:
            await server.whole(stream, answer)

    async def _exchange(self, peer: Peer) -> bool:
        head = await peer.until(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        _, fault, number, size = target.decode().split("/")
        if method == b"POST":
            self.posts[int(number)] += 1
        if fault == "upgrade":
            return await self._tunnel(peer)
        first = int(number) not in self._hit
        self._hit.add(int(number))
        body = content(int(number), int(size))
        if fault == "early" and first:
            self.done[fault] += 1
            await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
            await self._take_body(peer, head, int(number))
            return True
        await self._take_body(peer, head, int(number))
        act = self._acts().get(fault) if first else None
        if act is not None:
            self.done[fault] += 1
            return await act(peer, body)
        await peer.send(_whole(b"" if method == b"HEAD" else body, len(body)))
        return True

    async def _take_body(self, peer: Peer, head: bytes, number: int) -> None:
        body = await peer.body_of(head)
        if body != content(number, len(body)):
            self.wrong_uploads.append(f"upload {number}: {len(body)} bytes, not those sent")

    async def _tunnel(self, peer: Peer) -> bool:
        await peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        with suppress(EOFError):
            while True:
                data, peer.unread = peer.unread, b""
                await peer.send(data)
                await peer.more()
        self.done["tunnel"] += 1
        peer.finish()  # with close_notify: without it the client would rightly see a cut
        return False

    # -- what it does to a request: each returns whether the connection goes on ---------------

    def _acts(self) -> dict[str, Act]:
        return {
            "hang": self._hang,
            "reset": self._reset,
            "close": self._close,
            "dribble": self._dribble,
            "garbage": _saying(b"\0\x01 this is no response\r\n\r\n"),
            "head-cut": _saying(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "body-cut": self._body_cut,
            "chunk-cut": _saying(_CHUNKED + b"ff\r\nonly a part of it"),
            "trailer-cut": _saying(_CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: "),
            "idle-close": self._idle_close,
            "idle-408": self._idle_408,
            "poison": self._poison,
            "interim": self._interim,
            "until-close": self._until_close,
            "chunked": self._chunked,
        }

    async def _hang(self, peer: Peer, body: bytes) -> bool:
        await peer.rest()  # until the gateway has had enough
        return False

    async def _reset(self, peer: Peer, body: bytes) -> bool:
        peer.reset()
        return False

    async def _close(self, peer: Peer, body: bytes) -> bool:
        return False

    async def _dribble(self, peer: Peer, body: bytes) -> bool:
        whole = _whole(body, len(body))
        for at in range(0, 120, 5):
            await peer.send(whole[at : at + 5])
            await trio.sleep(0.002)
        await peer.send(whole[120:])
        return True

    async def _body_cut(self, peer: Peer, body: bytes) -> bool:
        await peer.send(_whole(body, len(body) + 100))
        return False

    async def _idle_close(self, peer: Peer, body: bytes) -> bool:
        await peer.send(_whole(body, len(body)))
        return await self._hears_more(peer, 0.02)

    async def _idle_408(self, peer: Peer, body: bytes) -> bool:
        await peer.send(_whole(body, len(body)))
        if await self._hears_more(peer, 0.005):
            return True
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        # A request that the 408 crossed has it for its answer.  Otherwise the gateway ends the
        # connection at once, so that waiting for long costs nothing.
        if await self._hears_more(peer, 1.0):
            self.crossed += 1
        return False

    async def _hears_more(self, peer: Peer, within: float) -> bool:
        """Whether another request begins in this time."""
        with trio.move_on_after(within):
            await peer.more()
            return True
        return False

    async def _poison(self, peer: Peer, body: bytes) -> bool:
        await peer.send(_whole(body, len(body)) + _whole(b"POISON", 6))
        return False

    async def _interim(self, peer: Peer, body: bytes) -> bool:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _whole(body, len(body)))
        return True

    async def _until_close(self, peer: Peer, body: bytes) -> bool:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        peer.finish()
        return False

    async def _chunked(self, peer: Peer, body: bytes) -> bool:
        await peer.send(_CHUNKED)
        for at in range(0, len(body), 5000):
            part = body[at : at + 5000]
            await peer.send(b"%x;ext=1\r\n%b\r\n" % (len(part), part))
        await peer.send(b"0\r\nX-Sum: 1\r\n\r\n")
        return True


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _whole(body: bytes, announced: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (announced, body)


def _saying(last: bytes) -> Act:
    async def say(peer: Peer, body: bytes) -> bool:
        await peer.send(last)
        return False

    return say

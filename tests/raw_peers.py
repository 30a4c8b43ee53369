"""Raw peers of a gateway, on both of its hops: they speak bytes, not HTTP objects.

So a test reads like a packet trace, and nothing that the gateway sends is read by its own rules.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hopproxy.settings.units import OriginAddress
from tests.conformance import strict

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\nok"


def get(path: bytes) -> bytes:
    """A request for this path."""
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path


class Message:
    """One message as it stood on the wire, in bytes; `body` without its framing."""

    def __init__(self, seen: strict.Message) -> None:
        self.start = seen.raw_head.partition(b"\r\n")[0]
        self.fields = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in seen.fields
        ]
        self.body = seen.body

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start.split(b" ")[1])

    def values(self, name: bytes) -> list[bytes]:
        """The values of each field of this name (lower case)."""
        return [value for found, value in self.fields if found == name]


class Peer:
    """The raw far end of one connection of the gateway."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock
        self.unread = b""
        self.host = b"a"

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting where the gateway holds us back."""
        rest = memoryview(data)
        while rest:
            rest = rest[await self.sock.send(rest) :]

    def send_at_once(self, data: bytes) -> None:
        """Send without a checkpoint: what else is done so comes in the same batch of events."""
        assert os.write(self.sock.fileno(), data) == len(data)

    def unacknowledged(self) -> int:
        """How many segments we sent that the other kernel has not acknowledged (Linux)."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        return int.from_bytes(info[24:28], sys.byteorder)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; EOFError when the connection ends first."""
        while mark not in self.unread:
            await self.more()
        found, _, self.unread = self.unread.partition(mark)
        return found + mark

    async def exactly(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.unread) < count:
            await self.more()
        found, self.unread = self.unread[:count], self.unread[count:]
        return found

    async def gone(self) -> None:
        """Read until the other side has closed, or reset, the connection."""
        with contextlib.suppress(ConnectionResetError):  # it left bytes of ours unread
            await self.rest()

    async def rest(self) -> bytes:
        """Everything up to FIN.  A reset is raised as ConnectionError."""
        while data := await self.sock.recv(65536):
            self.unread += data
        found, self.unread = self.unread, b""
        return found

    async def more(self) -> None:
        """Receive once; EOFError at the end of the connection."""
        data = await self.sock.recv(65536)
        if not data:
            raise EOFError(self.unread)
        self.unread += data

    async def message(self, *, bodiless: bool = False) -> Message:
        """The next request or response; `bodiless` for the answer to HEAD.

        Malformed where a strict reader does not take it.
        """
        return Message(await self._read(strict.message_reader("HEAD" if bodiless else "GET")))

    async def body_of(self, head: bytes) -> bytes:
        """The body that follows this head, which has been read with its empty line."""
        return (await self._read(strict.body_reader(strict.parse_head(head)))).body

    async def _read(self, reader: strict.Reader) -> strict.Message:
        """Give a reader what it needs."""
        try:
            need = next(reader)
            while True:
                if need is None:
                    need = reader.send(await self.rest())
                elif isinstance(need, int):
                    need = reader.send(await self.exactly(need))
                else:
                    need = reader.send(await self.until(need))
        except StopIteration as end:
            message: strict.Message = end.value
            return message

    def pending(self) -> bytes:
        """What has arrived and was not read, without waiting."""
        try:
            raw = socket.socket(fileno=os.dup(self.sock.fileno()))
            with raw:
                return self.unread + raw.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self.unread

    def receive_at_once(self) -> bytes | None:
        """Receive without waiting: b"" at the end of the connection, None if nothing has come."""
        with socket.socket(fileno=os.dup(self.sock.fileno())) as raw:
            try:
                data = raw.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        self.unread += data
        return data

    def finish(self) -> None:
        """Send FIN; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both ways."""
        self.sock.close()

    def reset(self) -> None:
        """Close with RST (TCP only)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def together(*sent: tuple[Peer, bytes]) -> None:
    """Send all of this so that it comes in one batch of events."""
    for peer, data in sent:
        assert os.write(peer.sock.fileno(), data) == len(data)


class Origin:
    """A listening origin; the test accepts and answers by hand."""

    def __init__(self, sock: socket.socket, address: OriginAddress) -> None:
        self.address = address
        self._sock = self.raw = trio.socket.from_stdlib_socket(sock)
        self.peers: list[Peer] = []

    async def accept(self) -> Peer:
        """The next connection of the gateway."""
        sock, _ = await self._sock.accept()
        self.peers.append(Peer(sock))
        return self.peers[-1]

    async def accept_and_answer(self) -> Peer:
        """The next connection, on which the first request has been read and answered OK."""
        peer = await self.accept()
        await peer.message()
        await peer.send(OK)
        return peer

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Until the end of this block a dial has to wait: the backlog is full.

        For an origin with a backlog of 0 on a Unix socket.
        """
        filler = trio.socket.socket(socket.AF_UNIX)
        await filler.connect(self.address.path)
        yield
        filler.close()
        assert await (await self.accept()).rest() == b""

    def waiting(self) -> bool:
        """Whether a connection waits to be accepted."""
        with socket.socket(fileno=os.dup(self._sock.fileno())) as raw:
            raw.setblocking(False)
            try:
                accepted, _ = raw.accept()
            except BlockingIOError:
                return False
        accepted.setblocking(False)
        self.peers.append(Peer(trio.socket.from_stdlib_socket(accepted)))
        return True

    def close(self) -> None:
        """Listen no more: who connects is refused."""
        self._sock.close()

    def end(self) -> None:
        """Close everything."""
        self.close()
        for peer in self.peers:
            peer.close()

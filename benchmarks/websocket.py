"""WebSocket echo: an origin and a client of our own, and what passes through a proxy between them.

Run by the benchmark as: python -m benchmarks.websocket origin PORT, or client PORT CONNECTIONS
SECONDS.  Frames are short (RFC 6455 5.2: length below 126, one frame for each message), and each
connection has one message under way, so a round trip is one wake-up of the proxy in each direction.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
import time
from typing import cast

from benchmarks.load import MARK, read_wrk
from benchmarks.measure import Reading
from benchmarks.processes import GOOD_BODY, Launch, Process
from benchmarks.stage import Running, Stage, as_reading

CONNECTIONS = 16
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGE = b"0123456789abcdef0123456789abcdef"
KEY = base64.b64encode(bytes(range(16)))
HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
PLAIN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + GOOD_BODY


def accept_key(key: bytes) -> bytes:
    """The answer to a client's key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload with each byte combined with the mask's; its own inverse (RFC 6455 5.3)."""
    width = len(payload)
    pad = (mask * (width // 4 + 1))[:width]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(width, "big")


def client_frame(payload: bytes) -> bytes:
    """A whole binary message from a client, masked with a fresh key; at most 125 bytes."""
    mask = os.urandom(4)
    return bytes((0x82, 0x80 | len(payload))) + mask + masked(payload, mask)


def server_frame(payload: bytes) -> bytes:
    """A whole binary message from a server; at most 125 bytes."""
    return bytes((0x82, len(payload))) + payload


class EchoOrigin(asyncio.Protocol):
    """Answers the handshake, then sends every message back; without an upgrade it answers 200."""

    def __init__(self) -> None:
        self._open = False
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        if not self._open:
            return self._answer_head()
        while (end := self._frame_end()) and len(self._bytes) >= end:
            frame, self._bytes = self._bytes[:end], self._bytes[end:]
            if frame[0] & 0x0F == 0x8:
                return self._transport.close()
            self._transport.write(server_frame(masked(frame[6:], frame[2:6])))
        return None

    def _frame_end(self) -> int:
        return 6 + (self._bytes[1] & 0x7F) if len(self._bytes) >= 2 else 0

    def _answer_head(self) -> None:
        head, found, self._bytes = self._bytes.partition(b"\r\n\r\n")
        if not found:
            self._bytes = head
            return
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        keys = [value for name, value in fields.items() if name.lower() == b"sec-websocket-key"]
        if not keys:
            self._transport.write(PLAIN_ANSWER)
            return
        self._open = True
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(keys[0]) + b"\r\n\r\n"
        )


class EchoClient(asyncio.Protocol):
    """Sends a message, waits for its echo, sends the next; notes the seconds each one took."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.errors = 0
        self._open = False
        self._bytes = b""
        self._frame = client_frame(MESSAGE)
        self._echo = server_frame(MESSAGE)
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        if not self._open:
            head, found, rest = self._bytes.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head or accept_key(KEY) not in head:
                return self._fail()
            self._open, self._bytes = True, rest
            return self._next()
        if len(self._bytes) < len(self._echo):
            return
        if self._bytes != self._echo:
            return self._fail()
        self.took.append(time.perf_counter() - self._sent)
        self._bytes = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += 1  # the client never closes first: the run ends with the process

    def _next(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._frame)

    def _fail(self) -> None:
        self._transport.abort()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(EchoOrigin, "127.0.0.1", port)
    await server.serve_forever()


async def converse(port: int, connections: int, seconds: float) -> str:
    """Echo on so many connections for so long; the result in the form of the wrk script's line."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(EchoClient, "127.0.0.1", port) for _ in range(connections)]
    clients = [client for _, client in made]
    started = time.perf_counter()
    before = sum(len(client.took) for client in clients)
    await asyncio.sleep(seconds)
    passed = time.perf_counter() - started
    took = sorted(one for client in clients for one in client.took) or [0.0]
    told = {
        "requests": sum(len(client.took) for client in clients) - before,
        "seconds": passed,
        "p50": 1e6 * took[len(took) // 2],
        "p99": 1e6 * took[len(took) * 99 // 100],
        "errors": sum(client.errors for client in clients),
    }
    return MARK + json.dumps(told)


def echo_round_trips(stage: Stage, proxy: Running) -> Reading:
    """Run the client against a proxy that stands before the echo origin.  Raises NotReady."""
    argv = [sys.executable, "-m", "benchmarks.websocket", "client", str(proxy.port)]
    launch = Launch([*argv, str(CONNECTIONS), str(stage.seconds)])
    before = proxy.process.cpu_seconds()
    client = Process(launch, stage.cores.load, stage.folder / "websocket.out")
    try:
        answered = read_wrk(client.wait(stage.seconds + 30))
    finally:
        client.stop()
    return as_reading(answered, proxy.process.cpu_seconds() - before)


if __name__ == "__main__":
    if sys.argv[1] == "origin":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        print(asyncio.run(converse(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))

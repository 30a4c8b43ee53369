"""One end of a TCP connection as raw bytes, and the client of a proxy under test.

Everything runs in one thread, in lockstep with the proxy: the client writes, the origin waits for
what arrives, the origin answers, the client reads. So a case reads like a packet trace, and the
order of what each side saw is never in doubt.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests import drivers
from tests.authority import client_context
from tests.conformance import strict
from tests.conformance.strict import Message
from tests.conformance.tls_socket import TlsSocket

Sock = socket.socket | TlsSocket

WAIT = 4.0
"""Seconds that something which must happen may take, on a busy machine."""


class Silence(AssertionError):
    """Nothing came in the time given."""


class CutShort(AssertionError):
    """The peer ended the connection in the middle of a message."""


class Unexpected(AssertionError):
    """Bytes or a connection where there should be none."""


@dataclass
class Trace:
    """What happened on both wires, in order; printed when a case fails."""

    lines: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: int = 0
    links: int = 0
    clients: int = 0

    def note(self, who: str, what: bytes | str) -> None:
        text = what if isinstance(what, str) else repr(what)[1:]
        self.lines.append(f"{who} {text if len(text) < 400 else text[:380] + f'... ({len(what)})'}")

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def summary(self) -> str:
        """Say in a line what both sides saw."""
        runs = [(status, len(list(run))) for status, run in itertools.groupby(self.statuses)]
        down = " ".join(f"{status} x{n}" if n > 1 else f"{status}" for status, n in runs)
        down = down or "no response"
        return f"D: {down}; U: {self.requests} requests on {self.links} connections"


class Wire:
    """One TCP connection as bytes: what came in, and how the peer ended it."""

    def __init__(self, sock: Sock, name: str, trace: Trace) -> None:
        self.sock = sock
        self.name = name
        self.trace = trace
        self.buffer = bytearray()
        self.ending = ""
        self.deadline = 0.0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Write bytes as they are; a peer that has gone away is no error here."""
        self.trace.note(f"{self.name} >", data)
        try:
            self.sock.settimeout(WAIT)
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.trace.note(self.name, "could not write: the peer has closed")

    def send_until_stuck(self, limit: int, patience: float = 0.3) -> int:
        """Write zeros until the peer takes no more for that time; return how many went out."""
        block, sent = bytes(262144), 0
        self.sock.settimeout(patience)
        try:
            while sent < limit:
                sent += self.sock.send(block)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            self.trace.note(self.name, "the peer takes no more")
        self.trace.note(f"{self.name} >", f"{sent} bytes")
        return sent

    def send_in_single_bytes(self, data: bytes) -> None:
        """Write each byte in a packet of its own."""
        self.trace.note(f"{self.name} >", data)
        self.sock.settimeout(WAIT)
        for at in range(len(data)):
            self.sock.sendall(data[at : at + 1])
            time.sleep(0.0005)

    def fin(self) -> None:
        """End our direction, still reading."""
        self.trace.note(f"{self.name} >", "FIN")
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as gone:
            self.trace.note(self.name, f"was closed already: {gone.strerror}")

    def reset(self) -> None:
        """Abort the connection with RST."""
        self.trace.note(f"{self.name} >", "RST")
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    @property
    def is_closed(self) -> bool:
        return self.sock.fileno() < 0

    def fill(self) -> bool:
        """Read what has come by `deadline`; False when the peer has ended the connection."""
        if self.ending:
            return False
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        try:
            data = self.sock.recv(262144)
        except TimeoutError:
            so_far = bytes(self.buffer[:80])
            raise Silence(f"{self.name}: nothing came (so far {so_far!r})") from None
        except ConnectionResetError:
            self.ending = "RST"
        else:
            self.ending = "" if data else "FIN"
            self.buffer += data
        self.trace.note(f"{self.name} <", self.ending or data[:400])
        return not self.ending

    def pending(self) -> bool:
        """Whether bytes have been received that nobody has read yet."""
        return isinstance(self.sock, TlsSocket) and self.sock.pending()

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def read_until(self, marker: bytes) -> bytes:
        while (at := self.buffer.find(marker)) < 0:
            if not self.fill():
                raise CutShort(f"{self.name}: {self.ending} after {bytes(self.buffer[:200])!r}")
        return self.take(at + len(marker))

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.fill():
                raise CutShort(f"{self.name}: {self.ending} after {len(self.buffer)} of {size}")
        return self.take(size)

    def read_to_end(self) -> bytes:
        while self.fill():
            pass
        if self.ending == "RST":
            raise CutShort(f"{self.name}: RST in a body that lasts until close")
        return self.take(len(self.buffer))

    def everything(self, within: float = WAIT) -> bytes:
        """Read to the end of the connection, whatever comes; Silence when it stays open."""
        self.deadline = time.monotonic() + within
        while self.fill():
            pass
        return self.take(len(self.buffer))

    def end(self, within: float = WAIT) -> str:
        """Wait for the peer's end, before which no byte may come; return FIN or RST."""
        rest = self.everything(within)
        if rest:
            raise Unexpected(f"{self.name}: {rest[:200]!r} before the end")
        return self.ending

    def stays_open_or_speaks(self, within: float) -> bool:
        """Read for that time whatever comes; False when the peer ended the connection."""
        self.deadline = time.monotonic() + within
        try:
            return self.fill()
        except Silence:
            return True

    def stays_open(self, within: float = 0.05) -> bool:
        """Return whether the peer keeps the connection open, and silent, for that time."""
        if self.buffer:
            raise Unexpected(f"{self.name}: {bytes(self.buffer[:200])!r}")
        self.deadline = time.monotonic() + within
        try:
            self.fill()
        except Silence:
            return True
        if self.buffer:
            raise Unexpected(f"{self.name}: {bytes(self.buffer[:200])!r}")
        return False


#: The name in the certificate of a proxy whose clients speak TLS.
NAME = "site.test"


@cache
def _context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = client_context()
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Client(Wire):
    """A client connection to the proxy under test, in HTTP/1.1."""

    host = ""
    #: What a Via field calls its protocol.
    via = "1.1"
    #: What it names in its ClientHello.
    alpn: tuple[str, ...] = ()

    def __init__(self, address: tuple[str, int], host: str, trace: Trace, source: str = "") -> None:
        trace.clients += 1
        sock: Any = socket.create_connection(address, WAIT, (source, 0))
        if drivers.TLS in ("clients", "both"):
            sock = TlsSocket(sock, _context(self.alpn), server=False, name=NAME)
        super().__init__(sock, f"C{trace.clients}", trace)
        self.host = host
        self.interim: list[Message] = []

    def head(self, start: str, *fields: str) -> None:
        """Send a head: its start line, the Host of the case, and these fields."""
        lines = (start, f"Host: {self.host}", *fields, "", "")
        self.send("\r\n".join(lines).encode("latin-1"))

    def get(self, target: str = "/", *fields: str) -> None:
        self.head(f"GET {target} HTTP/1.1", *fields)

    def post(self, target: str, body: bytes, *fields: str) -> None:
        """Send a whole POST in one write."""
        lines = (f"POST {target} HTTP/1.1", f"Host: {self.host}", *fields)
        head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", ""))
        self.send(head.encode("latin-1") + body)

    def response(self, to: str = "GET", within: float = WAIT) -> Message:
        """Read the next final response; interim ones before it go to `interim`."""
        while (message := self.next_response(to, within)).status < 200:
            self.interim.append(message)
        return message

    def next_response(self, to: str = "GET", within: float = WAIT) -> Message:
        """Read the next response, interim or final."""
        self.deadline = time.monotonic() + within
        message = strict.read_response(self, to)
        self.trace.statuses.append(message.status)
        return message

    def begun(self, within: float = WAIT) -> Message:
        """Read the head of the next response; its content is left unread."""
        self.deadline = time.monotonic() + within
        message = strict.read_head(self)
        self.trace.statuses.append(message.status)
        return message

    def still_takes(self, data: bytes) -> bool:
        """Write more of a body; False when the proxy takes no more of it."""
        try:
            self.sock.settimeout(1)
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def upload_ends(self, within: float = WAIT) -> None:
        """Wait until the proxy takes no more of the request that is being sent."""
        self.end(within)

    def has_heard(self) -> bool:
        """Whether something of a response was read from the socket before it is asked for."""
        return bool(self.buffer)

    def hears(self) -> bool:
        """Whether what has come belongs to a response, or is the end.  Call it when readable."""
        return not isinstance(self.sock, TlsSocket) or self.sock.speaks()

    def says_close(self, response: Message) -> bool:
        """Whether the proxy has said, here, that this connection takes no more requests."""
        return "close" in response.options()

    def delimits(self, response: Message) -> bool:
        """Whether the end of this response, whose length was not known, can be told."""
        return response.options("transfer-encoding") == ["chunked"]

    def is_switched(self, response: Message) -> bool:
        """Whether this is the answer that opens a tunnel for WebSocket."""
        switched = response.status == 101 and response.options("upgrade") == ["websocket"]
        return switched and "upgrade" in response.options()

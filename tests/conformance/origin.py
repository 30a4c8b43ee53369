"""The origin behind a proxy under test: every connection that comes to it, driven step by step."""

from __future__ import annotations

import select
import socket
import ssl
import time

from tests.conformance import strict
from tests.conformance.strict import Message
from tests.conformance.tls_socket import TlsSocket
from tests.conformance.wire import WAIT, Client, Silence, Sock, Trace, Wire


class OriginLink(Wire):
    """One connection that the proxy opened to the origin, with the requests seen on it."""

    def __init__(self, sock: Sock, trace: Trace) -> None:
        trace.links += 1
        self.number = trace.links
        super().__init__(sock, f"U{trace.links}", trace)
        self.seen: list[Message] = []
        self.left = False

    @property
    def last(self) -> Message:
        return self.seen[-1]

    def read_head(self, within: float = WAIT) -> Message:
        """Read the head of the next request, and leave its body."""
        self.deadline = time.monotonic() + within
        self.seen.append(strict.read_head(self))
        self.trace.requests += 1
        return self.last

    def read_body(self, within: float = WAIT) -> Message:
        """Read the body of the request whose head was read last."""
        self.deadline = time.monotonic() + within
        self.seen[-1] = strict.read_body(self, self.last, "")
        return self.last

    def leave(self) -> None:
        """Read nothing more here: a body was left unread, so no request can follow."""
        self.left = True

    def answer(self, body: bytes = b"ok", *fields: str, status: str = "200 OK") -> None:
        """Send a whole HTTP/1.1 response with its Content-Length."""
        lines = (f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", "")
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def reply(self, *lines: str) -> None:
        """Send a head of these lines, as they are."""
        self.send("\r\n".join((*lines, "", "")).encode("latin-1"))


class Origin:
    """A listening socket and every connection that came to it."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        """With a `context` it speaks TLS."""
        self.context = context
        self.trace = Trace()
        self.links: list[OriginLink] = []
        self.listener = listen(port)
        self.port: int = self.listener.getsockname()[1]

    def refuse(self) -> None:
        """Stop listening: connects are refused from now on."""
        self.listener.close()

    def listen(self) -> None:
        """Listen again on the same port."""
        self.listener = listen(self.port)

    def stall(self) -> socket.socket:
        """Fill the accept queue, so that further connects hang; return the filler to be closed."""
        self.listener.listen(0)
        filler = socket.create_connection(("127.0.0.1", self.port), WAIT)
        return filler

    def resume(self, filler: socket.socket) -> None:
        """Let connects through again: a hanging one arrives with its next SYN, a second later."""
        filler.close()
        self.listener.accept()[0].close()
        self.listener.listen(256)

    def accept(self, within: float = WAIT) -> OriginLink:
        """Wait for a new connection."""
        if not select.select([self.listener], [], [], within)[0]:
            raise Silence("origin: no new connection")
        sock: Sock = self.listener.accept()[0]
        if self.context is not None and isinstance(sock, socket.socket):
            sock.settimeout(WAIT)
            sock = TlsSocket(sock, self.context, server=True)
        link = OriginLink(sock, self.trace)
        self.trace.note(link.name, "accepted")
        self.links.append(link)
        return link

    def head(self, within: float = WAIT) -> OriginLink:
        """Wait for the next request head on any connection; its body is left unread."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            for link in self._readable(left):
                link.deadline = deadline
                if link.buffer or link.fill():
                    link.read_head(within)
                    return link
        raise Silence("origin: no request came")

    def request(self, within: float = WAIT) -> OriginLink:
        """Wait for the next whole request on any connection; return the link it came on."""
        link = self.head(within)
        link.read_body(within)
        return link

    def hears_nothing(self, within: float = 0.05) -> bool:
        """Return whether no request byte arrives on any connection in that time."""
        try:
            self.head(within)
        except Silence:
            return True
        return False

    def answers_first(self, client: Client) -> bool:
        """Wait until the client has got something or the origin a request; True for the first."""
        mine = [self.listener, *(link.sock for link in self.links if not link.is_closed)]
        while not client.has_heard():
            ready = select.select([client.sock, *mine], [], [], WAIT)[0]
            if client.sock not in ready:
                return False
            if client.hears():
                return True
            if len(ready) > 1:
                return False
        return True

    def open_links(self) -> list[OriginLink]:
        """Return the links that the proxy has not ended."""
        return [link for link in self.links if not link.is_closed and link.stays_open(0.001)]

    def forget(self) -> None:
        """End every connection, before another case begins."""
        for link in self.links:
            link.close()
        self.links.clear()
        if self.listener.fileno() < 0:
            self.listen()
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.accept()[0].close()

    def close(self) -> None:
        self.listener.close()
        for link in self.links:
            link.close()

    def _readable(self, within: float) -> list[OriginLink]:
        alive = [link for link in self.links if not (link.is_closed or link.ending or link.left)]
        if waiting := [link for link in alive if link.buffer or link.pending()]:
            return waiting
        listeners = [] if self.listener.fileno() < 0 else [self.listener]
        ready = select.select([*listeners, *(link.sock for link in alive)], [], [], within)[0]
        if self.listener in ready:
            self.accept()
        return [link for link in alive if link.sock in ready]


def listen(port: int) -> socket.socket:
    """Listen on the loopback address; port 0 takes a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    return listener

"""The far ends of the gateway's sockets, and which request went out on which of them."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import NamedTuple

from hopproxy.record import ExchangeRecord
from tests.fuzz.corpus import FIN
from tests.fuzz.h11_reader import strict_end

PROBED = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 7\r\n\r\nprobed!"


class End:
    """The far end of one socket: what came, what was said, and whether the gateway has ended it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.came = b""
        self.said = b""
        self.left = False  # we have sent FIN
        self.ended = False
        self.answered = 0  # bytes of requests that have had their reply
        self.switched = False
        self.link_number = 0  # of the gateway's link to this client

    def take(self) -> bool:
        """Read what is there; True if anything was."""
        before = len(self.came), self.ended
        while not self.ended:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.came += data
            self.ended = not data
        return (len(self.came), self.ended) != before

    def next_request(self) -> bytes:
        """The next request that has come whole and has had no reply; b"" if there is none.

        A probe gets its reply here.
        """
        while not self.switched:
            size = strict_end(self.came[self.answered :])
            request = self.came[self.answered :][:size]
            self.answered += size
            if not request.startswith(b"GET /probe "):
                return request
            self.say(PROBED)
        return b""

    def say(self, data: bytes) -> None:
        """Send bytes or FIN; does nothing if the gateway has closed."""
        if data == FIN:
            self.finish()
        else:
            self.send(data)

    def finish(self) -> None:
        """Send FIN; does nothing if the gateway has closed."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            self.left = True

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are; does nothing after a FIN, or if the gateway has closed."""
        with suppress(OSError):
            if not self.left:
                self.sock.send(data)
                self.said += data


class Attempt(NamedTuple):
    """One request on one upstream link; `said_before` is what the origin had said there by then."""

    end: End
    record: ExchangeRecord
    said_before: int

"""TLS on a blocking socket, with the methods of a socket that the wires of a case use.

What ends a direction is close_notify and then FIN, as real servers and clients do it; a reset sends
neither.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time


class TlsSocket:
    """One end of a connection with TLS.  The handshake is made at once."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server: bool, name: str | None = None
    ) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name)
        self._patience: float | None = sock.gettimeout()
        self._abrupt = self._ended = False
        self._ahead = b""
        self._shake()

    def _shake(self) -> None:
        """The handshake; if the peer gives up, the next `recv` tells."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._more():
                    return
            else:
                self._flush()
                return

    def _flush(self) -> None:
        if data := self._out.read():
            self._sock.sendall(data)

    def _more(self) -> bool:
        data = self._sock.recv(262144)
        if data:
            self._in.write(data)
        self._ended = not data
        return bool(data)

    def recv(self, size: int) -> bytes:
        """All that is there; waits for the first byte as long as `settimeout` says."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        until = None if self._patience is None else time.monotonic() + self._patience
        while True:
            parts: list[bytes] = []
            with contextlib.suppress(ssl.SSLWantReadError):
                while data := self._read(size):
                    parts.append(data)
                if not parts:
                    return b""
            if parts:
                return b"".join(parts)
            self._flush()
            if self._ended:
                return b""
            if until is not None:
                self._sock.settimeout(max(until - time.monotonic(), 0.001))
            self._more()

    def _read(self, size: int) -> bytes:
        try:
            return self.tls.read(size)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def speaks(self) -> bool:
        """Whether what has come is more than a ticket.  Call it when the socket is readable."""
        self._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._more()
        self._sock.settimeout(self._patience)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._ahead += self._read(262144)
            self._ended = self._ended or not self._ahead
        return bool(self._ahead or self._ended)

    def pending(self) -> bool:
        """Whether `recv` has something without a new event on the socket."""
        return bool(self._in.pending or self.tls.pending())

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        for at in range(0, len(data), 65536):
            self.tls.write(data[at : at + 65536])
            self._flush()

    def send(self, data: bytes) -> int:
        """Send a piece of it, or raise TimeoutError."""
        if not select.select([], [self._sock], [], self._patience)[1]:
            raise TimeoutError
        piece = data[:16384]
        self.tls.write(piece)
        self._flush()
        return len(piece)

    def settimeout(self, seconds: float | None) -> None:
        self._patience = seconds
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._abrupt = self._abrupt or option == socket.SO_LINGER
        self._sock.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """Send close_notify and FIN."""
        self._notify()
        self._sock.shutdown(how)

    def close(self) -> None:
        if not self._abrupt:
            self._notify()
        self._sock.close()

    def _notify(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._sock.settimeout(1.0)
            try:
                self.tls.unwrap()
            finally:
                self._flush()

    def fileno(self) -> int:
        return self._sock.fileno()

    def getsockname(self) -> object:
        return self._sock.getsockname()

"""Our end of one connection: what the transport asks of a socket.

`Endpoint` is the face; `Plain` is TCP (or a Unix socket) as it is.  TLS would be another, which
keeps the face: `receive` and `send` carry plaintext, and `has_input` is no for a session ticket.
"""

import contextlib
import select
import socket
import struct
from collections.abc import Callable
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Protocol

#: Bytes asked of one receive.
RECEIVE_SIZE = 65536
#: None where the kernel lets nobody choose when it acknowledges.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Endpoint(Protocol):
    """One end of a connection, which never blocks."""

    #: Bytes that are at hand, b"" at the end of the stream.  Fewer bytes than were asked for mean
    #: that there are no more before the next event.  Raises BlockingIOError, or OSError when the
    #: connection has broken.
    receive: Callable[[int], bytes]
    #: Send what is taken at once; how many bytes that were.  Raises as `receive`.
    send: Callable[[bytes | memoryview], int]
    #: The descriptor, -1 once it is closed.
    fd: int
    #: Whether bytes may pass from socket to socket within the kernel (`link.splice`).
    may_be_spliced: bool

    def has_input(self) -> bool:
        """Whether bytes or the end of the stream wait to be read, asked now (one system call)."""

    def peek(self) -> bytes:
        """One byte that stays unread, b"" at the end of the stream.  Raises as `receive`."""

    def is_taken_up(self) -> bool:
        """Whether the peer's process has read all that was sent; only a Unix socket can tell."""

    def acknowledge(self) -> None:
        """Acknowledge at once what has been received (TCP only; one system call)."""

    def shut_down(self) -> None:
        """End our side of the stream (FIN); receiving goes on."""

    def close(self, *, reset: bool) -> None:
        """Close the socket.  `reset` sends RST, so that no body looks whole."""


class Plain:
    """A connected stream socket without TLS."""

    __slots__ = ("_poll", "_socket", "fd", "receive", "send")

    may_be_spliced = True

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._poll: select.poll | None = None
        self.fd = sock.fileno()
        self.receive: Callable[[int], bytes] = sock.recv
        self.send: Callable[[bytes | memoryview], int] = sock.send

    def acknowledge(self) -> None:
        """As the face says."""
        if QUICKACK is not None:
            with contextlib.suppress(OSError):  # a broken connection shows at the next receive
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def has_input(self) -> bool:
        """As the face says."""
        poll = self._poll
        if poll is None:
            if self.fd < 0:
                return False
            poll = self._poll = select.poll()
            poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def peek(self) -> bytes:
        """As the face says."""
        return self._socket.recv(1, socket.MSG_PEEK)

    def is_taken_up(self) -> bool:
        """As the face says."""
        if self._socket.family != socket.AF_UNIX:
            return False
        try:
            return not any(ioctl(self.fd, TIOCOUTQ, bytes(4)))
        except OSError:  # not told here
            return False

    def shut_down(self) -> None:
        """As the face says."""
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool) -> None:
        """As the face says."""
        if reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self._socket.close()
        self.fd = -1  # the number may be another's from now on
        self._poll = None

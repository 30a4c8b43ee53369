"""Our end of one connection: a non-blocking socket, and what the kernel gives or takes at once."""

import contextlib
import select
import socket
import struct
from fcntl import ioctl
from termios import TIOCOUTQ

from hopproxy.errors import LinkError
from hopproxy.record import CloseReason, Hop

#: Bytes asked of one `recv`.
RECEIVE_SIZE = 65536
#: None where the kernel lets nobody choose when it acknowledges.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Endpoint:
    """A connected stream socket, owned by one link.

    `readable` while there may be something to read: only an event, or a `recv` that finds nothing,
    changes it.  `hung_up` is true once the peer has closed its side or reset; bytes may still be
    unread then.  `sent` and `received` count bytes.
    """

    __slots__ = (
        "_poll",
        "_socket",
        "closed",
        "fd",
        "hop",
        "hung_up",
        "readable",
        "received",
        "sent",
        "urgent",
    )

    def __init__(self, sock: socket.socket, hop: Hop) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._poll: select.poll | None = None
        self.fd = sock.fileno()
        self.hop = hop
        self.closed = False
        self.readable = False
        self.hung_up = False
        self.urgent = False  # urgent data has come: `recv` may stop short at its mark
        self.sent = 0
        self.received = 0

    def receive_now(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """What is at hand, b"" at a FIN, None if nothing is.  Raises LinkError."""
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            self.readable = self.hung_up = False
            return None
        except OSError as error:
            raise self.broken(error) from error
        if len(data) < size and not (self.hung_up or self.urgent):
            self.readable = not data  # at FIN there is always more of it to read
        self.received += len(data)
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once; how many bytes that were.  Raises LinkError."""
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.broken(error) from error
        self.sent += count
        return count

    def acknowledge(self) -> None:
        """Acknowledge at once what has been received (TCP only; one system call)."""
        if QUICKACK is not None:
            with contextlib.suppress(OSError):  # a broken connection shows at the next receive
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def broken(self, error: Exception) -> LinkError:
        """The connection was reset under us, or lost on the way."""
        return LinkError(self.hop, CloseReason.PEER_RESET, f"the connection broke: {error}")

    def is_readable(self) -> bool:
        """Whether bytes or a FIN wait to be read, asked of the kernel now (one system call)."""
        poll = self._poll
        if poll is None:
            if self.closed:
                return False
            poll = self._poll = select.poll()
            poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def peek(self) -> bytes:
        """One byte that stays unread, b"" at a FIN.  Raises LinkError, BlockingIOError."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise
            raise self.broken(error) from error

    def is_taken_up(self) -> bool:
        """Whether the peer's process has read all that was sent; only a Unix socket can tell."""
        if self._socket.family != socket.AF_UNIX:
            return False
        try:
            return not any(ioctl(self.fd, TIOCOUTQ, bytes(4)))
        except OSError:  # not told here
            return False

    def shut_down(self) -> None:
        """Send FIN; receiving goes on."""
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_WR)

    def _shut(self, *, reset: bool) -> None:
        """Close the socket; `reset` sends RST."""
        if reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self._socket.close()
        self.fd = -1  # the number may be another's from now on
        self._poll = None

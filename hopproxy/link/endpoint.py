"""Our end of one connection: what a transport needs of a socket.

`Endpoint` is the interface, `Plain` implements it for TCP and Unix sockets, `link.tls.Tls` for TLS
on them.
"""

import contextlib
import select
import socket
import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Protocol

#: Bytes asked of one receive; and of a body of which so many are still to come, to relay it.
RECEIVE_SIZE, LONG = 65536, 262144
#: None on systems without this option.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Channel(Protocol):
    """What carries the bytes: the socket itself, or TLS on it.  It never blocks."""

    def recv(self, size: int, /) -> bytes:
        """Return bytes that have arrived, b"" at the end of the stream.

        Fewer bytes than asked for mean that there are no more until the next event.  Raises
        BlockingIOError if there are none, another OSError if the connection has broken.
        """

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what is accepted at once; return how many bytes.  Raises as `recv`."""


class Endpoint(Protocol):
    """One end of a connection.  No method blocks."""

    @property
    def channel(self) -> Channel:
        """What carries the bytes."""

    #: The descriptor, -1 once it is closed.
    fd: int
    #: Whether the kernel may move bytes from socket to socket (`link.splice`).
    may_be_spliced: bool
    #: Whether it tells the peer in the stream that it ends, as TLS does (close_notify).
    tells_end: bool
    #: Whether the stream ended without the peer saying so, as only TLS can tell.
    cut: bool
    #: Whether the peer has said that it ends its stream (close_notify of TLS).
    notified: bool

    def has_input(self) -> bool:
        """Whether bytes or the end of the stream can be read now (one system call)."""

    def peek(self) -> bytes:
        """The next byte, without consuming it; b"" at the end of the stream.  Raises as `recv`."""

    def is_taken_up(self) -> bool:
        """Whether the peer has read all that we sent.  Always False except on Unix sockets."""

    def acknowledge(self) -> None:
        """Send pending ACKs now instead of delaying them (TCP only; one system call)."""

    def shed(self) -> None:
        """Nothing has moved for a while: free buffers; they are allocated again when needed."""

    def end_with_next(self) -> None:
        """The next bytes to be sent are the last ones: what tells of the end may go with them."""

    def shut_down(self) -> None:
        """End our side of the stream (FIN); receiving goes on."""

    def cut_short(self) -> None:
        """What was sent is incomplete: with TLS, send no close_notify."""

    def close(self, *, reset: bool) -> None:
        """Close the socket.  `reset` sends RST, so that a cut body does not look complete."""


class Plain:
    """A connected stream socket without TLS.  Methods are documented in `Endpoint`."""

    __slots__ = ("_poll", "channel", "fd")

    may_be_spliced = True
    tells_end = False
    cut = notified = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.channel = sock
        self._poll: select.poll | None = None
        self.fd = sock.fileno()

    def acknowledge(self) -> None:
        if QUICKACK is not None:
            with contextlib.suppress(OSError):  # a broken connection shows at the next receive
                self.channel.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def has_input(self) -> bool:
        poll = self._poll
        if poll is None:
            if self.fd < 0:
                return False
            poll = self._poll = select.poll()
            poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def peek(self) -> bytes:
        return self.channel.recv(1, socket.MSG_PEEK)

    def is_taken_up(self) -> bool:
        if self.channel.family != socket.AF_UNIX:
            return False
        try:
            return not any(ioctl(self.fd, TIOCOUTQ, bytes(4)))
        except OSError:  # not supported by this kernel
            return False

    def shed(self) -> None:
        """It has none."""

    def end_with_next(self) -> None:
        """Nothing goes with them: the end is a FIN."""

    def shut_down(self) -> None:
        with contextlib.suppress(OSError):  # already closed by the peer
            self.channel.shutdown(socket.SHUT_WR)

    def cut_short(self) -> None:
        """Nothing to do without TLS."""

    def close(self, *, reset: bool) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self.channel.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        self.channel.close()
        self.fd = -1  # the kernel may reuse the number
        self._poll = None

"""Messages between the supervisor and a worker, with file descriptors.

Each message is a packet on a pair of Unix sockets: its kind, a body of plain values, and any number
of descriptors.  Both ends belong to the same program, so the encoding is Python's own (`marshal`),
which costs no import.  Large data goes into a file in memory (`in_memory`), whose descriptor is
sent.
"""

from __future__ import annotations

import array
import contextlib
import marshal
import os
import socket
from collections.abc import Iterable, Sequence

from hopproxy.descriptors import unnamed_file

TYPE_CHECKING = False
if TYPE_CHECKING:  # the supervisor should stay small
    from typing import Any

#: In the environment of a worker: the number of its end of the channel.
VARIABLE = "HOPPROXY_CHANNEL"

#: Version of the encoding; the program that takes over may run on another Python.
VERSION = 4
#: Most descriptors in one packet; the kernel allows 253.
AT_ONCE = 240
#: Largest packet.
LARGEST = 128 * 1024
#: Seconds to wait for room for a message with many descriptors.
PATIENCE = 1.0


class Message:
    """One message.  Whoever receives it owns its descriptors."""

    __slots__ = ("body", "fds", "kind")

    def __init__(self, kind: str, body: Any, fds: list[int]) -> None:  # noqa: ANN401
        self.kind = kind
        self.body = body
        self.fds = fds

    def close(self) -> None:
        """Close its descriptors."""
        for fd in self.fds:
            os.close(fd)


class Ended(Exception):
    """The other side has closed the channel."""


class Channel:
    """One end.  Messages keep their order, and arrive whole or not at all."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: list[int] = []  # descriptors of a message that is not complete

    def fileno(self) -> int:
        """The descriptor, to wait for messages."""
        return self._sock.fileno()

    def send(self, kind: str, body: object = None, fds: Sequence[int] = ()) -> bool:
        """Send a message; False if the other side has gone, or takes none at the moment.

        Waits only if there are more than AT_ONCE descriptors, at most PATIENCE seconds.
        """
        self._sock.settimeout(PATIENCE if len(fds) > AT_ONCE else 0)
        first = (len(fds) - 1) // AT_ONCE * AT_ONCE if fds else 0
        try:
            for at in range(0, first, AT_ONCE):
                self._put(("", None, 0), fds[at : at + AT_ONCE])
            self._put((kind, body, len(fds)), fds[first:])
        except OSError:
            return False
        return True

    def _put(self, packet: tuple[str, Any, int], fds: Sequence[int]) -> None:
        data = marshal.dumps(packet, VERSION)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._sock.sendmsg([data], [rights] if fds else [])

    def receive(self, timeout: float | None = 0) -> Message:
        """The next message.  Raises Ended, and BlockingIOError or TimeoutError without one.

        One whose descriptors are more than this process may have is lost.
        """
        self._sock.settimeout(timeout)
        while True:
            kind, body, count = self._packet()
            if kind and count <= len(self._waiting):
                break
            if kind:
                close_all(self._waiting)
                self._waiting = []
        # Drop what is left of a message whose sender gave up.
        start = len(self._waiting) - count
        for fd in self._waiting[:start]:
            os.close(fd)
        fds, self._waiting = self._waiting[start:], []
        return Message(kind, body, fds)

    def _packet(self) -> tuple[str, Any, int]:
        room = socket.CMSG_SPACE(AT_ONCE * array.array("i").itemsize)
        try:
            data, rights, _, _ = self._sock.recvmsg(LARGEST, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise Ended from None
        for level, kind, numbers in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(numbers[: len(numbers) - len(numbers) % fds.itemsize])
                self._waiting.extend(fds)
        if not data:
            raise Ended
        packet: tuple[str, Any, int] = marshal.loads(data)
        return packet

    def close(self) -> None:
        """Close this end."""
        self._sock.close()


def pair() -> tuple[Channel, socket.socket]:
    """Our end of a new channel, and the socket that the other process inherits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs


def inherited() -> Channel | None:
    """The channel of this process, if the supervisor has started it as a worker.  Call it once."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return Channel(socket.socket(fileno=int(number)))


def in_memory(data: bytes) -> int:
    """The descriptor of a file in memory with this content, read with `content`."""
    fd = unnamed_file("hopproxy")
    try:
        os.ftruncate(fd, len(data))
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.close(fd)
        raise
    return fd


def content(fd: int) -> bytes:
    """What is in a file from `in_memory`, which stays open."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)

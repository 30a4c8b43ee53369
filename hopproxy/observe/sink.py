"""Writing to an inherited file descriptor without waiting, whatever it is.

O_NONBLOCK is a flag of the open file, which other processes share (the shell, another worker).  So
it is never set on an inherited descriptor.  A pipe or a terminal is opened again, and only the new
open file is non-blocking; a socket is used with MSG_DONTWAIT; anything else is written by a thread.
"""

import contextlib
import os
import select
import socket
import stat
import threading
from abc import ABC, abstractmethod

#: Where Linux lets a process reopen its descriptors.
DESCRIPTORS = "/proc/self/fd"

_OWN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: The device that creates a new terminal each time it is opened.
_PTMX = os.makedev(5, 2)


class Sink(ABC):
    """Accepts bytes without waiting.

    `shared` if others may write to the same reader, so that only short writes keep lines intact.
    """

    shared = True

    @abstractmethod
    def put(self, data: bytes) -> int:
        """Write some of `data`, return how many bytes.  Raises BlockingIOError, other OSErrors."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Block until more may be accepted, at most `seconds`."""

    def is_busy(self) -> bool:
        """Whether accepted bytes are still being written."""
        return False

    def give_up(self) -> bytes:
        """Discard and return accepted bytes that have not been written."""
        return b""


def open_sink(fd: int) -> Sink:
    """A sink for this descriptor, which is not changed.  Raises OSError if it is closed."""
    found = os.fstat(fd)
    if stat.S_ISSOCK(found.st_mode):
        return _ToSocket(fd)
    if not (stat.S_ISFIFO(found.st_mode) or os.isatty(fd)):
        return _ToFile(fd, shared=False)  # a disk or /dev/null: no reader to wait for
    if found.st_rdev != _PTMX:
        with contextlib.suppress(OSError):  # no /proc, or a terminal of another user
            return _ToFile(os.open(f"{DESCRIPTORS}/{fd}", _OWN), shared=True)
    return _ByThread(fd)


class _ToFile(Sink):
    def __init__(self, fd: int, *, shared: bool) -> None:
        self._fd = fd
        self.shared = shared

    def put(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def wait(self, seconds: float) -> None:
        _wait_writable(self._fd, seconds)


class _ToSocket(Sink):
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def put(self, data: bytes) -> int:
        borrowed = socket.socket(fileno=self._fd)
        try:
            return borrowed.send(data, socket.MSG_DONTWAIT)
        finally:
            borrowed.detach()

    def wait(self, seconds: float) -> None:
        _wait_writable(self._fd, seconds)


class _ByThread(Sink):
    """Writes in a thread, which starts with the first write and ends with the process."""

    shared = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._turn = threading.Condition()
        self._left = b""
        self._writing = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def put(self, data: bytes) -> int:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
            self._thread.start()
        with self._turn:
            if self._error is not None:
                raise self._error
            if self.is_busy():
                raise BlockingIOError
            self._left = data
            self._turn.notify_all()
        return len(data)

    def wait(self, seconds: float) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self.is_busy(), seconds)

    def is_busy(self) -> bool:
        return self._error is None and (self._writing or bool(self._left))

    def give_up(self) -> bytes:
        with self._turn:
            left, self._left, self._error = self._left, b"", None
        return left

    def _has_work(self) -> bool:
        return bool(self._left) and self._error is None

    def _write(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(self._has_work)
                piece = self._left[: select.PIPE_BUF]
                self._writing = True
            count, failure = 0, None
            try:
                count = os.write(self._fd, piece)
            except OSError as error:
                failure = error
            with self._turn:
                self._writing = False
                self._left = self._left[count:]
                self._error = failure
                self._turn.notify_all()


def _wait_writable(fd: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(seconds * 1000)

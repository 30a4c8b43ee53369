"""Bytes out to a file, pipe, terminal or socket that must never hold up the one who writes."""

import errno
import logging
import os
import select
import stat
import time

#: Bytes waiting at which a write is due at once.
DUE = 64 * 1024
#: Bytes that may wait; past it lines are dropped.
BOUND = 4 * 1024 * 1024
#: Seconds that the last bytes of a process may take.
FAREWELL = 0.5
#: Seconds between two warnings.
QUIET = 60.0
#: What a pipe that polls as writable takes without blocking, and whole: PIPE_BUF.
PIECE = select.PIPE_BUF

log = logging.getLogger("hopproxy")


class Outlet:
    """Whole lines to one file descriptor, which is borrowed and stays as it is.

    O_NONBLOCK would be shared with whoever else holds the descriptor's open file (the shell, the
    next worker), so it is left alone: a pipe is asked by `poll` and given pieces it takes whole.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._waiting: list[tuple[bytes, int]] = []
        self._size = 0
        self._mid_line = False
        self._torn = False
        self._warned_at = -QUIET
        #: Lines that were dropped.
        self.dropped = 0
        mode = os.fstat(fd).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._poll = select.poll()
        if self._may_block:
            self._poll.register(fd, select.POLLOUT)

    def add(self, data: bytes, lines: int) -> None:
        """Queue whole lines; past the bound they are dropped."""
        if self._size + len(data) > BOUND:
            self._drop(lines, "nobody reads it fast enough")
            return
        self._waiting.append((data, lines))
        self._size += len(data)
        if self._size >= DUE:
            self.write()

    def write(self) -> None:
        """Write what is taken now; the rest waits for the next time.  Never blocks, never raises.

        On an error (disk full, reader gone) what waits is dropped.
        """
        if not self._waiting:
            return
        data = b"".join([data for data, _ in self._waiting])
        if self._torn:
            data = b"\n" + data
        at = 0
        failure: OSError | None = None
        try:
            while at < len(data) and (not self._may_block or self._poll.poll(0)):
                at += self._put(data, at)
        except OSError as error:
            failure = error
        if at:
            self._torn = False
            rest = data[at:]
            self._waiting = [(rest, rest.count(b"\n"))] if rest else []
            self._size = len(rest)
        if failure is not None and failure.errno not in (errno.EAGAIN, errno.EINTR):
            self._drop_waiting(failure.strerror or str(failure))

    def finish(self) -> None:
        """Write all that is left, for a moment even to a slow reader."""
        late = time.monotonic() + FAREWELL
        self.write()
        while self._waiting and time.monotonic() < late:
            self._poll.poll(20)
            self.write()
        if self._waiting:
            self._drop_waiting("nobody reads it")

    def _put(self, data: bytes, at: int) -> int:
        """One write; pieces end with a line, since other workers may write to the same pipe."""
        end = len(data)
        if self._may_block and end > at + PIECE:
            end = data.rfind(b"\n", at, at + PIECE) + 1 or at + PIECE
        count = os.write(self._fd, data[at:end])
        if count:
            self._mid_line = data[at + count - 1] != 10
        return count

    def _drop_waiting(self, why: str) -> None:
        lines = sum(count for _, count in self._waiting)
        self._waiting = []
        self._size = 0
        self._torn = self._torn or self._mid_line
        self._drop(lines, why)

    def _drop(self, lines: int, why: str) -> None:
        self.dropped += lines
        now = time.monotonic()
        if now - self._warned_at >= QUIET:
            self._warned_at = now
            log.warning("%s: %d lines dropped so far: %s", self._name, self.dropped, why)

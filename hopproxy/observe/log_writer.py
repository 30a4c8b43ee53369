"""Writes lines to a descriptor without ever waiting for the reader.

If the reader is too slow, lines are dropped and counted.
"""

import logging
import select
import time
from collections import deque
from collections.abc import Callable

from hopproxy.observe.sink import open_sink

#: Queued bytes that cause a write at once.
DUE = 64 * 1024
#: Most queued bytes; beyond, lines are dropped.
BOUND = 4 * 1024 * 1024
#: Seconds to write the last bytes of a process.
FAREWELL = 0.5
#: Seconds between two warnings.
QUIET = 60.0
#: Bytes that a pipe accepts completely or not at all.
PIECE = select.PIPE_BUF

log = logging.getLogger("hopproxy")

#: Called with the reason for dropped lines, at most once a minute.
Warn = Callable[[str], None]


class LogWriter:
    """Writes lines to one file descriptor, without changing or closing it.

    `name` is its name in warnings.  An incomplete write is continued where it stopped.
    """

    def __init__(self, fd: int, name: str, warn: Warn | None = None) -> None:
        self._sink = open_sink(fd)
        self._name = name
        self._warn = warn or log.warning
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._mid_line = False
        self._torn = False
        self._warned_at = -QUIET
        #: Lines that were dropped.
        self.dropped = 0

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._waiting)

    def add(self, data: bytes, lines: int) -> None:
        """Queue lines; if too much is queued, drop them."""
        if self._size + len(data) > BOUND:
            self._drop(lines, "nobody reads it fast enough")
            return
        self._waiting.append((data, lines))
        self._size += len(data)
        if self._size >= DUE:
            self.write()

    def write(self) -> bool:
        """Write what is accepted now; True if that was all.  Never blocks, never raises.

        The rest waits for the next call.  On an error (disk full, reader gone) it is dropped.
        """
        try:
            while self._waiting:
                self._write_first()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._drop_waiting(error.strerror or str(error))
            return False
        return True

    def finish(self) -> None:
        """Write all that is left; a slow reader gets a moment."""
        late = time.monotonic() + FAREWELL
        self.write()
        while (self._waiting or self._sink.is_busy()) and time.monotonic() < late:
            self._sink.wait(0.02)
            self.write()
        self._drop_waiting("nobody reads it")

    def _write_first(self) -> None:
        """Write the first queued data.  Raises OSError; what was written before it counts."""
        data = self._waiting[0][0]
        if self._torn:
            data = b"\n" + data
        at = 0
        try:
            while at < len(data):
                at += self._put(data, at)
        finally:
            if at:
                self._torn = False
                self._mid_line = data[at - 1] != 10
                self._size -= len(self._waiting.popleft()[0])
                if rest := data[at:]:
                    self._waiting.appendleft((rest, rest.count(b"\n")))
                    self._size += len(rest)

    def _put(self, data: bytes, at: int) -> int:
        """Write once.  Pieces end with a line, since others may write to the same reader."""
        end = len(data)
        if self._sink.shared and end > at + PIECE:
            end = data.rfind(b"\n", at, at + PIECE) + 1 or at + PIECE
        count = self._sink.put(data[at:end])
        if not count:
            raise BlockingIOError
        return count

    def _drop_waiting(self, why: str) -> None:
        left = self._sink.give_up()
        lines = left.count(b"\n") + sum(count for _, count in self._waiting)
        if not lines:
            return
        self._waiting.clear()
        self._size = 0
        self._torn = self._torn or self._mid_line
        self._drop(lines, why)

    def _drop(self, lines: int, why: str) -> None:
        self.dropped += lines
        now = time.monotonic()
        if now - self._warned_at >= QUIET:
            self._warned_at = now
            self._warn(f"{self._name}: {self.dropped} lines dropped so far: {why}")

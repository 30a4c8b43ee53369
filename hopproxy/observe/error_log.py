"""Standard error of a process that serves: messages, warnings and tracebacks, none of which waits.

It stands in for `sys.stderr`, so that whatever Python itself has to say takes the same way.
"""

import io
import logging
import sys
import threading

import trio

from hopproxy.observe.log_writer import LogWriter

#: Seconds between two tries to write what was not taken at once.
INTERVAL = 0.1


class ErrorLog(io.TextIOBase):
    """A text stream on the descriptor of standard error.  Any thread may write to it."""

    def __init__(self, fd: int) -> None:
        self._lock = threading.RLock()
        self._line = ""
        self._told = 0
        self._fd = fd
        self._writer = LogWriter(fd, "standard error", _in_its_turn)

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self._writer.dropped

    def writable(self) -> bool:
        """It is written to."""
        return True

    def fileno(self) -> int:
        """The descriptor itself, for what must be written while the process crashes."""
        return self._fd

    def write(self, text: str) -> int:
        """Write whole lines at once, as far as they are taken; a line that has no end yet waits."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._writer.add(f"{line}\n".encode("utf-8", "backslashreplace"), 1)
            if lines:
                self._send()
        return len(text)

    async def run(self) -> None:
        """Write on every 100 ms what was not taken at once, until cancelled."""
        while True:
            await trio.sleep(INTERVAL)
            if self._writer.is_waiting:
                with self._lock:
                    self._send()

    def finish(self) -> None:
        """Write all that is left, for a moment even to a slow reader."""
        with self._lock:
            if self._line:
                self.write("\n")
            self._writer.finish()

    def _send(self) -> None:
        lost = self._writer.dropped
        if self._writer.write() and lost > self._told:  # it is read again
            self._told = lost
            note = f"hopproxy: standard error: {lost} lines dropped so far\n"
            self._writer.add(note.encode(), 1)
            self._writer.write()


def _in_its_turn(_: str) -> None:
    """Of its own lost lines it tells where they are missing, once it is read again."""


def stand_in() -> ErrorLog:
    """Let all that this process has to say go through an error log from now on."""
    error_log = ErrorLog(2)
    # Only the access log writes to standard output.
    sys.stdout = sys.stderr = error_log
    logging.basicConfig(format="hopproxy: %(message)s", level=logging.INFO, stream=error_log)
    return error_log

"""Standard error of a serving process: messages, warnings and tracebacks, written without waiting.

It replaces `sys.stderr`, so that messages from Python itself go the same way.
"""

import io
import logging
import sys
import threading

import trio

from hopproxy.observe.log_writer import LogWriter

#: Seconds between two tries to write what could not be written at once.
INTERVAL = 0.1
#: Seconds between two looks whether there is such a thing.
REST = 1.0


class ErrorLog(io.TextIOBase):
    """A text stream on the descriptor of standard error.  Any thread may use it."""

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

    @staticmethod
    def name(writer: str) -> None:
        """From now on each message begins with the name of its process."""
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter(f"hopproxy: {writer}: %(message)s"))

    def writable(self) -> bool:
        """Always True."""
        return True

    def fileno(self) -> int:
        """The descriptor, for `faulthandler` and the like."""
        return self._fd

    def write(self, text: str) -> int:
        """Write complete lines, as far as possible now; an incomplete line waits for its end."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._writer.add(f"{line}\n".encode("utf-8", "backslashreplace"), 1)
            if lines:
                self._send()
        return len(text)

    async def run(self) -> None:
        """Write what could not be written at once, until cancelled."""
        while True:
            await trio.sleep(INTERVAL if self._writer.is_waiting else REST)
            if self._writer.is_waiting:
                with self._lock:
                    self._send()

    def finish(self) -> None:
        """Write all that is left; a slow reader gets a moment."""
        with self._lock:
            if self._line:
                self.write("\n")
            self._writer.finish()

    def _send(self) -> None:
        lost = self._writer.dropped
        if self._writer.write() and lost > self._told:  # somebody reads again
            self._told = lost
            note = f"hopproxy: standard error: {lost} lines dropped so far\n"
            self._writer.add(note.encode(), 1)
            self._writer.write()


def _in_its_turn(_: str) -> None:
    """Do nothing: `ErrorLog` reports lost lines itself, once somebody reads again."""


def stand_in() -> ErrorLog:
    """From now on, all that this process prints goes through an error log."""
    error_log = ErrorLog(2)
    # Only the access log writes to standard output.
    sys.stdout = sys.stderr = error_log
    logging.basicConfig(format="hopproxy: %(message)s", level=logging.INFO, stream=error_log)
    return error_log

"""The place of one worker: the process that serves there now, and when the next one starts."""

import math
import os
import signal
import socket
import sys

from hopproxy.server.backoff import BackOff
from hopproxy.server.channel import VARIABLE, Channel, pair

#: Seconds for which a worker still serves after others have taken its place.
RETIRING = 2.0


class Place:
    """Has at most one worker at a time.

    `pid` is 0 while there is none; then `start_at` is when to start one.  `serving_since` is None
    until the worker says that it serves.  `report` is the descriptor of its last report.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.channel: Channel | None = None
        self.serving_since: float | None = None
        self.start_at = 0.0
        self.report = -1
        self.back_off = BackOff()
        #: Whether it knows that others have taken its place.
        self.retired = False
        #: When it is killed if it has not ended by itself.
        self.kill_at = math.inf

    def start(self) -> Channel:
        """Start a worker: this program again, with one end of a channel.

        Its signals are blocked until it has decided what they mean.  Raises OSError.
        """
        ours, theirs = pair()
        self.channel = ours
        with theirs:
            self.pid = _spawn(theirs)
        self.serving_since = None
        return ours

    def kill(self) -> None:
        """End the worker at once."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def take_report(self, fd: int) -> None:
        """A newer report has come; -1: none is left."""
        if self.report >= 0:
            os.close(self.report)
        self.report = fd


def _spawn(channel: socket.socket) -> int:
    fd = channel.fileno()
    os.set_inheritable(fd, True)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {**os.environ, VARIABLE: str(fd)},
        setsigmask=signal.valid_signals(),
    )

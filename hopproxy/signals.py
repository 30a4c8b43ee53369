"""Signals of a serving process, handled from its first moment.

Until something listens, a stop signal ends the process at once.  After that, signals are kept until
a worker obeys them.  (For process 1, the kernel ignores signals without a handler.)
"""

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType

#: Signals that begin a drain; a second one stops.
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Signals that would kill the process without a handler.
HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Obey = Callable[[signal.Signals], None]


class Signals:
    """The signals of this process.  There is only one instance, `SIGNALS`."""

    def __init__(self) -> None:
        self._heard: deque[signal.Signals] = deque()
        self._obey: Obey | None = None
        self._keeps = False

    def hear(self) -> None:
        """Set the signal handlers.  Call it in the main thread; it may be called again."""
        for number in (*STOP, *HARMLESS):
            signal.signal(number, self._on_signal)
        # Otherwise a terminal may stop a background job that writes to it.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if os.getpid() == 1:
            signal.signal(signal.SIGCHLD, _reap)
            _reap(signal.SIGCHLD, None)

    def keep(self) -> None:
        """Keep stop signals from now on until they are obeyed: we are about to listen."""
        self._keeps = True

    @contextlib.contextmanager
    def obeyed_by(self, obey: Obey) -> Iterator[None]:
        """Call `obey` in the signal handler for each signal, and for those kept before.

        Afterwards signals are ignored, since the loop that they would wake is about to end.
        """
        self._obey = obey
        try:
            self._pass_on()
            yield
        finally:
            self._obey = None
            self.ignore()

    def ignore(self) -> None:
        """Ignore all signals: the process is about to end.

        With the default handlers the exit code would be that of a failure.
        """
        for number in (*STOP, *HARMLESS):
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number in STOP and not self._keeps:
            os._exit(0)  # an exception might be swallowed where it is raised
        self._heard.append(signal.Signals(number))
        self._pass_on()

    def _pass_on(self) -> None:
        with contextlib.suppress(IndexError):  # a signal during this loop may have emptied it
            while self._obey is not None:
                self._obey(self._heard.popleft())


def _reap(_: int, __: FrameType | None) -> None:
    """Wait for the orphans that process 1 of a container inherits."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


SIGNALS = Signals()

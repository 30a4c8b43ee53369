"""SIGUSR2 as the supervisor sees it: when the installed program takes over."""

import math
import time

from hopproxy.server.crew import Crew
from hopproxy.server.notify import Notifier
from hopproxy.server.reading import Reading
from hopproxy.server.say import say
from hopproxy.server.takeover import replace, start_check

#: Seconds to wait for a worker that reads the settings: it may open sockets that are to be kept.
PATIENCE = 5.0


class Upgrade:
    """Makes the installed program check the settings, then becomes it.

    `replace_at` is when to become it, if no worker reads settings any more before.
    """

    def __init__(self, crew: Crew, notifier: Notifier, reading: Reading) -> None:
        self._crew = crew
        self._notifier = notifier
        self._reading = reading
        self._due = False
        self._check = 0  # the process that checks
        self.replace_at = math.inf

    def ask(self) -> None:
        """Begin, unless a check is under way."""
        if not self._check and self.replace_at == math.inf:
            self._due = True
            self.go_on()

    def go_on(self) -> None:
        """Begin if this was asked for, once this program has opened its sockets itself."""
        if not self._due or self._crew.is_beginning:
            return
        self._due = False
        say("SIGUSR2: checking the settings with the installed program")
        try:
            self._check = start_check()
        except OSError as error:
            self._refuse(error)

    def has_ended(self, pid: int, code: int) -> None:
        """A child has ended; perhaps the one that checks."""
        if pid != self._check:
            return
        self._check = 0
        if code:
            say("SIGUSR2: the check has failed: nothing changes")
        else:
            self.replace_at = time.monotonic() + PATIENCE

    def replace_if_due(self) -> None:
        """Become the installed program, if it is time.  All sockets and workers stay."""
        late = self.replace_at <= time.monotonic()
        if self.replace_at == math.inf or (self._reading.is_under_way and not late):
            return
        self.replace_at = math.inf
        self._notifier.reloading()
        try:
            replace(self._crew.estate(), self._notifier.environ)
        except OSError as error:
            self._refuse(error)
            self._notifier.ready()

    def stop(self) -> None:
        """Cancel a take-over that was asked for."""
        self._due, self._check, self.replace_at = False, 0, math.inf

    @staticmethod
    def _refuse(error: OSError) -> None:
        say(f"SIGUSR2: the installed program cannot be started: {error.strerror}")

"""A reload as the supervisor sees it: which worker reads the settings file anew."""

import math
import time

from hopproxy.server.crew import Crew
from hopproxy.server.notify import Notifier
from hopproxy.server.place import Place
from hopproxy.server.say import say

#: Seconds in which a worker must begin; a stopped one does not.
PATIENCE = 1.0


class Reading:
    """Has one worker read the settings; it passes them on to the others.

    `late_at` is when another worker is asked, unless this one has begun.
    """

    def __init__(self, crew: Crew, notifier: Notifier) -> None:
        self._crew = crew
        self._notifier = notifier
        self._due = False
        self._reads: Place | None = None
        self._silent: list[Place] = []  # were asked, but did not begin
        self._ended_meanwhile = 0  # workers, one after another
        self.late_at = math.inf

    @property
    def is_under_way(self) -> bool:
        """Whether a worker reads, or has been asked to."""
        return self._reads is not None

    def ask(self) -> None:
        """Ask a worker, now or as soon as one serves."""
        self._ended_meanwhile = 0
        self._ask_again()

    def _ask_again(self) -> None:
        self._due = True
        self._silent.clear()
        self._ask_one()

    def go_on(self) -> None:
        """Another worker serves now: ask it if none could be asked before."""
        if self._due:
            self._ask_one()

    def _ask_one(self) -> None:
        for place in self._crew.places:
            if place.channel is None or place.serving_since is None or place in self._silent:
                continue
            self._due = False
            self._reads = place
            self.late_at = time.monotonic() + PATIENCE
            self._notifier.reloading()
            place.channel.send("reload")
            return

    def pass_over(self) -> None:
        """The worker that was asked has not begun: ask another one."""
        self.late_at = math.inf
        late, self._reads = self._reads, None
        if late is not None:
            self._silent.append(late)
            say(f"{self._crew.name(late)} does not begin to reload: is it stopped?")
            self._ask_one()

    def begun(self, place: Place) -> None:
        """This worker reads: it was asked to, or watches the file."""
        if self._reads is None or place is self._reads:
            self._reads = place
            self.late_at = math.inf

    def ended(self) -> None:
        """The settings were read, with or without success."""
        self._reads = None
        self._ended_meanwhile = 0
        self.late_at = math.inf
        self._notifier.ready()

    def has_left(self, place: Place) -> None:
        """This worker has ended, perhaps before it could read.

        A second one is asked then, but no third one: perhaps it is the settings that end them.
        """
        if place in self._silent:
            self._silent.remove(place)
        if place is not self._reads:
            return
        self._ended_meanwhile += 1
        if self._ended_meanwhile == 1:
            self._reads = None
            self.late_at = math.inf
            self._ask_again()
        else:
            say("not reloaded: workers end while they read the settings; those in use stay in use")
            self.ended()

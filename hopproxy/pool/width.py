"""Learning how many connections an origin serves at a time.

Some origins serve a connection only when an earlier one has ended: a server with one thread, or a
few worker processes that each stay with one connection.  Then our own idle links block a request on
a new link.  Such an origin does not announce this.  But new links stay silent while others are
idle, and answer soon after one of those was closed.

A slow response looks the same for a while, so closing an idle link for a silent one is an
experiment.  It needs a silence longer than recent responses took, and the silence doubles with each
experiment until the answer is known.  If a silent link answers while the others stay open, the
origin serves more connections than it seemed.  If answers follow closes every time, it does not.

Times are seconds and arguments; nothing here reads a clock.
"""

#: Silence after which an idle link is closed for a silent one: the first, and the longest.
FIRST, LONGEST = 0.25, 4.0
#: The same if the origin has served more connections than are open now.
FREE = 2.0
#: The same if closing is known to help.
KNOWN = 0.01
#: The silence must be LONGER times the time of a response, up to BOUND seconds.
LONGER, BOUND = 1.5, 15.0
#: Experiments in a row with the same result that decide.
TIMES = 3


class Width:
    """What is known about one address.

    `open` counts its links that have answered, `proven` is the highest number of them so far, and
    `tight` if the origin is known to serve no more than that.
    """

    __slots__ = ("_patience", "_row", "_took", "_within", "open", "proven", "tight")

    def __init__(self) -> None:
        self.open = 0
        self.proven = 0
        self.restarted()

    def restarted(self) -> None:
        """The origin is a new process: forget what is known."""
        self.proven = self.open
        self.tight = False
        self._patience = FIRST
        self._within = FIRST
        self._row = 0
        self._took = 0.0

    def took(self, seconds: float) -> None:
        """A response took `seconds` on a link that had answered before."""
        self._took = max(seconds, self._took / 2)

    def heard(self) -> None:
        """A link has answered for the first time."""
        self.open += 1
        if self.open > self.proven:
            self.restarted()

    def closed(self) -> None:
        """A link that has answered has ended."""
        self.open -= 1

    @property
    def patience(self) -> float:
        """The silence after which an idle link is closed for a silent one."""
        if self.open >= self.proven and self.tight:
            return KNOWN
        least = FREE if self.open < self.proven else 0.0
        return max(least, self._patience, min(LONGER * self._took, BOUND))

    @property
    def within(self) -> float:
        """Seconds within which a silent link must answer for a close to count as help."""
        return self._within if self.tight else self.patience

    @property
    def at_once(self) -> int:
        """How many experiments may run at the same time."""
        return max(1, self.proven) if self.tight else 1

    def judge(self, *, helped: bool) -> None:
        """An experiment has ended: the silent link answered in time (`helped`), or did not."""
        self._row = 0 if helped is self.tight else self._row + 1
        if self._row == TIMES:
            self._row = 0
            self.tight = helped
            if helped:
                self._within = max(self._patience, min(LONGER * self._took, BOUND))
                self.proven = min(self.proven, self.open + 1)  # with the one that has answered
            self._patience = FIRST
        elif not self.tight:
            self._patience = min(2 * self._patience, LONGEST)

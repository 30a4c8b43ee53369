"""How many connections an origin serves at a time, as far as it has shown.

Some origins take up a connection only when an earlier one has ended: a server with one thread, or a
few worker processes that each stay with their connection.  There our own idle links keep a request
waiting that went out on a new one.  No such origin says so.  It shows in links that have never
answered: they stay silent while others are idle, and answer soon after one of those was closed.

A slow response looks the same for a while, so closing an idle link for a silent one is an
experiment.  It takes a silence that is longer than responses were of late, and the silence doubles
with each experiment, until one of two things is known.  A link that
answers beside the others proves that the origin serves more than it seemed to.  Answers that follow
closes each time, whatever the silence was, prove that it does not.

Times are seconds and arguments; nothing here reads a clock.
"""

#: Silence after which an idle link is closed for a silent one: at first, and at most.
FIRST, LONGEST = 0.25, 4.0
#: The same where the origin has served more connections than are open now: it should be free.
FREE = 2.0
#: The same where closing is known to help.
KNOWN = 0.01
#: The silence must be so many times as long as a response has taken, up to a bound.
LONGER, BOUND = 1.5, 15.0
#: Closes in a row that must help for that, or must not for the contrary.
TIMES = 3


class Width:
    """What one address has shown.

    `open` counts its links that have answered, `proven` is the most that there were at a time, and
    `tight` tells that the origin serves no more than those.
    """

    __slots__ = ("_patience", "_row", "_took", "_within", "open", "proven", "tight")

    def __init__(self) -> None:
        self.open = 0
        self.proven = 0
        self.restarted()

    def restarted(self) -> None:
        """The origin is another process now: what was known of the old one is forgotten."""
        self.proven = self.open
        self.tight = False
        self._patience = FIRST
        self._within = FIRST
        self._row = 0
        self._took = 0.0

    def took(self, seconds: float) -> None:
        """A response on a link that had answered before took so long."""
        self._took = max(seconds, self._took / 2)

    def heard(self) -> None:
        """A link has answered for the first time."""
        self.open += 1
        if self.open > self.proven:
            self.restarted()

    def closed(self) -> None:
        """A link that has answered is no more."""
        self.open -= 1

    @property
    def patience(self) -> float:
        """The silence after which an idle link is to be closed for a silent one."""
        if self.open >= self.proven and self.tight:
            return KNOWN
        least = FREE if self.open < self.proven else 0.0
        return max(least, self._patience, min(LONGER * self._took, BOUND))

    @property
    def within(self) -> float:
        """Seconds in which a silent link answers, if closing another has helped it."""
        return self._within if self.tight else self.patience

    @property
    def at_once(self) -> int:
        """For how many silent links idle ones may be closed before the first has answered."""
        return max(1, self.proven) if self.tight else 1

    def judge(self, *, helped: bool) -> None:
        """An idle link was closed for a silent one, which answered soon after, or did not."""
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

"""Whether an origin's responses wait for our delayed ACK.

A server that writes a response in two small pieces without TCP_NODELAY has its second piece held
back by Nagle's algorithm until we acknowledge the first; and we, who have nothing to send, delay
that ACK by 40 ms.  Django's `runserver`, `http.server` and much of what is built on them do so.

The evidence is the pause between the first piece and the next.  Two pauses as long as a delayed ACK
turn immediate ACKs on.  They stay on only while they help: pauses that are as long with them mean
that the origin itself takes its time, responses without a pause need none, and now and then a
response goes without, to see whether its pause returns.

Seconds are arguments; nothing here reads a clock.
"""

#: A pause in this range, less the round trip, can be that of a delayed ACK (40 to 200 ms on Linux).
LEAST, MOST = 0.03, 0.25
#: Long pauses that turn immediate ACKs on.
ENOUGH = 2
#: Long pauses in a row, with immediate ACKs, after which they are no help.
FUTILE = 4
#: Responses that need no ACK after which none is sent at once any more: so many trials with a short
#: pause, or so many responses in a row without a pause.
UNNEEDED, WHOLE = 16, 64
#: Responses with immediate ACKs until one goes without: at first, and at most.  It doubles each
#: time that one without had to wait.
FIRST_TRIAL, LAST_TRIAL = 32, 1024
#: Long pauses needed before immediate ACKs that were no help are tried again: at most.
MOST_ENOUGH = 1024


class DelayedAck:
    """What is known of one origin.

    `at_once` tells whether to acknowledge what has come of a response before waiting for more.
    `rtt` is the round trip.
    """

    __slots__ = (
        "_enough",
        "_left",
        "_long",
        "_trial",
        "_trying",
        "_unneeded",
        "_whole",
        "at_once",
        "rtt",
    )

    def __init__(self) -> None:
        self.rtt = 0.0
        self._long = self._unneeded = self._whole = 0
        self._trying = False
        self.restarted()

    def restarted(self) -> None:
        """The origin is another process now: what was known of the old one is forgotten."""
        self._enough = ENOUGH
        self._trial = self._left = FIRST_TRIAL
        self._end()

    def take_trial(self) -> bool:
        """Whether the response that pauses now goes without an immediate ACK, to see if it waits.

        One at a time: `paused`, or `gave_up`, ends it.
        """
        if not self.at_once or self._trying or self._left > 0:
            return False
        self._trying = True
        return True

    def gave_up(self) -> None:
        """No second piece came."""
        self._trying = False

    def paused(self, seconds: float, *, acknowledged: bool, recent: bool) -> None:
        """A reused link's response came in pieces, the second so long after the first.

        `acknowledged` tells whether the first had been acknowledged at once.  `recent` tells that
        the link was not idle for long: else the kernel may not have delayed the ACK anyway.
        """
        self._whole = 0
        long = seconds - self.rtt >= LEAST
        if seconds - self.rtt > MOST:  # the origin had nothing to send
            self._trying = self._trying and acknowledged
        elif acknowledged:
            if self.at_once:
                self._went_with(long=long)
        elif not self.at_once:
            self._learn(long=long, recent=recent)
        elif self._trying:
            self._tried(long=long, recent=recent)

    def whole(self) -> None:
        """A response came without a pause.  Worth telling only while `at_once`."""
        self._whole += 1
        if self._whole >= WHOLE:
            self._end()

    def _learn(self, *, long: bool, recent: bool) -> None:
        if long:
            self._long += 1
            if self._long >= self._enough:
                self._begin()
        elif recent:
            self._long = max(0, self._long - 1)

    def _went_with(self, *, long: bool) -> None:
        self._left -= 1
        self._long = self._long + 1 if long else 0
        if self._long >= FUTILE:
            self._enough = min(4 * self._enough, MOST_ENOUGH)
            self._end()

    def _tried(self, *, long: bool, recent: bool) -> None:
        self._trying = False
        if long:
            self._trial = min(2 * self._trial, LAST_TRIAL)
            self._enough = ENOUGH
            self._begin()
        elif recent:
            self._unneeded += 1
            if self._unneeded >= UNNEEDED:
                self._end()

    def _begin(self) -> None:
        self._end()
        self.at_once = True
        self._left = self._trial

    def _end(self) -> None:
        self.at_once = self._trying = False
        self._long = self._unneeded = self._whole = 0

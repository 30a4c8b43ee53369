"""Whether an origin's responses wait for our delayed ACK.

If a server writes a response in two small pieces without TCP_NODELAY, Nagle's algorithm holds the
second piece back until we acknowledge the first; and our kernel, with nothing to send, delays that
ACK by 40 ms.  Django's `runserver`, `http.server` and servers built on it write this way.

The evidence is the pause between the first two pieces.  Two pauses as long as a delayed ACK turn
immediate ACKs on.  They stay on only while they help: if the pauses stay, the origin itself is
slow; responses without a pause need no ACK; and now and then one response goes without, to see
whether the pause returns.

Seconds are arguments; nothing here reads a clock.
"""

#: Range of pauses, less the round trip, that a delayed ACK can cause (40 to 200 ms on Linux).
LEAST, MOST = 0.03, 0.25
#: Long pauses that turn immediate ACKs on.
ENOUGH = 2
#: Long pauses in a row despite immediate ACKs that turn them off.
FUTILE = 4
#: Trials with a short pause, or responses in a row without a pause, that turn immediate ACKs off.
UNNEEDED, WHOLE = 16, 64
#: Immediate ACKs until a response goes without, as a trial: at first, and at most.  Doubles with
#: each trial that had to wait.
FIRST_TRIAL, LAST_TRIAL = 32, 1024
#: Most long pauses needed to turn immediate ACKs on again after they did not help.
MOST_ENOUGH = 1024


class DelayedAck:
    """What is known about one origin.

    `at_once`: whether to send an ACK before waiting for the rest of a response.  `rtt` is the round
    trip time.
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
        """The origin is a new process: forget what is known."""
        self._enough = ENOUGH
        self._trial = self._left = FIRST_TRIAL
        self._end()

    def take_trial(self) -> bool:
        """Whether the current response goes without an immediate ACK, as a trial.

        One at a time: `paused` or `gave_up` ends it.
        """
        if not self.at_once or self._trying or self._left > 0:
            return False
        self._trying = True
        return True

    def gave_up(self) -> None:
        """The trial's second piece did not arrive."""
        self._trying = False

    def paused(self, seconds: float, *, acknowledged: bool, recent: bool) -> None:
        """On a reused link, the second piece of a response came `seconds` after the first.

        `acknowledged`: an ACK was sent at once.  `recent`: the link was idle only briefly; after a
        longer time the kernel may not delay ACKs.
        """
        self._whole = 0
        long = seconds - self.rtt >= LEAST
        if seconds - self.rtt > MOST:  # longer than any ACK is delayed
            self._trying = self._trying and acknowledged
        elif acknowledged:
            if self.at_once:
                self._went_with(long=long)
        elif not self.at_once:
            self._learn(long=long, recent=recent)
        elif self._trying:
            self._tried(long=long, recent=recent)

    def whole(self) -> None:
        """A response came without a pause.  Only needed while `at_once`."""
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

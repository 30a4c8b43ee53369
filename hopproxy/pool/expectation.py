"""Does an origin answer `Expect: 100-continue`?  Learned from its silence.

Many application servers never send a 100: each upload that waits for one would wait for the whole
of `continue_timeout` (RFC 9110 section 10.1.1 lets a client, and so us, wait no longer than it
likes).
"""

#: Seconds after which one upload waits again: an origin that gets the body at once may leave out
#: its 100, so that a change to one that sends it would never show.
BELIEVED_FOR = 600.0


class Expectation:
    """What is known of one address; times are seconds of the process clock."""

    __slots__ = ("_silent_at",)

    def __init__(self) -> None:
        self._silent_at: float | None = None

    def is_silent(self, now: float) -> bool:
        """Whether to wait for a 100 would be in vain."""
        return self._silent_at is not None and now - self._silent_at < BELIEVED_FOR

    def stayed_silent(self, now: float) -> None:
        """Nothing came within `continue_timeout`."""
        self._silent_at = now

    def answered(self, after: float, timeout: float) -> None:
        """A 100 has come, `after` so many seconds: if in time, the next upload waits again.

        One that comes later than `timeout` would never be waited for, so it changes nothing.
        """
        if after < timeout:
            self._silent_at = None

    def restarted(self) -> None:
        """The origin is gone, and comes back as another process."""
        self._silent_at = None

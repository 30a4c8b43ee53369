"""Whether an origin answers `Expect: 100-continue`.

Many application servers never send a 100, and each upload would wait for all of
`continue_timeout`.  RFC 9110 section 10.1.1 allows a client to wait for a shorter time.
"""

#: Seconds until one upload waits again.  An origin that gets the body at once may send no 100, so
#: only a wait can show whether it would send one.
BELIEVED_FOR = 600.0


class Expectation:
    """What is known about one address.  Times are seconds of one clock."""

    __slots__ = ("_silent_at",)

    def __init__(self) -> None:
        self._silent_at: float | None = None

    def is_silent(self, now: float) -> bool:
        """Whether an upload should not wait for a 100."""
        return self._silent_at is not None and now - self._silent_at < BELIEVED_FOR

    def stayed_silent(self, now: float) -> None:
        """Nothing came within `continue_timeout`."""
        self._silent_at = now

    def answered(self, after: float, timeout: float) -> None:
        """A 100 has arrived after `after` seconds; if that is in time, the next upload waits again.

        A 100 later than `timeout` changes nothing: we never wait that long.
        """
        if after < timeout:
            self._silent_at = None

    def restarted(self) -> None:
        """The origin is a new process: forget what is known."""
        self._silent_at = None

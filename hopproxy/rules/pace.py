"""How slowly a request's body may arrive."""

from math import inf

#: Seconds of waiting that a client may begin with.
GRACE = 5.0


class Pace:
    """The waits for one body: `rate` bytes allow another second of waiting; 0: no limit.

    Only waits count, so a client does not pay for an origin that takes its body slowly.
    """

    __slots__ = ("_rate", "patience")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        #: Seconds that may still be waited.
        self.patience = GRACE if rate else inf

    def came(self, size: int) -> None:
        """`size` bytes have arrived."""
        if self._rate:
            self.patience += size / self._rate

    def waited(self, seconds: float) -> None:
        """A wait has ended, with or without bytes."""
        self.patience -= seconds

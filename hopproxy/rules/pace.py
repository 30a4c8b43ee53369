"""How slowly a request's body may arrive."""

from math import inf

#: Seconds that a client may make us wait at first.
GRACE = 5.0


class Pace:
    """The waits for one body: `rate` bytes are worth a second of them, 0: no limit.

    Only waits count, so a client does not pay for an origin that takes its body slowly.
    """

    __slots__ = ("_rate", "patience")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        #: Seconds that may still be waited.
        self.patience = GRACE if rate else inf

    def came(self, size: int) -> None:
        """So many bytes have arrived."""
        if self._rate:
            self.patience += size / self._rate

    def waited(self, seconds: float) -> None:
        """They, or nothing, came after a wait."""
        self.patience -= seconds

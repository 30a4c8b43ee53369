"""A budget for useless frames on one HTTP/2 connection: a leaky bucket.

Some frames are valid and cost us work, but are useless: PING, SETTINGS, empty DATA, streams that
are reset at once (RFC 9113 section 10.5).  Each has a cost.  Time lowers the level, and so does
useful work: a complete response, a DATA frame that was sent.  If the level exceeds the capacity,
the connection ends with ENHANCE_YOUR_CALM.
"""

from hopproxy.wire.h2_frames import Code, H2Error

CAPACITY = 1000
#: By how much the level falls in a second.
PER_SECOND = 100

# What each costs.
FRAME = 1  # PING, PRIORITY, CONTINUATION, GOAWAY, a frame of unknown type, DATA without bytes,
# a WINDOW_UPDATE of less than SMALL_UPDATE bytes, HEADERS or RST_STREAM on a closed stream; also a
# WINDOW_UPDATE beyond those that are free, and DATA on a closed stream beyond its window
SETTINGS_COST = 2  # and 1 for each 8 values in it
RESET_COST = 4  # a stream reset by the peer before its response was sent completely
ERROR = 10  # a stream that we had to reset: the peer broke a rule, or its request was malformed

#: What a message or a DATA frame that we have sent earns, since a peer may answer each with a PING
#: or a small WINDOW_UPDATE.
EARNED_MESSAGE = 3
EARNED_DATA = 2

SMALL_UPDATE = 1024

#: Free WINDOW_UPDATEs for each piece of a frame that we have sent (Envoy: for each DATA frame); and
#: the most at a time, which is also the number at the beginning.  They may arrive late, on streams
#: that have ended.
UPDATES_FREE = 10
MOST_UPDATES_FREE = 2000


class Budget:
    """The budget of one connection; `level` is what was spent."""

    __slots__ = ("_spent_at", "level")

    def __init__(self) -> None:
        self.level = 0.0
        self._spent_at = 0.0

    def spend(self, cost: float, now: float, what: str) -> None:
        """Add the cost of `what`.  Raises H2Error (a connection error) beyond the capacity."""
        self.level = max(0.0, self.level - (now - self._spent_at) * PER_SECOND) + cost
        self._spent_at = now
        if self.level > CAPACITY:
            raise H2Error(Code.ENHANCE_YOUR_CALM, "10.5", f"too many useless frames: {what}")

    def owes(self, now: float) -> bool:
        """Whether the level is above 0."""
        return self.level > (now - self._spent_at) * PER_SECOND

    def earn(self, amount: float) -> None:
        """Useful work was done."""
        self.level = max(0.0, self.level - amount)

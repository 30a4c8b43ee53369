"""What was chosen for a request of an upstream with several origins."""

from hopproxy.pool.origin import Origin
from hopproxy.rules.retry import Again


class Choice:
    """The origin to begin with, and what may become of the request.

    It is `movable` while it may still go to another origin.  `patience` is how long its response
    may take before it does, 0 if it will not.  `again` is what may follow a failed attempt.
    """

    __slots__ = ("again", "movable", "origin", "patience")

    def __init__(self, origin: Origin, *, movable: bool) -> None:
        self.origin = origin
        self.movable = movable
        self.patience = 0.0
        self.again = Again.NOTHING

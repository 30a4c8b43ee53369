"""What was chosen for a request of an upstream with several origins."""

from hopproxy.pool.origin import Origin
from hopproxy.rules.retry import Again


class Choice:
    """The origin to begin with, and what may become of the request.

    `movable` while the request may still go to another origin.  It does so if its response takes
    longer than `patience` seconds (0: never).  `again` is what may follow a failed attempt.
    """

    __slots__ = ("again", "movable", "origin", "patience")

    def __init__(self, origin: Origin, *, movable: bool) -> None:
        self.origin = origin
        self.movable = movable
        self.patience = 0.0
        self.again = Again.NOTHING

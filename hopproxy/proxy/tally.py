"""Counters of the exchanges of one upstream."""

from bisect import bisect_left
from collections import deque
from copy import copy
from typing import Literal

from hopproxy.errors import Overloaded, RateLimited
from hopproxy.record import CLIENT_CAUSES, ExchangeRecord
from hopproxy.routing.concurrency import UnderWay

#: Upper bounds of the duration histogram, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: How many failed and slow requests are kept for each upstream, and the most bytes of a target, a
#: Host or a method that are kept.
KEPT, CLIPPED = 100, 512
#: A request is slow if its response takes this many seconds to begin.
SLOW = 1.0
#: Causes of requests that were refused at once.
_REFUSED = (RateLimited.cause, Overloaded.cause)


class Durations:
    """A histogram over `BUCKETS`, and the sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1

    def absorb(self, other: "Durations") -> None:
        """Add another histogram."""
        self.seconds += other.seconds
        self.buckets = [one + more for one, more in zip(self.buckets, other.buckets, strict=True)]


class Tally:
    """Counters of the exchanges of one upstream.

    `causes` counts failures, `aborts` exchanges that the client ended.  `durations` leaves out
    upgraded exchanges; `queued` and `connecting` leave out those that took an idle link.
    `notable` are the last that failed or were slow; those refused for a limit are only counted.
    """

    __slots__ = (
        "aborts",
        "causes",
        "connecting",
        "durations",
        "notable",
        "queued",
        "received",
        "repeated",
        "sent",
        "statuses",
        "under_way",
        "upgraded",
    )

    def __init__(self) -> None:
        #: The limit on requests under way, None without one.
        self.under_way: UnderWay | None = None
        self.statuses: dict[int, int] = {}
        self.causes: dict[str, int] = {}
        self.aborts: dict[str, int] = {}
        self.repeated = 0
        self.received = 0
        self.sent = 0
        self.durations = Durations()
        self.upgraded = Durations()
        self.queued = Durations()
        self.connecting = Durations()
        self.notable: deque[ExchangeRecord] = deque(maxlen=KEPT)

    def absorb(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        for mine, others in ((self.causes, other.causes), (self.aborts, other.aborts)):
            for cause, count in others.items():
                mine[cause] = mine.get(cause, 0) + count
        self.repeated += other.repeated
        self.received += other.received
        self.sent += other.sent
        self.durations.absorb(other.durations)
        self.upgraded.absorb(other.upgraded)
        self.queued.absorb(other.queued)
        self.connecting.absorb(other.connecting)

    def limit(self, most: int | Literal["auto"]) -> None:
        """Allow so many requests under way; 0: any number."""
        auto = None if most == "auto" else most
        self.under_way = UnderWay(auto, self.under_way) if most else None

    def add(self, record: ExchangeRecord) -> None:
        """Count one exchange that has ended."""
        if self.under_way is not None:
            failed = record.cause or not record.first_byte
            self.under_way.end(record, None if failed else record.first_byte)
        try:
            self.statuses[record.status] += 1
        except KeyError:
            self.statuses[record.status] = 1
        if record.cause or record.first_byte - record.started >= SLOW:
            self._note(record)
        if record.attempts > 1:
            self.repeated += 1
        if record.received:
            self.received += record.received
        self.sent += record.sent
        taken = record.ended - record.started
        durations = self.upgraded if record.status == 101 else self.durations
        durations.seconds += taken  # as `Durations.add`: one call less for each request
        durations.buckets[bisect_left(BUCKETS, taken)] += 1
        if record.has_waited:
            if record.queued:
                self.queued.add(record.queued)
            if record.connecting:
                self.connecting.add(record.connecting)

    def _note(self, record: ExchangeRecord) -> None:
        """Count and keep one that has failed or was slow."""
        if record.cause:
            causes = self.aborts if record.cause in CLIENT_CAUSES else self.causes
            causes[record.cause] = causes.get(record.cause, 0) + 1
            if record.cause in _REFUSED:
                return
        kept = copy(record)
        kept.method, kept.host = record.method[:CLIPPED], record.host[:CLIPPED]
        kept.target = record.target[:CLIPPED]
        self.notable.append(kept)

"""Learning how long an origin keeps idle connections.

Each idle link is a sample.  If the origin closes it at idle age t, the limit is at most t.  If a
reuse succeeds at age t, the limit is at least t.  `Keep-Alive: timeout=` is the origin's own hint.

Idle links end in two ways, which are learned separately:

- *Told*: a FIN or RST arrives while the link is idle, as with most origins.  Requests that can be
  retried may use any open link, for as long as the settings allow; at worst they are sent twice.
  The limit applies only to requests that cannot be retried.  So learning costs no reuse, even if
  several servers behind one address have different limits.
- *Silent*: the next request gets no ACK, or an RST.  Every request on an old link would be lost, so
  the pool closes such links a margin before the limit, as it does for a hint.

One close proves little, since a process may have been restarted.  So a first close is believed for
a minute or so, and for hours if it is seen again at the same age.  A close that contradicts a
successful reuse counts only the second time.  Meanwhile the limit relaxes, so it can be seen again.
Closes at many different ages at once are a restart, not a limit.  Closes directly after a response,
always after the same number of requests, are a limit on requests.

What is learned belongs to an address.  Settings and times (in seconds) are arguments; nothing here
reads a clock.
"""

from enum import Enum
from math import inf

from hopproxy.reasons import Limit, Source

#: The smallest margin in seconds.  Limits below it are not worth pooling for.
LEAST_MARGIN = 1.0
#: Closes within this many seconds after a response say nothing about an idle limit.
SOON = 0.1
#: Up to this idle age a link counts as young if nothing is known about the origin: half of the
#: shortest limit in common use (2 s, gunicorn).
SAFE = 1.0
#: A restart: at least BURST_SIZE closes at different ages within BURST seconds.
BURST, BURST_SIZE = 1.0, 3
#: Closes after the same number of requests that prove a limit on requests.
COUNTED = 3
#: Seconds in which a limit relaxes to its double, if it was seen once, and if more often.
ONCE, AGAIN = 60.0, 3600.0
#: Seconds for which a close that was not believed is remembered.
SUSPECTED = 600.0


class Sign(Enum):
    """How we learned that an idle link has ended."""

    __hash__ = object.__hash__

    TOLD = "told"  # a FIN, or an RST while it was idle
    SILENT = "silent"  # no ACK for what was sent
    RESET = "reset"  # an RST answered a request: lost silently, or closed at that moment


def margin(limit: float, rtt: float) -> float:
    """Seconds before an origin's limit at which we close, since its timer started before ours."""
    return max(LEAST_MARGIN, limit / 10, 2 * rtt)


def usable(limit: float, rtt: float = 0.0) -> float:
    """The idle age up to which a link may be kept, 0 if no time is left."""
    return max(0.0, limit - margin(limit, rtt)) if limit < inf else inf


def alike(age: float, limit: float) -> bool:
    """Whether this limit can explain a close at this age: origins check their timers in steps."""
    return limit <= age <= 1.5 * limit + 0.1


class Endings:
    """The `age` at which links end in one of the two ways; None if none is known.

    `certain` once it was seen more than once.
    """

    __slots__ = ("_at", "_suspect", "_suspect_at", "age", "certain")

    def __init__(self) -> None:
        self.age: float | None = None
        self.certain = False
        self._at = 0.0
        self._suspect = 0.0
        self._suspect_at = float("-inf")

    def add(self, age: float, now: float, proven: float) -> bool:
        """A link ended at this age.  Returns whether this sets or changes the limit."""
        seen = self.age
        apart = now - self._at > BURST  # links that went idle together count once
        if seen is not None and alike(age, seen):
            self.certain = self.certain or apart
            self._at = now
            return False
        if seen is not None and age > seen:
            return not self.certain and self._believe(age, now, certain=False)
        if seen is not None and alike(seen, age):
            return self._believe(age, now, certain=self.certain or apart)
        if self._is_suspected(age, now):
            return self._believe(min(age, self._suspect), now, certain=True)
        if age >= proven or (seen is None and proven <= SAFE):
            return self._believe(age, now, certain=False)
        self._suspect, self._suspect_at = age, now
        return False

    def suspect(self, age: float, now: float) -> bool:
        """As `add`, for an ending that proves nothing unless it is seen again."""
        if self.age is not None or self._is_suspected(age, now):
            return self.add(age, now, age)
        self._suspect, self._suspect_at = age, now
        return False

    def outlived(self, age: float) -> None:
        """A link was alive at this age: doubt a lower limit that was seen only once."""
        seen = self.age
        if seen is not None and not self.certain and age > seen and not alike(age, seen):
            self._doubt(self._at)  # alike ages may differ only by the precision of timers

    def relaxed(self, now: float, rtt: float) -> float:
        """The idle age to respect now, inf if no limit is known."""
        if self.age is None:
            return float("inf")
        time = AGAIN if self.certain else ONCE
        return self._keep(self.age * 2 ** max(0.0, min((now - self._at) / time, 40.0)), rtt)

    def kept(self, rtt: float) -> float:
        """As `relaxed`, without relaxing."""
        return float("inf") if self.age is None else self._keep(self.age, rtt)

    def forget(self, now: float) -> None:
        """The limit has relaxed so far that it no longer matters, until it is seen again."""
        self._doubt(now)
        self.certain = False

    def _is_suspected(self, age: float, now: float) -> bool:
        before = self._suspect
        return alike(max(age, before), min(age, before)) and (
            BURST < now - self._suspect_at <= SUSPECTED
        )

    def _believe(self, age: float, now: float, *, certain: bool) -> bool:
        if self.age is not None and not self.certain and not alike(self.age, age):
            self._doubt(self._at)
        self.age, self.certain, self._at = age, certain, now
        return True

    def _doubt(self, at: float) -> None:
        """Stop believing the limit; the next ending at that age makes it certain."""
        assert self.age is not None
        self._suspect, self._suspect_at = self.age, at
        self.age = None

    def _keep(self, limit: float, rtt: float) -> float:
        """As `usable`, but a limit seen only once does not end pooling."""
        kept = usable(limit, rtt)
        return kept if self.certain else max(kept, limit / 2)


class IdleTimeout:
    """What is known about one address.

    `told` and `silent` are the idle ages at which its links end, `hint` is the shortest limit it
    has announced.  `proven` is the highest age at which a link was seen alive (at least SAFE),
    `rtt` the round trip time.  `longest` is the longest idle time that any upstream's settings
    allow: a limit that has relaxed beyond it is forgotten.
    """

    __slots__ = (
        "_burst",
        "_counts",
        "_deaf_until",
        "_requests",
        "_requests_at",
        "hint",
        "longest",
        "proven",
        "rtt",
        "silent",
        "told",
    )

    def __init__(self, longest: float = 60.0) -> None:
        self.longest = longest
        self.rtt = 0.0
        self._deaf_until = float("-inf")
        self.restarted()

    def restarted(self) -> None:
        """The origin is a new process: forget what is known."""
        self.hint: float | None = None
        self.told = Endings()
        self.silent = Endings()
        self.proven = SAFE
        self._burst: list[tuple[float, float]] = []
        self._counts = (0, 0)
        self._requests: int | None = None
        self._requests_at = 0.0

    # -- what was seen -----------------------------------------------------------------------

    def hinted(self, timeout: float) -> None:
        """The origin announced its limit.  Of several servers, the lowest counts."""
        if self.hint is None or timeout < self.hint:
            self.hint = timeout

    def reused_well(self, age: float) -> None:
        """A link idle for `age` was still alive.  Only needed above `proven`."""
        self.told.outlived(age)
        self.silent.outlived(age)
        self.proven = max(self.proven, age)

    def closed_idle(
        self, age: float, requests: int, now: float, sign: Sign = Sign.TOLD, longest: int = 0
    ) -> None:
        """The origin closed a link that had been idle for `age` and had served `requests`.

        `longest` is the highest number of requests that another idle link has served.
        """
        if now < self._deaf_until:
            return
        if self._is_restart(age, now):
            self.restarted()
            self._deaf_until = now + BURST
        elif age < SOON:
            self.closed_by_count(requests, now, longest)
        else:
            self._closed_by_timer(age, now, sign)

    def closed_by_count(self, requests: int, now: float, longest: int = 0) -> None:
        """The origin closed directly after a response, the last of `requests`, unannounced.

        That is no limit of this address if another link has served more.
        """
        before, times = self._counts
        if requests != before or longest > requests:
            times = 0
        times += longest <= requests
        self._counts = (requests, times)
        # A limit of one would end all reuse, and could then never be disproved.
        if (
            requests > 1
            and times >= COUNTED
            and (self._requests is None or requests <= self._requests)
        ):
            self._requests = requests
            self._requests_at = now

    def passed(self, requests: int) -> None:
        """A link was not closed after this many requests: so the limit is higher."""
        if requests >= self._counts[0]:
            self._counts = (0, 0)

    def _is_restart(self, age: float, now: float) -> bool:
        seen = min(self.told.age or float("inf"), self.silent.age or float("inf"))
        if age >= 0.9 * seen:
            return False
        self._burst = [(at, one) for at, one in self._burst if now - at <= BURST]
        self._burst.append((now, age))
        del self._burst[: -4 * BURST_SIZE]
        ages = [one for _, one in self._burst]
        return len(ages) >= BURST_SIZE and max(ages) - min(ages) > max(0.25, 0.75 * min(ages))

    def _closed_by_timer(self, age: float, now: float, sign: Sign) -> None:
        if sign is Sign.SILENT:
            believed = self.silent.add(age, now, self.proven)
        else:
            believed = self.told.add(age, now, self.proven)
            if sign is Sign.RESET:
                believed |= self.silent.suspect(age, now)
        if believed:
            self.proven = max(SAFE, min(self.proven, age))

    # -- what follows ------------------------------------------------------------------------

    @property
    def blank(self) -> bool:
        """Whether nothing is known: then the settings alone decide, at any time."""
        return (
            self.hint is None
            and self.told.age is None
            and self.silent.age is None
            and self.proven <= SAFE
            and self._requests is None
        )

    def limit(self, now: float, setting: float, *, learns: bool = True) -> Limit:
        """The idle age at which a link is retired, and what sets it; 0: do not pool.

        `setting` is the longest idle time that the upstream's settings allow.  Without `learns`
        only the origin's hint shortens it.
        """
        best = Limit(setting, Source.SETTING)
        if self.hint is not None and usable(self.hint, self.rtt) < best.value:
            best = Limit(usable(self.hint, self.rtt), Source.HINT)
        for endings in (self.told, self.silent):
            if endings.age is not None and endings.relaxed(now, self.rtt) >= self.longest:
                endings.forget(now)
        silent = self.silent.relaxed(now, self.rtt)
        return Limit(silent, Source.LEARNED) if learns and silent < best.value else best

    def young(self, now: float, setting: float, share: float, *, learns: bool = True) -> float:
        """The idle age up to which a link may carry a request that cannot be retried.

        A share of the unrelaxed limit.  If none is known, `proven` less a margin: the highest age
        that succeeded may be just below a limit that was forgotten.
        """
        limit = self.limit(now, setting, learns=learns).value
        if not share:
            return 0.0  # the limit may be infinite
        if not learns:
            return limit * share
        if self.told.age is None and self.silent.age is None:
            if self.hint is None:
                return min(limit * share, max(SAFE, usable(self.proven, self.rtt)))
            return limit * share
        return min(limit, self.told.kept(self.rtt), self.silent.kept(self.rtt)) * share

    def requests(self, now: float) -> int | None:
        """The number of requests after which the origin closes; None if no limit is known."""
        if self._requests is not None and now - self._requests_at > AGAIN:
            self._requests = None
            self._counts = (0, 0)
        return self._requests

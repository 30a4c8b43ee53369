"""How long an origin keeps an idle connection, as far as it has said or shown.

Every idle link is a censored sample.  Closed by the origin at idle age t, the limit is at most t;
reused with success at age t, it is at least t.  `Keep-Alive: timeout=` is the origin's own word.
The pool retires a link a margin before the lowest of these, and never later than the settings say.

One close proves little: a process may have been recycled.  So a first close is believed for a
minute or so, one that is seen again at its age for hours, and one that contradicts what a reuse has
shown not before its second time.  Between, the limit relaxes: links then live until the origin
closes them, which tells it anew.  A burst of closes at all ages is a restart, and no limit at all.
Closes right behind a response, always after the same number of requests, are a limit of requests.

Times are seconds and arguments; nothing here reads a clock.
"""

from hopproxy.record import Limit, Source

#: No margin is smaller, and no limit that it would eat is worth pooling for.
LEAST_MARGIN = 1.0
#: Closes sooner than this after a response say nothing of an idle limit.
SOON = 0.1
#: Up to this idle age a link counts as young towards an origin of which nothing is known: half
#: of the shortest limit in the field (2 s, gunicorn).
SAFE = 1.0
#: Closes of different ages within so many seconds, and at least so many, are a restart.
BURST, BURST_SIZE = 1.0, 3
#: Closes after the same number of requests that make it a limit.
COUNTED = 3
#: Seconds in which a limit relaxes to its double: seen once, and seen again.
ONCE, AGAIN = 60.0, 3600.0
#: Seconds for which a close that was not believed is remembered.
SUSPECTED = 600.0


def margin(limit: float, rtt: float) -> float:
    """Seconds before an origin's limit at which we let go: its clock started before ours."""
    return max(LEAST_MARGIN, limit / 10, 2 * rtt)


def usable(limit: float, rtt: float = 0.0) -> float:
    """The idle age up to which a link may be kept, 0 where that leaves no time."""
    return max(0.0, limit - margin(limit, rtt))


def alike(age: float, limit: float) -> bool:
    """Whether a close at this age may come from this limit: an origin looks only now and then."""
    return limit <= age <= 1.5 * limit + 0.1


class IdleTimeout:
    """What is known of one origin.

    `setting` is the longest idle time the settings allow, `hint` the shortest the origin has
    named, `seen` the idle age at which it was seen to close and `certain` whether more than once.
    `proven` is the oldest age at which a link was seen to live (never below SAFE), `rtt` the round
    trip.
    """

    __slots__ = (
        "_burst",
        "_counts",
        "_deaf_until",
        "_requests",
        "_requests_at",
        "_seen_at",
        "_suspect",
        "_suspect_at",
        "certain",
        "hint",
        "learns",
        "proven",
        "rtt",
        "seen",
        "setting",
    )

    def __init__(self, setting: float, *, learns: bool = True) -> None:
        self.setting = setting
        self.learns = learns
        self.rtt = 0.0
        self._deaf_until = float("-inf")
        self.restarted()

    def restarted(self) -> None:
        """The origin is another process now: what was known of the old one is forgotten."""
        self.hint: float | None = None
        self.seen: float | None = None
        self.certain = False
        self.proven = SAFE
        self._seen_at = 0.0
        self._suspect = 0.0
        self._suspect_at = float("-inf")
        self._burst: list[tuple[float, float]] = []
        self._counts = (0, 0)
        self._requests: int | None = None
        self._requests_at = 0.0

    # -- what was seen -----------------------------------------------------------------------

    def hinted(self, timeout: float) -> None:
        """The origin named its limit; of several behind one address the shortest counts."""
        if self.hint is None or timeout < self.hint:
            self.hint = timeout

    def reused_well(self, age: float) -> None:
        """A link idle for `age` was answered on: worth telling only past `proven`."""
        if not self.learns:
            return
        seen = self.seen
        if seen is not None and not self.certain and age > seen and not alike(age, seen):
            self.seen = None  # alike: an origin's clock and ours differ by a little each time
        self.proven = max(self.proven, age)

    def outlived(self, age: float) -> None:
        """We closed a link idle for `age`: the origin had not."""
        self.reused_well(age)

    def closed_idle(self, age: float, requests: int, now: float) -> None:
        """The origin closed a link that had been idle for `age` and had served `requests`."""
        if not self.learns or now < self._deaf_until:
            return
        if self._is_restart(age, now):
            self.restarted()
            self._deaf_until = now + BURST
        elif age < SOON:
            self.closed_by_count(requests, now)
        else:
            self._closed_by_timer(age, now)

    def closed_by_count(self, requests: int, now: float) -> None:
        """The origin closed right behind a response, the last of so many, and had not said so."""
        before, times = self._counts
        times = times + 1 if requests == before else 1
        self._counts = (requests, times)
        # A count of one would end all reuse, and with it every chance to see that it was chance.
        if (
            requests > 1
            and times >= COUNTED
            and (self._requests is None or requests <= self._requests)
        ):
            self._requests = requests
            self._requests_at = now

    def _is_restart(self, age: float, now: float) -> bool:
        if self.seen is not None and age >= 0.9 * self.seen:
            return False
        self._burst = [(at, one) for at, one in self._burst if now - at <= BURST]
        self._burst.append((now, age))
        del self._burst[: -4 * BURST_SIZE]
        ages = [one for _, one in self._burst]
        return len(ages) >= BURST_SIZE and max(ages) - min(ages) > max(0.25, 0.75 * min(ages))

    def _closed_by_timer(self, age: float, now: float) -> None:
        seen = self.seen
        if seen is not None and alike(age, seen):
            # Links that went idle together end together, which is one sign and not two.
            self.certain = self.certain or now - self._seen_at > BURST
            self._seen_at = now
        elif seen is not None and age > seen:
            if not self.certain:  # it lived past what was seen once: that was no limit
                self._believe(age, now)
        elif seen is not None and alike(seen, age):
            self._believe(age, now, certain=self.certain or now - self._seen_at > BURST)
        elif age >= self.proven or (seen is None and self.proven <= SAFE):
            self._believe(age, now)
        elif alike(max(age, self._suspect), min(age, self._suspect)) and (
            BURST < now - self._suspect_at <= SUSPECTED
        ):
            self._believe(min(age, self._suspect), now, certain=True)
        else:
            self._suspect, self._suspect_at = age, now

    def _believe(self, age: float, now: float, *, certain: bool = False) -> None:
        self.seen, self.certain, self._seen_at = age, certain, now
        self.proven = max(SAFE, min(self.proven, age))

    # -- what follows ------------------------------------------------------------------------

    def limit(self, now: float) -> Limit:
        """The idle age at which a link is retired, and what sets it; 0: it is not pooled."""
        best = Limit(self.setting, Source.SETTING)
        if self.hint is not None and usable(self.hint, self.rtt) < best.value:
            best = Limit(usable(self.hint, self.rtt), Source.HINT)
        if self.seen is not None:
            time = AGAIN if self.certain else ONCE
            relaxed = self.seen * 2 ** max(0.0, min((now - self._seen_at) / time, 40.0))
            if self._keep(relaxed) >= self.setting:
                self.seen = None  # relaxed so far that it says nothing any more
            elif self._keep(relaxed) < best.value:
                best = Limit(self._keep(relaxed), Source.LEARNED)
        return best

    def young(self, now: float, share: float) -> float:
        """The idle age up to which a link may carry a request that cannot be sent again.

        A share of the limit, unrelaxed; where none is known, a margin less than was proven: the
        oldest age that went well may have been just below a limit that was forgotten.
        """
        limit = self.limit(now).value
        if self.seen is not None:
            limit = min(limit, self._keep(self.seen))
        elif self.hint is None and self.learns:
            return min(limit * share, max(SAFE, usable(self.proven, self.rtt)))
        return limit * share

    def requests(self, now: float) -> int | None:
        """After how many requests the origin closes unasked; None if it was not seen to."""
        if self._requests is not None and now - self._requests_at > AGAIN:
            self._requests = None
            self._counts = (0, 0)
        return self._requests

    def _keep(self, limit: float) -> float:
        """As `usable`; a single close, which may mean nothing, does not end pooling."""
        kept = usable(limit, self.rtt)
        return kept if self.certain else max(kept, limit / 2)

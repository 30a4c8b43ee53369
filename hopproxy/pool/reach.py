"""Whether an origin gets requests, judged by its dials and its requests.

*Down*: its last dial has failed.  It stays down until a dial succeeds.  A trial dial follows after
2 to 30 seconds, longer each time; or every second while no other origin of the upstream can be
reached.

*Out*: requests have failed on it, although it may accept connections.  After some seconds one
request at a time tries it, and a response ends it.  The same holds for an origin that is *silent*:
it has left a request without a response for longer than usual.

The balancer, the readiness probe, the metrics and the log all use this.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

#: Seconds without an answer to a dial before requests go elsewhere.
PATIENCE = 0.5
#: Seconds until a trial: the first, the longest, and while no other origin can be reached.
FIRST, LONGEST, ALONE = 2.0, 30.0, 1.0
#: Random share added to them, so that many proxies do not try at the same time.
SPREAD = 0.25
#: Seconds for which an origin is out, times how often it was out in a row, up to `LONGEST`.
OUT_FOR = 5.0
#: The least share of its requests that an origin gets at the beginning of its slow start.
LEAST_SHARE = 0.1

NEVER = -math.inf
#: Above every status.
NO_STATUS = 1000


class Out(NamedTuple):
    """An origin goes out: for how many seconds, and why."""

    seconds: float
    why: str


class Reach:
    """What is known about one origin.  Times are seconds of one clock.

    `reached` if the last dial that ended succeeded; otherwise `failed_at` is when it failed.  Both
    are unset before the first dial has ended.  `number` is the number of the last dial that began.
    From `away_from` on requests go elsewhere if they can: a dial has failed, or has not been
    answered for too long.  `sought` if trials are wanted; a failure turns them on.  `chance`
    returns a random number from 0 to 1.

    `passed_until` is when the next request may try an origin that is out or silent; -inf for all
    others.  `outs` counts how often in a row it went out, the first time at `out_since`; `why`
    says why.  `most` is the number of failures in a row after which it is out, 0 if it never is;
    `failures` counts them.
    `back_at` is when it came back.  `clear` if nothing keeps requests away, and `calm` if a good
    response changes nothing.  A response is judged if its status is at least `judges_from`.
    `checked_down` if active checks say that it is down, `times_out` how often it was out.
    """

    __slots__ = (
        "_again", "_began", "_chance", "_dials", "_fails_from", "_kinds", "_pause", "away_from",
        "back_at", "calm", "checked_down", "clear", "failed_at", "failures", "judges_from", "most",
        "number", "out_at", "out_since", "outs", "passed_until", "reached", "slow_start", "sought",
        "times_out", "why",
    )  # fmt: skip

    def __init__(
        self,
        chance: Callable[[], float],
        *,
        most: int = 0,
        slow_start: float = 0.0,
        fails_from: int = NO_STATUS,
    ) -> None:
        self.reached = False
        self.failed_at: float | None = None
        self.away_from = math.inf
        self.sought = False
        self.number = 0
        self._chance = chance
        self._dials: dict[int, float] = {}  # under way, and begun since one succeeded
        self._pause = FIRST
        self._began = self._again = NEVER
        self.most = most
        self.failures = 0
        self._kinds: dict[str, int] = {}
        self.outs = 0
        self.times_out = 0
        self.out_at = self.out_since = self.passed_until = NEVER
        self.why = ""
        self.checked_down = False
        self.slow_start = slow_start
        self.back_at = NEVER
        self.clear = self.calm = True
        self._fails_from = self.judges_from = fails_from

    # -- dials -------------------------------------------------------------------------------

    def begin(self, now: float) -> int:
        """A dial begins.  Returns its number, for `failed` and `untold`."""
        self.number += 1
        self._dials[self.number] = self._began = now
        if len(self._dials) == 1:  # otherwise the first one still decides
            self._refresh()
        return self.number

    def succeeded(self, now: float) -> None:
        """A dial has succeeded.  Dials that began before it no longer count."""
        self.reached = True
        if self.failed_at is not None:
            self.failed_at = None
            self._come_back(now)
        self._pause = FIRST
        self._dials.clear()
        self._refresh()

    def failed(self, number: int, now: float) -> bool:
        """A dial has failed.  Returns whether the origin goes down by it."""
        if self._dials.pop(number, None) is None:
            return False
        is_news = self.failed_at is None
        self.reached = False
        self.sought = True
        if is_news or now >= self._again:
            self._again = now + self._pause * (1 + SPREAD * self._chance())
            self._pause = min(self._pause * 2, LONGEST / (1 + SPREAD))
        self.failed_at = now
        self._forget_failures()  # another process will replace it
        self._refresh()
        return is_news

    def untold(self, number: int, now: float) -> None:
        """A dial has ended, or could not begin (0), but says nothing about the origin."""
        self._dials.pop(number, None)
        self._began = now
        if self._again <= now:
            self._again = now + ALONE
        self._refresh()

    def trial_at(self, alone: bool) -> float:
        """When to make a trial dial; inf if none is needed.

        `alone` if no other origin of the upstream can be reached either.
        """
        if self.reached or self._dials or not self.sought:
            return math.inf
        return self._began + ALONE if alone else self._again

    # -- requests ----------------------------------------------------------------------------

    def request_failed(self, kind: str, now: float, *, may_go: bool) -> Out | None:
        """A request has failed; `kind` says how.  Returns how long the origin is out, if it is.

        `may_go` unless it is the last origin.  If it was out, one failure is enough to go out
        again.
        """
        self.failures += 1
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self.calm = False
        self.judges_from = 0
        was_out = self.passed_until > NEVER and self.outs > 0
        if was_out and now < self.out_at + self.out_for:
            return None  # it was sent before
        if not self.most or not may_go or (self.failures < self.most and not was_out):
            self.passed_until = min(self.passed_until, now)  # the next request may try it
            return None
        self.why = ", ".join(_counted(kind, count) for kind, count in self._kinds.items())
        self.out_since = self.out_since if self.outs else now
        self.outs += 1
        self.times_out += 1
        self.failures = 0
        self._kinds.clear()
        self.out_at = now
        self.passed_until = now + self.out_for
        self._refresh()
        return Out(self.out_for, self.why)

    @property
    def out_for(self) -> float:
        """Seconds from going out to the next trial."""
        return min(OUT_FOR * self.outs, LONGEST)

    @property
    def is_out(self) -> bool:
        """Whether it is out: since its requests failed, or by its checks."""
        return self.outs > 0 or self.checked_down

    def silent(self, now: float) -> None:
        """A request has waited for too long: from now on one request at a time tries the origin."""
        if self.passed_until == NEVER:
            self.passed_until = now
            self._refresh()

    def asked(self, until: float) -> None:
        """A request tries the origin; others avoid it until the result is known, or `until`."""
        self.passed_until = until

    def answered(self, now: float) -> bool:
        """A good response has arrived.  Returns whether the origin was out until now."""
        was_out = self.outs > 0
        self._forget_failures()
        if was_out:
            self._come_back(now)
        self._refresh()
        return was_out

    def _forget_failures(self) -> None:
        self.failures = self.outs = 0
        self._kinds.clear()
        self.passed_until = NEVER

    def check_failed(self) -> None:
        """The active checks say that it is down."""
        self.checked_down = True
        self._refresh()

    def check_passed(self, now: float) -> None:
        """The active checks say that it is up again."""
        self.checked_down = False
        self._come_back(now)
        self._refresh()

    # -- for the balancer --------------------------------------------------------------------

    def takes(self, now: float) -> bool:
        """Whether requests may go to it."""
        if self.passed_until > NEVER or self.checked_down or now >= self.away_from:
            return False
        if self.back_at > NEVER and now >= self.back_at + self.slow_start:
            self.back_at = NEVER
        if self.back_at == NEVER:
            self._refresh()
        return True

    def is_due(self, now: float) -> bool:
        """Whether a request may try it: it is out or silent, and its time has come."""
        if self.checked_down or now >= self.away_from:
            return False
        return NEVER < self.passed_until <= now

    def is_reachable(self, now: float) -> bool:
        """Whether it is not down, whatever became of its requests."""
        return now < self.away_from

    def share(self, now: float) -> float:
        """The part of its usual share that it gets: less during its slow start."""
        if self.back_at == NEVER:
            return 1.0
        return min(1.0, max(LEAST_SHARE, (now - self.back_at) / self.slow_start))

    def _come_back(self, now: float) -> None:
        if self.slow_start:
            self.back_at = now

    def joined(self, now: float) -> None:
        """It was added to origins that already serve: it starts slowly."""
        self._come_back(now)
        self._refresh()

    def _refresh(self) -> None:
        if self.failed_at is not None:
            self.away_from = NEVER
        elif self._dials:
            self.away_from = next(iter(self._dials.values())) + PATIENCE
        else:
            self.away_from = math.inf
        passed = self.passed_until > NEVER
        self.calm = not (passed or self.failures)
        self.judges_from = self._fails_from if self.calm else 0
        self.clear = (
            self.away_from == math.inf
            and not passed
            and not self.checked_down
            and self.back_at == NEVER
        )


def _counted(kind: str, count: int) -> str:
    """`1 timeout`, `3 timeouts`, `2 times status 503`."""
    if kind.startswith("status"):
        return f"{count} times {kind}" if count > 1 else kind
    return f"{count} {kind}s" if count > 1 else f"1 {kind}"

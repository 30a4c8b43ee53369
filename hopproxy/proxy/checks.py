"""Active checks: a GET to each origin now and then, on a connection of its own.

A status below 400 passes.  `fall` failures in a row keep requests away from the origin, `rise`
passes in a row bring it back.
"""

from __future__ import annotations

import logging
import math

from hopproxy.errors import HopError, LinkError
from hopproxy.link.faults import report
from hopproxy.link.stepper import Stepper
from hopproxy.link.watch import Watch
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.record import CloseReason
from hopproxy.rules.hop import Underscores
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.upstream import Check
from hopproxy.wire import http1

log = logging.getLogger("hopproxy")

_METHOD = b"GET"
_LIMITS = ClientSettings()


class Checks:
    """The checks of one upstream's origins."""

    def __init__(self, pool: Pool, watch: Watch, settings: Check) -> None:
        self.timer_at = math.inf
        self._pool = pool
        self._watch = watch
        self._settings = settings
        self._checks: dict[Origin, _Checked] = {}

    def add(self, origin: Origin) -> None:
        """Check an origin, from now on."""
        self._checks[origin] = _Checked(self._pool, origin, self._settings, self._watch)
        self._watch.wake_at(self, self._watch.now())

    def remove(self, origin: Origin) -> None:
        """Check an origin no more."""
        self._checks.pop(origin).close()

    def stop(self) -> None:
        """Check nothing any more."""
        for origin in list(self._checks):
            self.remove(origin)
        self._watch.forget_deadline(self)

    def on_time(self, now: float) -> float:
        """Begin the checks that are due."""
        for check in list(self._checks.values()):
            if now >= check.due and not check.running:
                check.due = now + self._settings.interval
                check.ask()
        return min((max(check.due, now + 0.1) for check in self._checks.values()), default=math.inf)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: go on later."""
        report(error, "a check of an origin")
        self._watch.wake_at(self, self._watch.now() + self._settings.interval)


class _Checked(Stepper):
    """The checks of one origin, one after another."""

    def __init__(self, pool: Pool, origin: Origin, settings: Check, watch: Watch) -> None:
        super().__init__()
        self.due = -math.inf
        self._pool = pool
        self._origin = origin
        self._settings = settings
        self._now = watch.now
        self._row = 0  # passes in a row, or failures if negative
        raw = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: hopproxy\r\nConnection: close"
        self._raw = raw % (settings.path.encode(), origin.authority)

    def ask(self) -> None:
        """Begin a check."""
        self.begin(self._ask())

    async def _ask(self) -> int:
        """The status of the response.  Raises HopError."""
        pool, origin = self._pool, self._origin
        lent = await pool.acquire_fresh(origin, None)
        try:
            head = http1.read_request(self._raw, _LIMITS)
            lent.write_request(head, (b"", b"", Underscores.KEEP, b""), b"")
            await lent.flush()
            lent.expect_head(self._now() + self._settings.timeout)
            answer = await lent.read_head(_METHOD)
            while answer.status < 200:
                answer = await lent.read_head(_METHOD)
            return answer.status
        finally:
            before = origin.last_end
            pool.give_up(origin, lent, CloseReason.CHECKED)
            origin.last_end = before  # it says nothing about the links of requests

    def on_end(self, result: object) -> None:
        assert isinstance(result, int)
        self._judge("" if result < 400 else f"status {result}")

    def on_fault(self, error: Exception) -> None:
        if not isinstance(error, HopError):
            report(error, f"a check of {self._origin.label}")
        elif isinstance(error, LinkError) or error.at is not None:
            self._judge(error.detail)

    def _judge(self, failure: str) -> None:
        """A check has ended; `failure` is empty if it has passed."""
        reach, now = self._origin.reach, self._now()
        if not failure:
            self._row = max(self._row, 0) + 1
            if self._row >= self._settings.rise and reach.checked_down:
                reach.check_passed(now)
                log.info("origin %s is up: %d checks passed", self._origin.label, self._row)
            return
        self._row = min(self._row, 0) - 1
        if -self._row >= self._settings.fall and not reach.checked_down:
            reach.check_failed()
            log.warning(
                "origin %s is out: %d checks failed, the last by: %s",
                self._origin.label, -self._row, failure,
            )  # fmt: skip

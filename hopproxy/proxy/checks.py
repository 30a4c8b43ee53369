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
from hopproxy.pool import announced
from hopproxy.pool.checked import Checked, State, Turns
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.shared import Lent
from hopproxy.reasons import CloseReason
from hopproxy.rules.hop import Underscores
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire import http1

log = logging.getLogger("hopproxy")

_METHOD = b"GET"
_LIMITS = ClientSettings()


class Checks:
    """The checks of one upstream's origins.  With several workers one of them makes each check."""

    def __init__(
        self, pool: Pool, watch: Watch, settings: UpstreamSettings, name: str, turns: Turns
    ) -> None:
        assert settings.health.check is not None
        self.timer_at = math.inf
        self.settings = settings.health.check
        self.patience = settings.connect_timeout + self.settings.timeout
        self.pool = pool
        self.watch = watch
        self.turns = turns
        self._name = name
        self._checks: dict[Origin, _Check] = {}

    def add(self, origin: Origin) -> None:
        """Check an origin, from now on."""
        self._checks[origin] = _Check(self, origin)
        self.watch.wake_at(self, self.watch.now())

    def remove(self, origin: Origin) -> None:
        """Stop checking an origin."""
        self._checks.pop(origin).close()

    def stop(self) -> None:
        """Stop all checks."""
        for origin in list(self._checks):
            self.remove(origin)
        self.watch.forget_deadline(self)

    def on_time(self, now: float) -> float:
        """Begin the checks that are due."""
        for check in list(self._checks.values()):
            if check.checked.takes_turn(now):
                check.ask()
        due = (check.checked.due for check in self._checks.values())
        return min((max(at, now + 0.1) for at in due), default=math.inf)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: go on later."""
        report(error, "a check of an origin")
        self.watch.wake_at(self, self.watch.now() + self.settings.interval)

    def tell(self, origin: Origin, state: State) -> None:
        """Tell the other workers what is known about an origin."""
        if self.turns.tell is not None:
            self.turns.tell((self._name, origin.label), tuple(state))

    def hear(self, label: str, state: State) -> None:
        """Another worker has checked the origin with this label, or has begun to."""
        for origin, check in self._checks.items():
            if origin.label == label:
                if check.checked.heard(state):
                    check.apply()
                self.watch.wake_at(self, check.checked.due)


class _Check(Stepper):
    """The checks of one origin, one after another."""

    def __init__(self, checks: Checks, origin: Origin) -> None:
        super().__init__()
        self._checks = checks
        self._origin = origin
        self._settings = settings = checks.settings
        self._now = checks.watch.now
        self.checked = Checked(
            checks.turns, self._now(), interval=settings.interval, patience=checks.patience,
            fall=settings.fall, rise=settings.rise,
        )  # fmt: skip
        raw = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: hopproxy\r\nConnection: close"
        self._raw = raw % (settings.path.encode(), origin.authority)

    def ask(self) -> None:
        """Begin a check."""
        self._checks.tell(self._origin, self.checked.state)
        self.begin(self._ask())

    async def _ask(self) -> int:
        """The status of the response.  Raises HopError."""
        pool, origin = self._checks.pool, self._origin
        lent: Lent
        if origin.settings.proxy_protocol != "off":
            lent = await announced.acquire(pool, origin, None, fresh=True)
        else:
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
        self._ended(result < 400, f"status {result}")

    def on_fault(self, error: Exception) -> None:
        if not isinstance(error, HopError):
            report(error, f"a check of {self._origin.label}")
            self._ended(None, "")
        else:
            said = isinstance(error, LinkError) or error.at is not None
            self._ended(False if said else None, error.detail)

    def _ended(self, passed: bool | None, failure: str) -> None:
        """A check has ended; `passed` is None if it says nothing about the origin."""
        label = self._origin.label
        if self.checked.ended(self._now(), passed=passed):
            self.apply()
            row = abs(self.checked.state.row)
            if passed:
                log.info("origin %s is up: %d checks passed", label, row)
            else:
                log.warning(
                    "origin %s is out: %d checks failed, the last by: %s", label, row, failure
                )
        self._checks.tell(self._origin, self.checked.state)

    def apply(self) -> None:
        """Apply the result: requests are kept away from now on, or come again."""
        if self.checked.state.down:
            self._origin.reach.check_failed()
        else:
            self._origin.reach.check_passed(self._now())

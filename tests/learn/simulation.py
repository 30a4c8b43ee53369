"""Origins that end idle links by rules of their own, against a pool that goes by the learner.

Time is a number.  The pool keeps links newest first, retires each at the limit in force, and asks
at random intervals; an origin's rule says at what idle age (and count) it ends each link.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hopproxy.pool.idle_timeout import IdleTimeout, Sign

#: The idle age at which the origin will close a link that has served so many requests.
Rule = Callable[[random.Random, int], float]
SHARE = 0.5
SETTING = 60.0
#: Between the origin's close and our knowing of it.
BLIND = 0.002


class Link:
    """An open link: idle since when, and when the origin will end it."""

    def __init__(self) -> None:
        self.served = 0
        self.since = 0.0
        self.closes_at = 0.0


class Simulation:
    """One pool before one origin, whose links end `silent` or with a FIN.

    `lost` counts requests that met a dying link and may not be sent again, `repeated` those that
    may; `reused` and `dials` count GETs alone.
    """

    def __init__(
        self, rule: Rule, *, seed: int = 1, silent: bool = False, learns: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.rule = rule
        self.silent = silent
        self.learns = learns
        self.learner = IdleTimeout(SETTING)
        self.now = 0.0
        self.idle: list[Link] = []
        self.lost = self.repeated = self.dials = self.reused = 0

    @property
    def limit(self) -> float:
        """The idle age at which a link is retired now."""
        return self.learner.limit(self.now, SETTING, learns=self.learns).value

    @property
    def young(self) -> float:
        """The idle age up to which a link may carry a POST now."""
        return self.learner.young(self.now, SETTING, SHARE, learns=self.learns)

    def wait(self, seconds: float) -> None:
        """Let time pass: links are retired by us or closed by the origin, whichever is first."""
        end = self.now + seconds
        while self.idle:
            link = min(self.idle, key=self._end_of)
            at = self._end_of(link)
            if at > end:
                break
            self.now = max(self.now, at)
            self.idle.remove(link)
            if not self.silent and link.closes_at + BLIND <= at:
                self._ended(link, link.closes_at - link.since, Sign.TOLD)
            else:
                self.learner.passed(link.served - 1)
        self.now = end

    def _end_of(self, link: Link) -> float:
        retired = link.since + max(self.limit, 1e-6)
        return retired if self.silent else min(link.closes_at + BLIND, retired)

    def _ended(self, link: Link, age: float, sign: Sign) -> None:
        most = max((other.served for other in self.idle), default=0)
        self.learner.closed_idle(age, link.served, self.now, sign, most)

    def ask(self, *, post: bool = False) -> None:
        """One request: on the youngest idle link if the rules let it."""
        self._give_back(self._lend(post=post))

    def ask_together(self, count: int) -> None:
        """So many GETs at the same moment."""
        for link in [self._lend(post=False) for _ in range(count)]:
            self._give_back(link)

    def _lend(self, *, post: bool) -> Link:
        link = self._choose(post=post)
        if link is not None:
            age = self.now - link.since
            if link.closes_at > self.now:
                self.reused += not post
                if age > self.learner.proven:
                    self.learner.reused_well(age)
                return link
            # Its FIN is on the way, or will never come.
            self._ended(link, age, Sign.SILENT if self.silent else Sign.TOLD)
            self.lost += post
            self.repeated += not post
        self.dials += not post
        return Link()

    def _give_back(self, link: Link) -> None:
        link.served += 1
        link.since = self.now
        link.closes_at = self.now + self.rule(self.random, link.served)
        requests = self.learner.requests(self.now)
        if self.limit > 0 and (requests is None or link.served < requests):
            self.idle.append(link)

    def _choose(self, *, post: bool) -> Link | None:
        if not self.idle:
            return None
        youngest = max(self.idle, key=lambda link: link.since)
        age = self.now - youngest.since
        if post and age > self.young:
            replaced = min(self.idle, key=lambda link: link.since)
            self.idle.remove(replaced)
            self.learner.passed(replaced.served - 1)
            return None
        self.idle.remove(youngest)
        return youngest

    def restart(self) -> None:
        """Every link ends at once."""
        gone, self.idle = self.idle, []
        for link in gone:
            self._ended(link, self.now - link.since, Sign.TOLD)

    def live(self, seconds: float, gap: float, *, posts: float = 0.5) -> None:
        """Requests at random gaps up to `gap`, this part of them POST."""
        end = self.now + seconds
        while self.now < end:
            self.wait(self.random.uniform(0.0, gap))
            self.ask(post=self.random.random() < posts)

    def race(self, times: int, at: float, within: float = 0.05) -> None:
        """Requests spaced at the origin's own limit, give or take; half of them POST."""
        for number in range(times):
            self.wait(at + self.random.uniform(-within, within))
            self.ask(post=number % 2 == 0)

    def forget_counts(self) -> None:
        """Count from now on: what came before was learning."""
        self.lost = self.repeated = self.dials = self.reused = 0

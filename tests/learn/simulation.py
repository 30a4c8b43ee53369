"""Origins that close idle links by rules of their own, against a pool that goes by the learner.

Time is a number.  The pool keeps links newest first, retires each at the limit in force, and asks
at random intervals; an origin's rule says at what idle age (and count) it closes each link.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hopproxy.pool.idle_timeout import IdleTimeout

#: The idle age at which the origin will close a link that has served so many requests.
Rule = Callable[[random.Random, int], float]
SHARE = 0.5
#: Between the origin's close and our knowing of it.
BLIND = 0.002


class Link:
    """An open link: idle since when, and when the origin will close it."""

    def __init__(self) -> None:
        self.served = 0
        self.since = 0.0
        self.closes_at = 0.0


class Simulation:
    """One pool before one origin.  `lost` counts requests that met a dying link."""

    def __init__(self, rule: Rule, *, seed: int = 1, setting: float = 60.0) -> None:
        self.random = random.Random(seed)
        self.rule = rule
        self.learner = IdleTimeout(setting)
        self.now = 0.0
        self.idle: list[Link] = []
        self.lost_posts = self.lost_gets = self.dials = self.reused = 0

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
            if link.closes_at + BLIND <= at:
                age = link.closes_at - link.since
                self.learner.closed_idle(age, link.served, self.now)
        self.now = end

    def _end_of(self, link: Link) -> float:
        return min(
            link.closes_at + BLIND, link.since + max(self.learner.limit(self.now).value, 1e-6)
        )

    def ask(self, *, post: bool = False) -> None:
        """One request: on the youngest idle link if the rules let it."""
        link = self._choose(post=post)
        if link is None:
            link = Link()
            self.dials += 1
        else:
            age = self.now - link.since
            if link.closes_at <= self.now:  # its FIN is on the way
                self.learner.closed_idle(age, link.served, self.now)
                self.lost_posts += post
                self.lost_gets += not post
                link = Link()
                self.dials += 1
            else:
                self.reused += 1
                if age > self.learner.proven:
                    self.learner.reused_well(age)
        link.served += 1
        link.since = self.now
        link.closes_at = self.now + self.rule(self.random, link.served)
        requests = self.learner.requests(self.now)
        if self.learner.limit(self.now).value > 0 and (requests is None or link.served < requests):
            self.idle.append(link)

    def _choose(self, *, post: bool) -> Link | None:
        if not self.idle:
            return None
        youngest = max(self.idle, key=lambda link: link.since)
        age = self.now - youngest.since
        if post and age > self.learner.young(self.now, SHARE):
            return None
        self.idle.remove(youngest)
        return youngest

    def restart(self) -> None:
        """Every link ends at once."""
        gone, self.idle = self.idle, []
        for link in gone:
            self.learner.closed_idle(self.now - link.since, link.served, self.now)

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

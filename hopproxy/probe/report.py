"""The findings about an origin, as a table and as settings."""

import math

from hopproxy.pool.idle_timeout import alike, usable
from hopproxy.probe.habits import First, loses_compression
from hopproxy.probe.idle import IdleLimit
from hopproxy.probe.width import MOST_AT_ONCE
from hopproxy.settings.amounts import format_duration
from hopproxy.settings.lint import SERVERS
from hopproxy.settings.units import OriginAddress


class Findings:
    """What the probe has measured; habits are (name, finding)."""

    def __init__(self, address: OriginAddress, most: float, first: First, idle: IdleLimit) -> None:
        self.address = address
        self.most = most
        self.first = first
        self.idle = idle
        self.distrust = ""  # why its certificate is not trusted
        self.requests: int | None = None
        self.at_once: int | None = None
        self.multiplexed = False  # it was measured in HTTP/2 only
        self.habits: list[tuple[str, str]] = []

    def table(self) -> str:
        """One line for each finding."""
        first = self.first
        kind = f" (known as {first.server})" if first.server else ""
        rows = [
            ("origin", str(self.address)),
            ("server", (first.named or "does not say") + kind),
            ("idle limit", self._idle()),
        ]
        if not self.multiplexed:
            rows += [("Keep-Alive", first.hint or "no hint"), ("at a time", self._at_once())]
        rows += self.habits
        width = max(len(name) for name, _ in rows)
        return "".join(f"{name:<{width}}  {seen}\n" for name, seen in rows)

    def _at_once(self) -> str:
        if not self.first.keeps:
            return "any number: it closes them"
        if self.at_once is None:
            return "unknown: it answers too slowly"
        if self.at_once == MOST_AT_ONCE:
            return f"at least {MOST_AT_ONCE} connections"
        return f"{_connections(self.at_once)}: others wait until one ends"

    def _idle(self) -> str:
        idle = self.idle
        if not self.first.keeps:
            return "closes after each response"
        if idle.seconds is None or idle.latest is None:
            return f"more than {self.most:g} s"
        if idle.how == "silent":
            return f"{idle.seconds:.1f} s: no longer answers, but does not close"
        spread = f" to {idle.latest:.1f} s" if idle.latest - idle.seconds > 0.2 else ""
        return f"{idle.seconds:.1f} s{spread}, then {idle.how}"

    def settings(self) -> str:
        """A settings file that suits this origin."""
        pool: list[str] = []
        if not self.first.keeps:
            pool.append("max_idle: 0            # it closes after each response")
        elif self.idle.seconds is not None:
            pool += self._pool(self._shortest(self.idle.seconds))
        if self.at_once is not None and self.at_once < MOST_AT_ONCE:
            pool.append(f"max_connections: {self.at_once}      # it serves no more at a time")
        if self.requests is not None and self.first.keeps:
            pool.append(f"max_requests: {self.requests}")
        lines = ["upstreams:", "  app:", f'    origins: ["{self.address}"]']
        if self._is_as_delivered():
            lines.append(f"    server: {self.first.server}")
        if self.distrust:
            lines += ["    # Its certificate is not trusted: write its authority as tls.ca."]
        if pool:
            lines += ["    pool:", *("      " + line for line in pool)]
        if loses_compression(dict(self.habits).get("gzip", ""), self.first.server):
            lines.append("via: response               # with Via in requests it does not compress")
        return "\n".join(lines) + "\n"

    def _is_as_delivered(self) -> bool:
        """Whether the server is known and has its default idle limit."""
        if self.first.server is None:
            return False
        known = SERVERS[self.first.server]
        return (
            known > self.most
            if self.idle.seconds is None
            else alike(self.idle.seconds + 0.1, known)
        )

    def _shortest(self, seconds: float) -> float:
        """The limit to use: lower if timers are checked in steps, since closes were seen late."""
        if self.first.server is not None and self._is_as_delivered():
            seconds = min(seconds, SERVERS[self.first.server])
        return seconds if self.first.promised is None else min(seconds, self.first.promised)

    @staticmethod
    def _pool(seconds: float) -> list[str]:
        kept = math.floor(usable(round(seconds, 1)) * 10) / 10
        if kept <= 0:
            return [f"max_idle: 0            # it closes after {seconds:.1f} s"]
        return [f"idle_timeout: {format_duration(kept)}       # it closes after {seconds:.1f} s"]


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"

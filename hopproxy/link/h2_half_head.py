"""Field blocks that arrive incompletely on a client's HTTP/2 connection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason
from hopproxy.settings.client import LinkSettings
from hopproxy.wire.h2 import H2Server


class Receiving(Protocol):
    """The connection."""

    now: Callable[[], float]
    served: int
    limits: LinkSettings
    watch: Watch
    wire: H2Server

    def finish(self, reason: CloseReason) -> None:
        """Take no more requests."""

    def on_fault(self, error: Exception) -> None: ...


class HalfHead:
    """The deadline for a field block that has begun to arrive.

    Until it is complete, the client can send no other frame.
    """

    __slots__ = ("_deadline", "_link", "_served", "timer_at")

    def __init__(self, link: Receiving) -> None:
        self._link = link
        self._deadline = math.inf
        self._served = 0
        self.timer_at = math.inf

    def follow(self) -> None:
        """More has arrived: set or clear the deadline."""
        link = self._link
        if not link.wire.in_head:
            self._deadline = math.inf
        elif self._deadline == math.inf or self._served != link.served:
            self._served = link.served
            self._deadline = link.now() + link.limits.head_timeout
            link.watch.wake_at(self, self._deadline)

    def on_time(self, now: float) -> float:
        if now < self._deadline:
            return self._deadline
        self._deadline = math.inf
        self._link.finish(CloseReason.HEAD_TIMEOUT)
        return math.inf

    def on_fault(self, error: Exception) -> None:
        self._link.on_fault(error)

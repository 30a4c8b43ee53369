"""Connections without traffic free memory.

A connection in use keeps grown buffers and other objects that it would need again at once.  After a
second or two without a byte it frees them.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Protocol, cast

#: Seconds between two looks: a connection without a byte between them is quiet.
TICK = 1.0
#: How many connections free memory in a row, and seconds until the next ones do.
TURN, SOON = 128, 0.01


class Clock(Protocol):
    """The watch, as far as it is needed here."""

    def now(self) -> float: ...
    def wake_at(self, transport: Quiet, deadline: float) -> None: ...


class Sheds(Protocol):
    """A transport.  `received` and `sent` count its bytes."""

    received: int
    sent: int

    def shed(self) -> None:
        """Free what is not needed while nothing moves."""

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception."""


class Quiet:
    """The connections that may have memory to free, each with its count of bytes."""

    def __init__(self, clock: Clock) -> None:
        self.timer_at = math.inf
        self._clock = clock
        self._moved: dict[Sheds, int] = {}
        self._due: dict[Sheds, int] = {}  # quiet at the last look
        self._look_at = math.inf

    def note(self, transport: Sheds) -> None:
        """A connection may have memory to free, until it is quiet or has ended."""
        if transport not in self._moved:
            self._moved[transport] = -1
            if self.timer_at == math.inf:
                self._look_at = self._clock.now() + TICK
                self._clock.wake_at(self, self._look_at)

    def forget(self, ended: object) -> None:
        """A connection has ended."""
        if self._moved or self._due:
            transport = cast("Sheds", ended)
            self._moved.pop(transport, None)
            self._due.pop(transport, None)

    def on_time(self, now: float) -> float:
        """Look at all of them every TICK; quiet ones are removed from the list."""
        if now >= self._look_at:
            self._look_at = now + TICK
            self._look()
        for transport, before in list(islice(self._due.items(), TURN)):
            del self._due[transport]
            moved = _moved(transport)
            if moved != before:
                self._moved[transport] = moved
                continue
            try:
                transport.shed()
            except Exception as error:
                transport.on_fault(error)
        if self._due:
            return now + SOON
        return self._look_at if self._moved else math.inf

    def _look(self) -> None:
        for transport in list(self._moved):
            moved = _moved(transport)
            if moved == self._moved[transport]:
                del self._moved[transport]
                self._due[transport] = moved
            else:
                self._moved[transport] = moved
        if not self._moved:
            self._moved.clear()  # its memory too

    def on_fault(self, error: Exception) -> None:
        raise error  # not expected: each callback is contained


def _moved(transport: Sheds) -> int:
    return transport.received + transport.sent

"""Whether an HTTP/2 connection is alive: a PING, and the wait for an answer (RFC 9113 6.7)."""

from __future__ import annotations

import math
from typing import Protocol

from hopproxy.link.h2_output import H2Output
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.transport import Transport
from hopproxy.wire.h2 import H2Client

#: The bytes of our PING.
_BYTES = b"hopproxy"


class Pinged(Protocol):
    """The connection."""

    transport: Transport
    wire: H2Client
    output: H2Output

    max_streams: int

    def wake_by(self, deadline: float) -> None:
        """Make sure that `on_time` is called by then."""


class Pings:
    """The requests that wait for a sign of life.  They share one PING.

    `asked_at` is when the last one was sent.
    """

    __slots__ = ("_link", "asked_at", "waiting")

    def __init__(self, link: Pinged) -> None:
        self._link = link
        self.waiting: list[Sign] = []
        self.asked_at = -math.inf

    def ask(self) -> None:
        """Send a PING."""
        link = self._link
        self.asked_at = link.transport.now()
        link.wire.ping(_BYTES)
        link.output.stir()

    async def answered(self, patience: float) -> bool:
        """Send a PING, and wait until anything arrives.  Waits.

        False if nothing has arrived after `patience` seconds, or if the connection has ended.
        """
        link = self._link
        transport = link.transport
        if not self.waiting:
            self.ask()
        before = transport.received
        sign = Sign(transport.now() + patience)
        self.waiting.append(sign)
        try:
            while transport.received == before and not transport.closed:
                if sign.by <= transport.now():
                    return False
                link.wake_by(sign.by)
                await wait(sign)
        finally:
            self.waiting.remove(sign)
        return link.max_streams > 0

    def heard(self) -> None:
        """Something has arrived, or the connection has ended."""
        for sign in self.waiting[:]:
            sign.wake()

    def on_time(self, now: float) -> float:
        """A deadline may have passed; the next one."""
        for sign in self.waiting[:]:
            if sign.by <= now:
                sign.wake()
        return min((sign.by for sign in self.waiting if sign.by > now), default=math.inf)


class Sign:
    """The wait for a sign of life.  `by` is its deadline."""

    __slots__ = ("by", "waker")

    def __init__(self, by: float) -> None:
        self.by = by
        self.waker: Waker | None = None

    def wake(self) -> None:
        """Look again."""
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()

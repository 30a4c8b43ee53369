"""The client links of one worker, whatever protocol they speak."""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

from hopproxy.link.link import Link
from hopproxy.link.stepper import Stepper
from hopproxy.link.transport import Transport
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import LinkSettings

log = logging.getLogger("hopproxy")

#: Seconds between two messages about refused streams.
QUIET = 60.0


class Bound(Protocol):
    """An upstream link that only one client may use; it is closed when that client leaves."""

    def end(self) -> None: ...


class AnyClientLink(Protocol):
    """One connection of a client: `link.client.ClientLink`, or `link.h2.H2Link`.

    The attributes are described there.
    """

    protocol: str
    number: int
    hop: Hop
    peer: str
    transport: Transport
    limits: LinkSettings
    clients: Clients
    driver: Stepper | None
    opened: float
    since: float
    served: int
    named: str
    gone: bool
    tunnelling: bool
    close_delimited: bool
    closing: CloseReason | None
    close_reason: CloseReason | None
    partner: Link | None
    bound: Bound | None

    def close(self, reason: CloseReason, *, reset: bool = False) -> None:
        """Close the socket."""


class Clients:
    """The client links of one worker: all of them, each with what serves it, and the idle ones.

    Those that have been idle longest come first.

    `openings` are those that are not open yet, the one without progress for longest first.
    `draining` once each must close after its current response.  `goodbye` is how many seconds an
    idle link that we close waits for the client to close too, `late` how many requests came then.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.links: dict[AnyClientLink, Any] = {}
        self.idle: dict[AnyClientLink, None] = {}
        self.openings: dict[AnyClientLink, None] = {}
        self.accepted = 0
        self.draining = False
        self.goodbye = 0.0
        self.late = 0
        self.streams = StreamCounts()


class StreamCounts:
    """What is counted of the HTTP/2 streams of one hop.

    `opened` are all so far.  `resets` are by who has reset the stream ("peer" or "us") and by error
    code.  `open` are those whose requests have not ended, at most `most`.
    """

    def __init__(self) -> None:
        self.opened = self.open = 0
        self.most = math.inf
        self._refused = 0
        self._told_at = -math.inf
        self.resets: dict[tuple[str, int], int] = {}

    def add_reset(self, by: str, code: int) -> None:
        """A stream was reset."""
        self.resets[by, code] = self.resets.get((by, code), 0) + 1

    def note_refused(self, now: float) -> None:
        """A stream was refused because `most` are open: log it, once a minute."""
        self._refused += 1
        if now - self._told_at >= QUIET:
            self._told_at = now
            log.warning("client.max_total_streams: %d requests refused so far", self._refused)

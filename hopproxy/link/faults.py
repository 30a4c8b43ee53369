"""Faults of ours: each ends what it is about, is logged once, and nothing else is touched.

An exchange deals with a fault in its own coroutine (`proxy.exchange`), a stepper with one of any
other coroutine (`link.stepper`).  All callbacks (events, timers, sends at the end of a batch) have
one guard, `contain`.
"""

import logging
from typing import Protocol

log = logging.getLogger("hopproxy")


class Faulty(Protocol):
    """Whom a fault of ours ends."""

    def on_fault(self, error: Exception) -> None: ...


def contain(whom: Faulty, error: Exception) -> None:
    """A callback met a fault of ours: what it was about ends, and everything else goes on."""
    try:
        whom.on_fault(error)
    except Exception as another:
        report(another, "what met another fault")


def report(error: Exception, what: str) -> None:
    """Log a fault that ended `what` (one phrase: "a connection from 10.0.0.7")."""
    log.error("%s ended through a fault in hopproxy", what, exc_info=error)

"""Faults: unexpected exceptions in hopproxy.  Each ends one connection, and is logged once.

A fault in an exchange is caught there (`proxy.exchange`), a fault in any other coroutine by its
stepper (`link.stepper`).  All callbacks (events, timers, sends at the end of a batch) have one
guard, `contain`.
"""

import logging
from typing import Protocol

log = logging.getLogger("hopproxy")


class Faulty(Protocol):
    """Can be ended by a fault."""

    def on_fault(self, error: Exception) -> None: ...


def contain(whom: Faulty, error: Exception) -> None:
    """A callback of `whom` raised an unexpected exception: end `whom`, and nothing else."""
    try:
        whom.on_fault(error)
    except Exception as another:
        report(another, "the handling of a fault")


def report(error: Exception, what: str) -> None:
    """Log a fault that ended `what` (one phrase: "a connection from 10.0.0.7")."""
    log.error("%s ended because of a fault in hopproxy", what, exc_info=error)

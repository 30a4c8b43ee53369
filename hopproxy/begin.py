"""What a process does first, before other modules are imported."""

import os
import signal
import sys
from collections.abc import Sequence

from hopproxy.server.channel import VARIABLE
from hopproxy.signals import HARMLESS, SIGNALS, STOP


def begin() -> None:
    """Make sure that the standard descriptors are open and that no signal is lost.

    Does not return in the supervisor of `hopproxy run`, which needs none of the other modules.
    """
    hold_standard_descriptors()
    words = sys.argv[1:]
    if is_supervised():
        obey_no_signals()
    elif serves(words):
        SIGNALS.hear()
        if has_workers(words):
            from hopproxy.server.supervisor import supervise

            sys.exit(supervise())


def serves(arguments: Sequence[str]) -> bool:
    """Whether this command runs until a signal ends it."""
    return list(arguments[:1]) in (["run"], ["dev"])


def has_workers(arguments: Sequence[str]) -> bool:
    """Whether this command serves with workers; only Linux has what they need."""
    return list(arguments[:1]) == ["run"] and sys.platform == "linux"


def is_supervised() -> bool:
    """Whether this process is a worker."""
    return VARIABLE in os.environ


def obey_no_signals() -> None:
    """Ignore signals: a worker obeys its supervisor (see `server/supervisor.py`)."""
    for number in (*STOP, *HARMLESS, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    # They were blocked when this process was started; those that came meanwhile are gone now.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def hold_standard_descriptors() -> None:
    """Open /dev/null in place of each standard descriptor that is closed.

    Otherwise a socket would get its number, and output of this process would go to a client.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # `open` returns the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)

"""What a process does first, before other modules are imported."""

import os
import sys
from collections.abc import Sequence

from hopproxy.signals import SIGNALS


def begin() -> None:
    """Make sure that the standard descriptors are open and that no signal is lost."""
    hold_standard_descriptors()
    if serves(sys.argv[1:]):
        SIGNALS.hear()


def serves(arguments: Sequence[str]) -> bool:
    """Whether this command runs until a signal ends it."""
    return list(arguments[:1]) in (["run"], ["dev"])


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

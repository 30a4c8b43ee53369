"""What a process does before anything else, and before it loads what it needs for the rest."""

import os
import sys
from collections.abc import Sequence

from hopproxy.signals import SIGNALS


def begin() -> None:
    """Make sure that the standard descriptors are open, and that no signal is lost."""
    hold_standard_descriptors()
    if serves(sys.argv[1:]):
        SIGNALS.hear()


def serves(arguments: Sequence[str]) -> bool:
    """Whether this command goes on until a signal ends it."""
    return list(arguments[:1]) in (["run"], ["dev"])


def hold_standard_descriptors() -> None:
    """Open /dev/null in place of each that is closed: else the next socket would take its number.

    What is written to standard output or standard error would go to a client then.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # It gets the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)

"""The limit of open files of this process."""

import contextlib
import os
import resource

#: The largest limit that is of use; some systems have no limit.
MOST = 1024 * 1024

#: Descriptors that trio and the watch will open.
_TO_COME = 8


def attainable() -> int:
    """How many descriptors this process may have once it has raised its soft limit."""
    soft, hard = (
        MOST if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return max(soft, min(hard, MOST))


def raise_limit() -> None:
    """Raise the soft limit to the hard one, at most to MOST."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = attainable()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many descriptors this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def held() -> int:
    """How many descriptors are open, including those to come; 0 if that is not known."""
    try:
        return len(os.listdir("/proc/self/fd")) + _TO_COME
    except OSError:
        return 0

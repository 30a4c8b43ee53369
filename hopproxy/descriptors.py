"""The limit of open files of this process."""

import contextlib
import os
import resource

#: Past this a larger limit serves nobody; some systems have no limit at all.
MOST = 1024 * 1024

#: Opened by trio and the watch once they run.
_TO_COME = 8


def attainable() -> int:
    """How many descriptors this process may have once it has raised its soft limit."""
    soft, hard = (
        MOST if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return max(soft, min(hard, MOST))


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as far as that is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = attainable()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the system allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many descriptors this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def held() -> int:
    """How many descriptors are open, with those that serving opens; 0 where that is not known."""
    try:
        return len(os.listdir("/proc/self/fd")) + _TO_COME
    except OSError:
        return 0

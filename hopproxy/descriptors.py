"""The limit of open files of this process, and files without a name."""

import contextlib
import os
import resource

#: The largest limit that is of use; some systems have no limit.
MOST = 1024 * 1024

#: Descriptors that trio and the watch will open.
_TO_COME = 8

#: The soft and the hard limit assumed if a sandbox does not show them.
_USUAL = 1024, 1024


def _limits() -> tuple[int, int]:
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        return _USUAL


def attainable() -> int:
    """How many descriptors this process may have once it has raised its soft limit."""
    soft, hard = (MOST if one == resource.RLIM_INFINITY else one for one in _limits())
    return max(soft, min(hard, MOST))


def raise_limit() -> None:
    """Raise the soft limit to the hard one, at most to MOST."""
    soft, hard = _limits()
    wanted = attainable()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many descriptors this process may have now."""
    soft, _ = _limits()
    return MOST if soft == resource.RLIM_INFINITY else soft


def held() -> int:
    """How many descriptors are open, including those to come; 0 if that is not known."""
    try:
        return len(os.listdir("/proc/self/fd")) + _TO_COME
    except OSError:
        return 0


def unnamed_file(title: str) -> int:
    """The descriptor of a new file in memory; of a deleted file, if a sandbox denies that.

    Raises OSError.
    """
    try:
        return os.memfd_create(title, os.MFD_CLOEXEC)
    except OSError:
        import tempfile  # seldom needed

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())

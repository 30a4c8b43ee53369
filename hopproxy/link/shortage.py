"""Errors that mean this machine ran out of something; they say nothing about the peer."""

import errno
import os
import socket

#: Descriptors (of the process, of the system), buffers, memory, sockets that epoll may watch.
NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))

_NO_ROUTE = (errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT)


def is_shortage(error: OSError, family: socket.AddressFamily, target: object) -> bool:
    """Whether a connect to `target` failed because this machine has nothing left to connect with.

    EADDRNOTAVAIL has two meanings: every local port towards the target is taken, which is a
    shortage, or this machine has no address of that family, which is not.
    """
    if error.errno == errno.EADDRNOTAVAIL:
        return _has_source_address(family, target)
    return error.errno in NONE_LEFT


def is_shortage_of_look_up(error: OSError) -> bool:
    """Whether a name was not resolved because this machine has nothing left to ask with.

    A resolver without a descriptor only says that it failed, so one is opened to find out.
    """
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_MEMORY or _no_descriptor_left()
    return error.errno in NONE_LEFT


def _has_source_address(family: socket.AddressFamily, target: object) -> bool:
    """A datagram socket needs a route and a source address too, but no free port of TCP."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # type: ignore[arg-type]
    except OSError as error:
        return error.errno not in _NO_ROUTE
    return True


def _no_descriptor_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in NONE_LEFT
    return False

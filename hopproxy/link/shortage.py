"""Errors that mean this machine ran out of a resource, and say nothing about the peer."""

import errno
import os
import socket

#: Out of descriptors (process, system), buffers, memory, epoll watches.
NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))

_NO_ROUTE = (errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT)


def is_shortage(error: OSError, family: socket.AddressFamily, target: object) -> bool:
    """Whether a connect to `target` failed because this machine lacks a resource.

    EADDRNOTAVAIL has two meanings: every local port towards the target is in use, which is a
    shortage, or this machine has no address of that family, which is not.
    """
    if error.errno == errno.EADDRNOTAVAIL:
        return _has_source_address(family, target)
    return error.errno in NONE_LEFT


def is_shortage_of_look_up(error: OSError) -> bool:
    """Whether a name was not resolved because this machine lacks a resource.

    A resolver that gets no descriptor reports a plain failure, so we try to open one.
    """
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_MEMORY or _no_descriptor_left()
    return error.errno in NONE_LEFT


def _has_source_address(family: socket.AddressFamily, target: object) -> bool:
    """Connecting a datagram socket needs a route and a source address, but no free TCP port."""
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

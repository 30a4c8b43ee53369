"""Free ports, for servers of the tests."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Iterator
from itertools import cycle

#: Below the ports that the kernel gives to connections and to listeners without one: otherwise one
#: of those could take a port between its choice and its use.
FIRST, LAST = 12_000, 32_000

#: Seconds within which the kernel hands a connection on loopback over, on a machine that is busy.
FULL_WITHIN = 20.0

#: Tests that run at the same time choose from ports of their own, and no port soon again: it takes
#: a moment until a server listens on it.
_AT_A_TIME = 16
_OWN = range(FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), LAST, _AT_A_TIME)
_FROM = random.SystemRandom().randrange(len(_OWN))
_ports: Iterator[int] = cycle([*_OWN[_FROM:], *_OWN[:_FROM]])


def free_port(*hosts: str) -> int:
    """A port that is free at each of these addresses; at 127.0.0.1 if there is none."""
    return next(
        port for port in _ports if all(_is_free(host, port) for host in hosts or ("127.0.0.1",))
    )


def fill(listener: socket.socket) -> socket.socket:
    """Make a listener with a backlog of 0 answer no further connection, until this one is closed.

    Full is what the listener says.  A client may take its connection for made before the listener
    has it, and one more is then answered.
    """
    filler = socket.socket(listener.family)
    filler.settimeout(FULL_WITHIN)
    filler.connect(listener.getsockname())
    assert select.select([listener], [], [], FULL_WITHIN)[0]
    return filler


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

"""Free ports, for servers of the tests."""

from __future__ import annotations

import random
import socket

#: Below the ports that the kernel gives to connections and to listeners without one: otherwise one
#: of those could take a port between its choice and its use.
FIRST, LAST = 12_000, 32_000


def free_port(*hosts: str) -> int:
    """A port that is free at each of these addresses; at 127.0.0.1 if there is none."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(FIRST, LAST)
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            return port


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

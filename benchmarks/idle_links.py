"""A process that holds many idle client links to a proxy, each one having had one good answer.

Run by the benchmark as: python -m benchmarks.idle_links PORT COUNT, and any of `tls` and `h2`.  It
says `ready` when all stand, and at each line on its standard input how many the proxy has closed
meanwhile.  In HTTP/2 each link begins as Chromium's do.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from benchmarks.processes import connected, holding, raise_file_limit
from benchmarks.stage import Stage

REQUEST = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Table of 65,536, no push, windows of 6 MiB and 15 MiB, heads up to 256 KiB.
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex(
    "000018040000000000 000100010000 000200000000 000400600000 000600040000"
    "000004080000000000 00ef0001"
)
_H2_FIELDS = b"\x82\x86\x01\x09localhost\x04\x06/plain"  # GET, http, :authority, :path
H2_REQUEST = struct.pack(">HBBBI", 0, len(_H2_FIELDS), 1, 5, 1) + _H2_FIELDS
H2_ACK = bytes.fromhex("000000040100000000")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Held:
    """The links another process holds."""

    def __init__(self, ask: IO[str], answer: IO[str]) -> None:
        self._ask = ask
        self._answer = answer

    def lost(self) -> int:
        """How many of the links the proxy has closed so far."""
        self._ask.write("\n")
        self._ask.flush()
        return int(self._answer.readline())


@contextmanager
def held_links(
    stage: Stage, port: int, count: int, *, tls: bool = False, h2: bool = False
) -> Iterator[Held]:
    """Hold so many idle links while the block runs.  Raises NotReady when they do not stand."""
    words = [str(port), str(count)] + ["tls"] * tls + ["h2"] * h2
    with holding(stage.cores.load, "benchmarks.idle_links", *words) as (ask, answer):
        yield Held(ask, answer)


def open_link(port: int, *, tls: bool, h2: bool) -> socket.socket:
    """Connect, have one answer, stay.  Raises OSError when the answer is not 200."""
    link = connected(port, tls=tls, seconds=10, alpn="h2" * h2)
    # A reset at the end: ten thousand ports in TIME_WAIT would starve the next proxy's clients.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    link.sendall(H2_PREFACE + H2_REQUEST if h2 else REQUEST)
    answer = link.recv(4096)
    while b"Hello, world" not in answer:
        more = link.recv(4096)
        if not more:
            raise OSError(f"refused: {answer[:80]!r}")
        answer += more
    if h2:
        link.sendall(H2_ACK)
    return link


def burst(port: int, count: int) -> None:
    """So many requests at once, each on a connection of its own: as many dials upstream.

    Raises OSError when one is not answered.
    """
    links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count)]
    for link in links:
        link.sendall(REQUEST)
    for link in links:
        with link:
            if not link.recv(4096):
                raise OSError("a request of the burst was not answered")


def count_closed(links: list[socket.socket]) -> int:
    """How many links the other end has closed; frames of HTTP/2 that have come late are read."""
    poll = select.poll()
    found = {link.fileno(): link for link in links}
    for descriptor in found:
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    return sum(_is_closed(found[descriptor]) for descriptor, _ in poll.poll(0))


def _is_closed(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        while link.recv(4096):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True


def hold(port: int, count: int, *, tls: bool, h2: bool) -> None:
    """Open the links, then answer each line with the number of those lost, until the input ends."""
    limit = raise_file_limit()
    if limit < count + 64:
        print(f"only {limit} files may be open; raise `ulimit -n`", flush=True)
        return
    try:
        links = [open_link(port, tls=tls, h2=h2) for _ in range(count)]
    except OSError as error:
        print(f"a link failed: {error}", flush=True)
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        print(count_closed(links), flush=True)


if __name__ == "__main__":
    hold(int(sys.argv[1]), int(sys.argv[2]), tls="tls" in sys.argv[3:], h2="h2" in sys.argv[3:])

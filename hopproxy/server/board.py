"""A piece of memory that the supervisor and all workers share.

It holds secrets that all workers must agree on, and for each worker a slot with what the others
have to know at once: how many connections it has.  Only a worker writes to its own slot; the
supervisor clears it when the worker has ended.  Memory that nobody touches takes no space.
"""

import mmap
import os

#: Most workers.
PLACES = 1024
#: Where the slots begin, and their size.  Before them are the secrets.
_SLOTS, _SLOT = 4096, 64
#: Bytes of the secret for hashes, and of the keys of TLS session tickets.
_SECRET, _TICKETS = 32, 80
#: Where the rates of routes are (`routing/rates.py`), and their size.
_RATES, RATES = _SLOTS + PLACES * _SLOT, 1024 * 1024
#: All of it, and what a worker maps.
SIZE = _RATES + RATES


def new_board() -> int:
    """The descriptor of a new board, with new secrets."""
    fd = os.memfd_create("hopproxy-board", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    os.pwrite(fd, os.urandom(_SECRET + _TICKETS), 0)
    return fd


def connections_of(board: int, place: int) -> int:
    """How many connections the worker at this place has, or had when it ended."""
    return int.from_bytes(os.pread(board, 8, _SLOTS + place * _SLOT + 8), "little")


def clear(board: int, place: int) -> None:
    """The worker at this place has ended."""
    os.pwrite(board, bytes(_SLOT), _SLOTS + place * _SLOT)


class Board:
    """The board as the worker at `place` of `workers` sees it."""

    def __init__(self, fd: int, place: int, workers: int) -> None:
        memory = mmap.mmap(fd, SIZE)
        self.secret = memory[:_SECRET]
        self.ticket_keys = memory[_SECRET : _SECRET + _TICKETS]
        # Two numbers for each worker: 1 while it serves, and its connections.
        words = memoryview(memory).cast("q")
        step = _SLOT // 8
        start = _SLOTS // 8
        self._words = words
        self.rates = memoryview(memory)[_RATES : _RATES + RATES]
        self._own = start + place * step
        self._others = [start + at * step for at in range(workers) if at != place]

    def serve(self) -> None:
        """From now on this worker takes part."""
        self._words[self._own] = 1

    def count(self, connections: int) -> None:
        """This worker has so many connections now."""
        self._words[self._own + 1] = connections

    def is_ahead(self) -> bool:
        """Whether another worker has at least two connections fewer than this one."""
        words = self._words
        most = words[self._own + 1] - 2
        return any(words[at] and words[at + 1] <= most for at in self._others)

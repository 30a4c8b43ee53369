"""A piece of memory that the supervisor and all workers share.

It holds secrets that all workers share, and a slot for each worker with its number of connections,
which the others read.  Only a worker writes to its own slot; the supervisor clears it when the
worker has ended.  Pages that are never touched take no memory.
"""

import mmap
import os
import resource

from hopproxy.descriptors import unnamed_file

#: Most workers.
PLACES = 1024
#: Where the slots begin, and their size.  Before them are the secrets.
_SLOTS, _SLOT = 4096, 64
#: Bytes of the secret for hashes, and of the keys of TLS session tickets.
_SECRET, _TICKETS = 32, 80
#: Where the rates of routes are (`routing/rates.py`), and their size.
_RATES, RATES = _SLOTS + PLACES * _SLOT, 1024 * 1024
#: Where the connections of client addresses are: for each worker a table of small sets, in which
#: an entry is the name of an address (48 bits) and its count.
_COUNTS, _SETS, _WAYS = _RATES + RATES, 2048, 8
_TABLE = _SETS * _WAYS * 8
#: The whole size; a worker maps only the tables of existing workers.
SIZE = _COUNTS + PLACES * _TABLE


def lack_of_room(workers: int) -> str:
    """What to tell if the board of so many workers may not be so large; empty if it may."""
    needed = _COUNTS + workers * _TABLE
    try:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    except OSError:  # a sandbox denies it
        return ""
    if most == resource.RLIM_INFINITY or most >= needed:
        return ""
    return (
        f"the size of files is limited to {most} bytes, and the memory that is shared by"
        f" {workers} worker{'s' * (workers > 1)} needs {needed}:"
        " raise the limit (ulimit -f, LimitFSIZE=)"
    )


def new_board(old: int = -1) -> int:
    """The descriptor of a new board, with the secrets of an old one if there is one."""
    secrets = os.urandom(_SECRET + _TICKETS) if old < 0 else os.pread(old, _SECRET + _TICKETS, 0)
    fd = unnamed_file("hopproxy-board")
    try:
        os.ftruncate(fd, SIZE)
    except OSError:  # RLIMIT_FSIZE is lower: there is room for fewer workers
        os.ftruncate(fd, resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    os.pwrite(fd, secrets, 0)
    return fd


def connections_of(board: int, place: int) -> int:
    """How many connections the worker at this place has, or had when it ended."""
    return int.from_bytes(os.pread(board, 8, _SLOTS + place * _SLOT + 8), "little")


def clear(board: int, place: int) -> None:
    """The worker at this place has ended."""
    slot = _SLOTS + place * _SLOT
    if any(os.pread(board, 8, slot + 16)):
        os.pwrite(board, bytes(_TABLE), _COUNTS + place * _TABLE)
    os.pwrite(board, bytes(_SLOT), slot)


class Board:
    """The board as the worker at `place` of `workers` sees it."""

    def __init__(self, fd: int, place: int, workers: int) -> None:
        memory = mmap.mmap(fd, _COUNTS + workers * _TABLE)
        self.secret = memory[:_SECRET]
        self.ticket_keys = memory[_SECRET : _SECRET + _TICKETS]
        # Numbers of each worker: 1 while it serves, its connections, 1 if it counts addresses.
        words = memoryview(memory).cast("q")
        step = _SLOT // 8
        start = _SLOTS // 8
        self._words = words
        self.rates = memoryview(memory)[_RATES : _RATES + RATES]
        self._own = start + place * step
        self._others = [start + at * step for at in range(workers) if at != place]
        table = _TABLE // 8
        self._tables = [_COUNTS // 8 + at * table for at in range(workers) if at != place]
        self._table = _COUNTS // 8 + place * table

    @property
    def is_shared(self) -> bool:
        """Whether there are other workers."""
        return bool(self._others)

    def serve(self) -> None:
        """This worker serves from now on."""
        self._words[self._own] = 1

    def count(self, connections: int) -> None:
        """This worker has so many connections now."""
        self._words[self._own + 1] = connections

    def is_ahead(self) -> bool:
        """Whether another worker has at least two connections fewer than this one."""
        words = self._words
        most = words[self._own + 1] - 2
        return any(words[at] and words[at + 1] <= most for at in self._others)

    def publish(self, name: int, count: int) -> None:
        """This worker has so many connections of an address; counts above 32767 stay there.

        If its set is full, other workers do not see this count.
        """
        words, free = self._words, -1
        base = self._table + name % _SETS * _WAYS
        words[self._own + 2] = 1
        for at in range(base, base + _WAYS):
            entry = words[at]
            if entry >> 15 == name:
                free = at
                break
            if not entry:
                free = at
        if free >= 0:
            words[free] = name << 15 | min(count, 32767) if count else 0

    def published(self, name: int) -> int:
        """How many connections of an address all other workers have."""
        words, total = self._words, 0
        for table in self._tables:
            base = table + name % _SETS * _WAYS
            for at in range(base, base + _WAYS):
                if words[at] >> 15 == name:
                    total += words[at] & 32767
                    break
        return total

"""Limits on the rate of requests, in a fixed amount of memory.

A rate is kept with the generic cell rate algorithm (GCRA, ITU-T I.371).  One number is stored for
each key: the time at which the key has its full allowance again.  A request passes if that time is
less than the burst ahead, and moves it later.  Refused requests change nothing.

The memory is a table of small sets; a key is looked for in one set only.  A new key replaces the
one whose time is earliest.  If even that one has not its full allowance, some of its requests pass
that should not; no client is refused because of others.  Several processes may use the same memory:
each change is one aligned number.
"""

from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

#: Keys in one set, and bytes for each.
_WAYS, _ENTRY = 8, 16
#: Keys that fit into a table by default, and its size in bytes.
KEYS = 65536
SIZE = KEYS * _ENTRY


class Rates:
    """The table.  `secret` keeps clients from choosing addresses that share a set."""

    def __init__(self, memory: memoryview | bytearray, secret: bytes) -> None:
        view = memoryview(memory)
        self._names = view.cast("B").cast("Q")
        self._times = view.cast("B").cast("d")
        self._sets = view.nbytes // (_WAYS * _ENTRY)
        self._secret = secret

    def take(self, key: bytes, now: float, interval: float, burst: int) -> float:
        """Let a request with this key pass, and return 0; or the seconds until one would.

        One request passes every `interval` seconds, and up to `burst` at once.  `now` is a clock
        that all processes with this memory share.
        """
        digest = blake2b(key, digest_size=16, key=self._secret).digest()
        name = int.from_bytes(digest[:8], "little") or 1
        base = int.from_bytes(digest[8:], "little") % self._sets * _WAYS
        names, times = self._names, self._times
        place, oldest = base, float("inf")
        for at in range(base, base + _WAYS):
            if names[2 * at] == name:
                paid_at = max(times[2 * at + 1], now)
                wait = paid_at - now - (burst - 1) * interval
                if wait > 1e-9:
                    return wait
                times[2 * at + 1] = paid_at + interval
                return 0.0
            if times[2 * at + 1] < oldest:
                place, oldest = at, times[2 * at + 1]
        times[2 * place + 1] = now + interval
        names[2 * place] = name
        return 0.0


@lru_cache(1024)
def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that every IPv6 client has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address  # a Unix socket, or a name that a trusted proxy has given
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))

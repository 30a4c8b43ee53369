"""Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016).

Each origin has points on a ring; a key belongs to the origin of the next point.  If an origin
leaves, only its own keys move.  If an origin has a quarter more than its share of the requests
under way, further requests go to the next one along the ring.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import ceil
from struct import unpack
from typing import Protocol, TypeVar

from hopproxy.routing.balancer import Balancer, Member

#: Points of an origin with the lowest weight, and of all origins together at most.
POINTS, MOST_POINTS = 256, 65536
#: An origin may have this multiple of its share of the requests under way, and at least `FEW`.
FACTOR, FEW = 1.25, 8

M = TypeVar("M", bound="Named")


class Named(Member, Protocol):
    """A member with a name that stays the same when others come and go."""

    label: str


class Ring(Balancer[M]):
    """The origins of one upstream, chosen by the hash of a key; without one by fewest requests."""

    def __init__(self, members: Sequence[M] = ()) -> None:
        self._at: list[int] = []
        self._owners: list[M] = []
        super().__init__(members)

    def changed(self) -> None:
        """Place the points again at the next choice, once for all changes until then."""
        self._at = []

    def _place(self) -> None:
        every = sum(member.share for member in self.members)
        each = min(POINTS, MOST_POINTS / every)
        points = sorted(
            (place, at)
            for at, member in enumerate(self.members)
            for place in _points(member.label.encode(), max(1, round(each * member.share)))
        )
        self._at = [place for place, _ in points]
        self._owners = [self.members[at] for _, at in points]

    def choose(self, members: Sequence[M], key: int) -> M:
        """The first along the ring that may get this request and does not have too many."""
        if not key:
            return super().choose(members, key)
        if not self._at:
            self._place()
        every = sum(member.share for member in members)
        under_way = 1 + sum(member.under_way + len(member.waiters) for member in members)
        at = bisect_right(self._at, key)
        while True:  # one always has room: together they have room for more than all requests
            owner = self._owners[at % len(self._owners)]
            at += 1
            if owner in members:
                most = max(FEW, ceil(FACTOR * under_way * owner.share / every))
                if owner.under_way + len(owner.waiters) < most:
                    return owner


def _points(label: bytes, count: int) -> Iterator[int]:
    """The places of one member, eight from each hash."""
    for number in range(ceil(count / 8)):
        digest = blake2b(b"%b#%d" % (label, number), digest_size=64).digest()
        yield from unpack("8Q", digest)[: count - 8 * number]


def hash_of(value: bytes) -> int:
    """Where a value is on the ring; never 0."""
    return int.from_bytes(blake2b(value, digest_size=8).digest()) | 1

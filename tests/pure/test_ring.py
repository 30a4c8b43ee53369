"""Which origin the hash of a key leads to."""

from __future__ import annotations

from collections import Counter

import pytest

from hopproxy.routing.ring import FACTOR, FEW, Ring, hash_of
from tests.pure.test_balancer import Member

KEYS = [hash_of(b"user-%d" % number) for number in range(4000)]


class Named(Member):
    """A member with a label."""

    def __init__(self, label: str, *, weight: int = 1) -> None:
        super().__init__(weight=weight)
        self.label = label


def named(count: int) -> list[Named]:
    return [Named(f"http://10.0.0.{number}:80") for number in range(count)]


def owners(ring: Ring[Named]) -> list[str]:
    """The origin of each key, while none has a request."""
    return [ring.pick(0.0, key).label for key in KEYS]


def test_a_key_leads_to_the_same_origin_whatever_came_before() -> None:
    assert owners(Ring(named(5))) == owners(Ring(named(5)[::-1]))


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_when_one_leaves_only_its_own_keys_move(count: int) -> None:
    members = named(count)
    ring = Ring(members)
    before = owners(ring)
    ring.remove(members[0])
    after = owners(ring)
    kept = sum(one == other for one, other in zip(before, after, strict=True))
    assert kept == len(KEYS) - before.count(members[0].label)
    assert kept / len(KEYS) == pytest.approx(1 - 1 / count, abs=0.05)
    ring.add(members[0])
    assert owners(ring) == before


def test_one_that_is_down_gives_its_keys_away_and_gets_them_back() -> None:
    members = named(4)
    ring = Ring(members)
    before = owners(ring)
    members[2].reach.failed(members[2].reach.begin(0.0), 0.0)
    during = owners(ring)
    assert members[2].label not in during
    moved = [one for one, other in zip(before, during, strict=True) if one != other]
    assert set(moved) == {members[2].label}
    members[2].reach.succeeded(1.0)
    members[2].reach.takes(20.0)  # its slow start is over
    assert owners(ring) == before


def test_weights_are_shares_of_the_keys() -> None:
    members = [Named("a", weight=1), Named("b", weight=3)]
    got = Counter(owners(Ring(members)))
    assert got["b"] / len(KEYS) == pytest.approx(0.75, abs=0.05)


def test_a_key_that_everybody_asks_for_fills_no_origin_beyond_its_bound() -> None:
    members = named(4)
    ring = Ring(members)
    for under_way in range(1, 401):
        ring.pick(0.0, KEYS[0]).under_way += 1
        most = max(FEW, FACTOR * under_way / 4 + 1)
        assert max(member.under_way for member in members) <= most
    assert min(member.under_way for member in members) > 0


def test_a_few_requests_of_one_key_stay_together() -> None:
    ring = Ring(named(4))
    for _ in range(FEW):
        ring.pick(0.0, KEYS[0]).under_way += 1
    assert sorted(member.under_way for member in ring.members) == [0, 0, 0, FEW]


def test_without_a_key_the_one_with_the_fewest_requests_is_taken() -> None:
    members = named(3)
    ring = Ring(members)
    members[0].under_way = members[1].under_way = 1
    assert ring.pick(0.0) is members[2]


def test_one_that_is_full_passes_its_keys_on_to_one_that_may_get_them() -> None:
    members = named(3)
    ring = Ring(members)
    owner = ring.pick(0.0, KEYS[0])
    owner.under_way = 50
    other = next(member for member in members if member is not owner)
    other.reach.check_failed()
    assert ring.pick(0.0, KEYS[0]) not in (owner, other)


def test_the_ring_of_many_or_heavy_origins_stays_small() -> None:
    ring = Ring([*named(40), Named("heavy", weight=65535)])
    assert len(ring._owners) < 70000
    assert Counter(owners(ring))["heavy"] > 3900


def test_points_are_placed_once_for_all_members_that_come_together() -> None:
    placed = []

    class Counting(Ring[Named]):
        def _place(self) -> None:
            placed.append(len(self.members))
            super()._place()

    ring = Counting(named(100))
    ring.pick(0.0, KEYS[0])
    ring.pick(0.0, KEYS[1])
    ring.remove(ring.members[0])
    ring.remove(ring.members[0])
    ring.pick(0.0, KEYS[0])
    assert placed == [100, 98]

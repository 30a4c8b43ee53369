"""How long requests take at each of several origins, and how much requests to slow ones count."""

from __future__ import annotations

import heapq

import pytest

from hopproxy.routing.balancer import Balancer
from hopproxy.routing.latency import HALF, Latencies
from tests.pure.test_balancer import Member

TICK = 0.25


class Site:
    """Origins that take some time for each request, and clients that pause between two.

    One whose time is negative fails, after so many seconds.  If `single`, an origin serves one
    request after the other.
    """

    def __init__(self, *times: float, single: bool = False) -> None:
        self._single = single
        self._free_at = [0.0] * len(times)
        self.members = [Member() for _ in times]
        self.times = list(times)
        self.balancer = Balancer(self.members)
        self.latencies = Latencies(self.members)
        self.now = 0.0
        self._events: list[tuple[float, int, int]] = [(TICK, 0, -2)]
        self._number = 0

    def serve(self, clients: int, pause: float, seconds: float) -> list[int]:
        """Returns the requests that each origin has got."""
        counts = [0] * len(self.members)
        until = self.now + seconds
        for number in range(clients):
            self._at(self.now + pause * number / clients, -1)
        while self._events[0][0] < until:
            self.now, _, what = heapq.heappop(self._events)
            if what == -2:
                self.latencies.look(self.now, TICK)
                self._at(self.now + TICK, -2)
            elif what == -1:
                place = self.members.index(self.balancer.pick(self.now))
                counts[place] += 1
                self.members[place].under_way += 1
                begins = max(self.now, self._free_at[place]) if self._single else self.now
                self._free_at[place] = begins + abs(self.times[place])
                self._at(self._free_at[place], place)
            else:
                self.members[what].under_way -= 1
                self.members[what].latency.failed += self.times[what] < 0
                self._at(self.now + pause, -1)
        left = [one for one in self._events if one[2] != -1]
        for _, _, place in left:  # the clients leave
            if place >= 0:
                self.members[place].under_way -= 1
        self._events = [one for one in left if one[2] == -2]
        self.now = until
        return counts

    def _at(self, when: float, what: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what))


@pytest.mark.parametrize("clients", [2, 4, 12])
def test_one_slow_of_two_costs_little_of_the_rate_of_the_fast_one(clients: int) -> None:
    alone = Site(0.003).serve(clients, 0.1, 60)[0]
    counts = Site(0.5, 0.003).serve(clients, 0.1, 60)
    assert sum(counts) > 0.9 * alone
    assert counts[0] >= 4, "it is tried now and then"


@pytest.mark.parametrize("clients", [4, 16, 64])
@pytest.mark.parametrize(("slow", "fast"), [(0.5, 0.006), (0.3, 0.005), (2.0, 0.01)])
def test_it_costs_no_more_where_clients_do_not_pause(
    slow: float, fast: float, clients: int
) -> None:
    alone = Site(fast).serve(clients, 0.0, 20)[0]
    site = Site(slow, fast)
    site.serve(clients, 0.0, 5)
    counts = site.serve(clients, 0.0, 20)
    assert sum(counts) > 0.9 * alone
    assert counts[0] >= 1, "it is tried now and then"


@pytest.mark.parametrize("fast", [0.003, 0.03])
def test_one_that_becomes_slow_is_noticed_in_a_few_seconds(fast: float) -> None:
    site = Site(fast, fast)
    site.serve(12, 0.1, 60)
    site.times[0] = 1.0
    site.serve(12, 0.1, 5)
    assert sum(site.serve(12, 0.1, 30)) > 0.9 * Site(fast).serve(12, 0.1, 30)[0]


def test_one_that_answers_late_is_not_forgotten() -> None:
    """It is tried at least every 20 seconds."""
    site = Site(8.0, 0.003)
    site.serve(4, 0.1, 60)
    for _ in range(5):
        assert site.serve(4, 0.1, 20)[0] >= 1


def test_one_that_is_no_longer_slow_gets_its_share_again() -> None:
    site = Site(0.5, 0.003)
    site.serve(12, 0.1, 60)
    site.times[0] = 0.003
    site.serve(12, 0.1, 12)
    first, second = site.serve(12, 0.1, 30)
    assert first == pytest.approx(second, rel=0.1)


def test_under_load_a_slow_one_is_used_as_well() -> None:
    """The fast one is full: requests wait there until they take as long as at the slow one."""
    alone = Site(0.005, single=True).serve(100, 0.0, 60)[0]
    counts = Site(0.02, 0.005, single=True).serve(100, 0.0, 60)
    assert sum(counts) > 1.2 * alone
    assert counts[0] > 60 / 0.02 * 0.9


@pytest.mark.parametrize("times", [(0.004, 0.003), (0.06, 0.05), (0.03, 0.001)])
def test_small_differences_change_nothing(times: tuple[float, float]) -> None:
    first, second = Site(*times).serve(4, 0.1, 60)
    assert first > 0.4 * second


def test_one_that_fails_at_once_is_not_fast() -> None:
    site, unseen = Site(-0.001, 0.2), Site(-0.001, 0.2)
    unseen.latencies = Latencies([])
    first, second = site.serve(4, 0.1, 60)
    assert [first, second] == pytest.approx(unseen.serve(4, 0.1, 60), rel=0.1)
    assert site.members[0].latency.seconds is None
    assert site.members[1].latency.times == 1.0


def test_what_was_seen_is_forgotten() -> None:
    site = Site(0.5, 0.003)
    site.serve(4, 0.1, 20)
    assert site.members[0].latency.seconds == pytest.approx(0.5, rel=0.5)
    site.latencies.look(site.now, TICK)
    site.latencies.look(site.now + 20 * HALF, TICK)
    assert [one.latency.seconds for one in site.members] == [None, None]
    assert [one.latency.times for one in site.members] == [1.0, 1.0]


def test_each_in_turn_ignores_how_long_they_take() -> None:
    site = Site(0.5, 0.003)
    site.balancer.ignores_load = True
    first, second = site.serve(4, 0.1, 20)
    assert first == pytest.approx(second, abs=1)

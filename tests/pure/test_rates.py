"""Limits on the rate of requests: exact, in memory that does not grow, at times that are given."""

from __future__ import annotations

import random
import sys

import pytest

from hopproxy.routing.rates import SIZE, Rates, network_of

SECRET = b"s" * 32


def table(sets: int = 64) -> Rates:
    return Rates(bytearray(sets * 8 * 16), SECRET)


@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0, 400.0])
@pytest.mark.parametrize("excess", [3.0, 20.0])
def test_a_rate_is_exact_over_ten_seconds(rate: float, excess: float) -> None:
    rates, dice = table(), random.Random(1)
    now, passed = 1000.0, 0
    while now < 1010.0:
        passed += rates.take(b"a", now, 1 / rate, max(1, round(rate / 4))) == 0.0
        now += dice.expovariate(rate * excess)
    assert passed == pytest.approx(rate * 10, rel=0.05, abs=1)


def test_evenly_spaced_requests_at_the_rate_all_pass() -> None:
    rates = table()
    assert all(rates.take(b"a", 50.0 + n / 100, 1 / 100, 1) == 0.0 for n in range(10_000))


def test_a_burst_passes_at_once_and_the_next_is_told_when_to_come() -> None:
    rates = table()
    assert [rates.take(b"a", 7.0, 0.1, 5) for _ in range(5)] == [0.0] * 5
    wait = rates.take(b"a", 7.0, 0.1, 5)
    assert wait == pytest.approx(0.1)
    assert rates.take(b"a", 7.0, 0.1, 5) == wait, "a refusal costs nothing"
    assert rates.take(b"a", 7.0 + wait, 0.1, 5) == 0.0
    assert [rates.take(b"a", 100.0, 0.1, 5) for _ in range(6)][:5] == [0.0] * 5


def test_keys_do_not_share_a_rate() -> None:
    rates = table()
    assert rates.take(b"a", 1.0, 60.0, 1) == 0.0
    assert rates.take(b"b", 1.0, 60.0, 1) == 0.0
    assert rates.take(b"a", 1.0, 60.0, 1) == pytest.approx(60.0)


def test_a_full_set_forgets_the_one_with_least_debt_and_refuses_nobody_new() -> None:
    rates = Rates(bytearray(8 * 16), SECRET)  # one set
    for number in range(8):
        for _ in range(number + 1):
            assert rates.take(b"%d" % number, 1.0, 1.0, 100) == 0.0
    assert rates.take(b"new", 1.0, 1.0, 1) == 0.0
    assert rates.take(b"7", 1.0, 1.0, 8) > 0.0
    assert rates.take(b"0", 1.0, 1.0, 1) == 0.0, "it was forgotten"


def test_a_million_clients_do_not_free_the_greedy_one() -> None:
    """A part of it: memory is bounded, and a key without its full allowance is kept."""
    rates = Rates(bytearray(SIZE), SECRET)
    for _ in range(100):
        rates.take(b"greedy", 1.0, 0.1, 100)
    for number in range(20_000):
        assert rates.take(b"%d" % number, 2.0 + number * 1e-6, 0.1, 1) == 0.0
    before = sys.getallocatedblocks()
    for number in range(20_000, 100_000):
        assert rates.take(b"%d" % number, 2.0 + number * 1e-6, 0.1, 1) == 0.0
    assert sys.getallocatedblocks() < before + 1000
    assert rates.take(b"greedy", 2.1, 0.1, 10) > 0.0


def test_processes_that_share_the_memory_share_the_rate() -> None:
    memory = bytearray(SIZE)
    one, other = Rates(memory, SECRET), Rates(memory, SECRET)
    taken = [rates.take(b"a", 3.0, 1.0, 4) for rates in (one, other) * 4]
    assert [wait == 0.0 for wait in taken] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("_hidden", "_hidden"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, network: str) -> None:
    assert network_of(address) == network

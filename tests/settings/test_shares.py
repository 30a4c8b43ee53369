"""Limits are totals: what each of several workers gets of them."""

from __future__ import annotations

import pytest

from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings
from hopproxy.settings.shares import most_workers, share

TEXT = """
max_upstream_connections: 7
client: {max_connections: 10}
upstreams:
  app: {origins: [3000], pool: {max_connections: 5, max_idle: 4, queue: 0}}
"""


def settings(text: str) -> Settings:
    return read(text, file="a", environ={})


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_shares_add_up_to_the_total(workers: int) -> None:
    shares = [share(settings(TEXT), place, workers) for place in range(workers)]
    assert sum(one.client.max_connections for one in shares) == 10
    assert sum(one.max_upstream_connections for one in shares) == 7
    pools = [one.upstreams["app"].pool for one in shares]
    assert sum(pool.max_connections for pool in pools) == 5
    assert min(pool.max_connections for pool in pools) >= 1
    assert all(pool.queue == 0 for pool in pools), "what is off stays off"
    assert min(pool.max_idle for pool in pools) >= 1


def test_one_worker_has_everything() -> None:
    total = settings(TEXT)
    assert share(total, 0, 1) is total


def test_auto_takes_no_more_workers_than_the_smallest_limit_has_shares() -> None:
    assert most_workers(settings(TEXT)) == 5
    one = "upstreams: {app: {origins: [3000], pool: {max_connections: 1}}}"
    assert most_workers(settings(one)) == 1


def test_requests_in_flight_are_shared_unless_they_are_found() -> None:
    for written, shares in (("7", [4, 3]), ("0", [0, 0]), ("auto", ["auto", "auto"])):
        text = f"upstreams: {{app: {{origins: [3000], max_requests_in_flight: {written}}}}}"
        found = [share(settings(text), place, 2).upstreams["app"] for place in range(2)]
        assert [one.max_requests_in_flight for one in found] == shares

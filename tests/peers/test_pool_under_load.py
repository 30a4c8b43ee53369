"""A hundred clients with a pool of four: all are served, each with its own answer."""

from __future__ import annotations

from bisect import bisect
from pathlib import Path

from tests.peers.load import load
from tests.peers.servers import configured, origin
from tests.ports import free_port

SETTINGS = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams:
  app:
    origins: [http://127.0.0.1:{origin}]
    pool: {{max_connections: 4, max_idle: 4}}
access_log: off
"""


CLIENTS = 100


def test_hundred_clients_share_a_pool_of_four(tmp_path: Path) -> None:
    port = free_port()
    with origin("nginx", tmp_path) as server:
        settings = SETTINGS.format(port=port, origin=server.port)
        with configured(settings, port, tmp_path):
            answers = load(port, CLIENTS, 6000, lambda number: f"/echo?id={number}")
    assert {answer.status for answer in answers} == {200}
    links, ids = zip(*(answer.body.split() for answer in answers), strict=True)
    assert [int(each) for each in ids] == [answer.number for answer in answers]
    assert 1 <= len(set(links)) <= 4
    assert max(overtaken([answer.number for answer in answers])) < CLIENTS


def overtaken(numbers: list[int]) -> list[int]:
    """How many requests that were sent later had their answer before, for each answer in order.

    One who starves is overtaken by all; a stall of the machine holds everybody up alike.
    """
    before: list[int] = []
    counts = []
    for number in numbers:
        at = bisect(before, number)
        counts.append(len(before) - at)
        before.insert(at, number)
    return counts


def test_one_who_starves_is_overtaken_by_all() -> None:
    assert overtaken([1, 2, 4, 3, 5, 0]) == [0, 0, 0, 1, 0, 5]

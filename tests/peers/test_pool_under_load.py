"""A hundred clients over a pool of four: nobody starves, and nobody gets another's answer."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.peers.load import load
from tests.peers.servers import configured, free_port, origin

SETTINGS = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams:
  app:
    origins: [http://127.0.0.1:{origin}]
    pool: {{max_connections: 4, max_idle: 4}}
access_log: off
"""


#: A stall of the machine itself can make one answer slow; one who starves is slow every time.
ROUNDS = 3


def test_hundred_clients_share_a_pool_of_four(tmp_path: Path) -> None:
    port = free_port()
    ratios = []
    with origin("nginx", tmp_path) as server:
        settings = SETTINGS.format(port=port, origin=server.port)
        with configured(settings, port, tmp_path):
            for _ in range(ROUNDS):
                answers = load(port, 100, 20_000, lambda number: f"/echo?id={number}")
                assert {answer.status for answer in answers} == {200}
                links, ids = zip(*(answer.body.split() for answer in answers), strict=True)
                assert [int(each) for each in ids] == [answer.number for answer in answers]
                assert 1 <= len(set(links)) <= 4
                waits = [answer.seconds for answer in answers[100:]]
                ratios.append(max(waits) / statistics.median(waits))
                if ratios[-1] < 10:
                    return
    raise AssertionError(f"the slowest answer took {min(ratios):.1f} times the median, or more")

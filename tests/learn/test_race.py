"""The race with one real origin, short enough for every run; `tests.learn.race` has them all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from tests.learn.race import Race, doubles, race
from tests.learn.servers import nginx, origin, proxy

LIMIT = 1.5


def test_no_request_is_lost_at_the_limit_of_a_real_origin(tmp_path: Path) -> None:
    command = partial(nginx, limit=f"{LIMIT * 1000:.0f}ms")
    with origin(command, tmp_path / "origin") as server:
        with proxy("hopproxy", tmp_path / "proxy", server.port) as port:
            one = Race("hopproxy", port, LIMIT)
            trio.run(race, [one], 8, 4)
        posts = server.seen()
    assert one.asked == 32
    assert dict(one.failed) == {}
    assert doubles(posts, one.seed) == 0
    assert len(posts) == 24  # each of the 48 requests that is a POST, those of learning included

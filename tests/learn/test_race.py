"""The race with one real origin, short enough for every run; `tests.learn.race` has them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.learn.race import Race, doubles, race
from tests.learn.servers import nginx, node_h2, origin, proxy
from tests.peers import tls_servers
from tests.peers.servers import free_port, running

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


@pytest.mark.parametrize(
    "command",
    [partial(tls_servers.nginx, limit="500ms"), partial(tls_servers.node, limit="500")],
    ids=["nginx", "node"],
)
def test_nor_at_that_of_one_with_tls(
    command: Callable[[Path, int], list[str]], tmp_path: Path
) -> None:
    port = free_port()
    with running(command(tmp_path, port), port, tmp_path / "origin.out"):
        with tls_servers.front(port, tmp_path) as hopproxy:
            one = Race("hopproxy", hopproxy.port, 0.5)
            trio.run(race, [one], 8, 3)
    assert one.asked == 24
    assert dict(one.failed) == {}
    posts = tmp_path / "posts"
    if posts.exists():  # nginx's log
        words = [line.split() for line in posts.read_text().splitlines()]
        assert doubles([word[1] for word in words if word[0] == "POST"], one.seed) == 0


def test_no_request_is_lost_at_the_limit_of_an_origin_of_http2(tmp_path: Path) -> None:
    with origin(partial(node_h2, limit="1000"), tmp_path / "origin") as server:
        with proxy("hopproxy-h2", tmp_path / "proxy", server.port) as port:
            one = Race("hopproxy-h2", port, 1.0)
            trio.run(race, [one], 8, 3)
        posts = server.seen()
    assert one.asked == 24
    assert dict(one.failed) == {}
    assert doubles(posts, one.seed) == 0
    assert len(posts) == 20

"""The race with one real origin, short enough for every run; `tests.learn.race` has them all."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from tests.learn.race import Race, doubles, race
from tests.learn.servers import nginx, node_h2, origin, proxy
from tests.peers import tls_servers
from tests.peers.servers import running
from tests.ports import free_port

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


def test_nor_at_that_of_origins_with_tls(tmp_path: Path) -> None:
    commands = {
        "nginx": partial(tls_servers.nginx, limit="500ms"),
        "node": partial(tls_servers.node, limit="500"),
    }
    with ExitStack() as stack:
        races = []
        for name, command in commands.items():
            folder, port = tmp_path / name, free_port()
            folder.mkdir()
            stack.enter_context(running(command(folder, port), port, folder / "out"))
            hopproxy = stack.enter_context(tls_servers.front(port, folder))
            races.append(Race(name, hopproxy.port, 0.5))
        trio.run(race, races, 8, 3)
    assert [(one.name, one.asked, dict(one.failed)) for one in races] == [
        ("nginx", 24, {}),
        ("node", 24, {}),
    ]
    logged = (tmp_path / "nginx" / "posts").read_text().splitlines()
    words = [line.split() for line in logged]
    assert doubles([word[1] for word in words if word[0] == "POST"], races[0].seed) == 0


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

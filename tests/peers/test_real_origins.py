"""The sidecar before nginx, gunicorn, uvicorn and Node, asked by keep-alive clients and by curl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.peers.load import load
from tests.peers.servers import ORIGINS, origin, sidecar


@pytest.mark.parametrize("name", sorted(ORIGINS))
def test_twenty_clients_open_at_most_twenty_upstream_sockets(name: str, tmp_path: Path) -> None:
    with origin(name, tmp_path) as server, sidecar(server.port, tmp_path) as proxy:
        answers = load(proxy.port, clients=20, requests=1000)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.client for answer in answers}) == 20
    ports = {int(answer.body) for answer in answers}
    assert 1 <= len(ports) <= 20


def curl(*arguments: str) -> str:
    """Run curl and return what it printed."""
    command = [needs("curl", debian="curl"), "-sS", "--max-time", "10", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.exchanges
def test_client_close_of_curl_leaves_the_upstream_socket_pooled(tmp_path: Path) -> None:
    with origin("nginx", tmp_path) as server, sidecar(server.port, tmp_path) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/"
        upstream = [curl("-H", "Connection: close", url) for _ in range(3)]
        assert len(set(upstream)) == 1
        head = curl("-H", "Connection: close", "-D", "-", "-o", "/dev/null", url)
        assert "connection: close" in head.lower()


@pytest.mark.exchanges
def test_origin_close_leaves_the_link_of_curl_open(tmp_path: Path) -> None:
    with origin("nginx", tmp_path) as server, sidecar(server.port, tmp_path) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/close"
        output = curl("-w", " %{num_connects}\n", url, url, url)
    rows = [line.split() for line in output.splitlines()]
    assert [connects for _, connects in rows] == ["1", "0", "0"]
    assert len({upstream for upstream, _ in rows}) == 3

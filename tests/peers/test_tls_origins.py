"""TLS towards real servers: nginx, Node, uvicorn, OpenSSL's own."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.cli.command import finished
from tests.peers.load import load
from tests.peers.tls_servers import front, nginx, origin, s_server
from tests.ports import free_port


@pytest.mark.parametrize("name", ["nginx", "node", "uvicorn"])
def test_requests_save_all_handshakes_but_one_a_connection(name: str, tmp_path: Path) -> None:
    with origin(name, tmp_path) as server, front(server.port, tmp_path) as hopproxy:
        answers = load(hopproxy.port, clients=10, requests=300)
        done = hopproxy.metric("hopproxy_tls_handshakes_total", hop="upstream")
        saved = hopproxy.metric("hopproxy_tls_handshakes_saved_total", hop="upstream")
        opened = hopproxy.metric("hopproxy_upstream_opened_total")
    assert {answer.status for answer in answers} == {200}
    assert 1 <= done == opened <= 20
    assert saved == 300 - opened


@pytest.mark.parametrize("name", ["nginx", "node"])
def test_the_origin_sees_that_later_dials_resume(name: str, tmp_path: Path) -> None:
    with (
        origin(name, tmp_path) as server,
        front(server.port, tmp_path, pool="max_requests: 1") as hopproxy,
    ):
        seen = [hopproxy.get().split() for _ in range(4)]
    assert [resumed for resumed, _ in seen] == [".", "r", "r", "r"]
    assert len({port for _, port in seen}) == 4


def test_a_key_update_on_an_idle_link_does_not_retire_it(tmp_path: Path) -> None:
    """OpenSSL's server is told on its standard input what to send: K is a key update."""
    port = free_port()
    command = s_server(tmp_path, port)
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as server,
        front(port, tmp_path) as hopproxy,
        ExitStack() as stack,
    ):
        assert server.stdin is not None
        try:
            client = stack.enter_context(closing(hopproxy.connection()))
            for asked in (1, 2, 3):
                client.request("GET", "/")
                _wait_for(tmp_path / "said", b"GET / HTTP/1.1", asked)
                server.stdin.write(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")
                server.stdin.flush()
                response = client.getresponse()
                response.read()
                assert response.status == 200
                server.stdin.write(b"K\n")
                server.stdin.flush()
                time.sleep(0.2)
            assert hopproxy.metric("hopproxy_upstream_opened_total") == 1
            assert hopproxy.metric("hopproxy_link_closes_total", hop="upstream") == 0
        finally:
            server.kill()


def _wait_for(file: Path, text: bytes, times: int) -> None:
    deadline = time.monotonic() + 10
    while file.read_bytes().count(text) < times:
        assert time.monotonic() < deadline, file.read_bytes()
        time.sleep(0.01)


def test_probe_tells_versions_certificate_protocols_resumption_and_the_close(
    tmp_path: Path,
) -> None:
    port = free_port()
    command = nginx(tmp_path, port, limit="400ms")
    with subprocess.Popen(command) as server:
        try:
            time.sleep(0.3)
            ended = finished("probe", f"https://localhost:{port}", "--max", "1s", "--requests", "9")
        finally:
            server.terminate()
    rows = {line[:13].strip(): line[13:].strip() for line in ended.stdout.splitlines()}
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0
    assert rows["TLS"].startswith("1.2 and 1.3, TLS_")
    assert rows["resumes 1.2"].startswith("yes")
    assert rows["resumes 1.3"].startswith("yes")

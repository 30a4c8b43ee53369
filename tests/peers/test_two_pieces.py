"""Servers and clients whose second piece waits for the ACK of the first, on kept connections
through three proxies.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import finished
from tests.conftest import needs
from tests.learn.servers import nginx as nginx_origin
from tests.learn.servers import nginx_proxy
from tests.peers.servers import configured, needs_module, running
from tests.peers.two_pieces import BODY, SERVERS
from tests.ports import free_port

SETTINGS = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams: {{app: {{origins: ["http://127.0.0.1:{origin}"]}}}}
access_log: off
"""
CADDY = """
{{
  admin off
  auto_https off
  storage file_system {directory}/caddy
}}
http://127.0.0.1:{port} {{
  reverse_proxy 127.0.0.1:{origin}
}}
"""
ASKED = 20


@contextmanager
def caddy(directory: Path, origin: int) -> Iterator[int]:
    program, port = needs("caddy"), free_port()
    config = directory / "Caddyfile"
    config.write_text(CADDY.format(directory=directory, port=port, origin=origin))
    command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    with running(command, port, directory / "caddy.out", {"HOME": str(directory)}):
        yield port


@contextmanager
def nginx(directory: Path, origin: int) -> Iterator[int]:
    port = free_port()
    with running(nginx_proxy(directory, port, origin), port, directory / "nginx.out"):
        yield port


@contextmanager
def hopproxy(directory: Path, origin: int) -> Iterator[int]:
    port = free_port()
    with configured(SETTINGS.format(port=port, origin=origin), port, directory):
        yield port


def median(port: int) -> float:
    """Milliseconds of the median of the GETs behind the first, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    taken = []
    for _ in range(ASKED):
        began = time.perf_counter()
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, BODY)
        taken.append((time.perf_counter() - began) * 1000)
    connection.close()
    return statistics.median(taken[1:])


def check_beside_others(
    name: str, directory: Path, measured: Callable[[int], float] = median
) -> None:
    """Measure this server behind each proxy in turn: only ours does not wait for ACKs."""
    origin = free_port()
    command = [sys.executable, "-m", "tests.peers.two_pieces", name, str(origin)]
    with running(command, origin, directory / "origin.out"):
        with hopproxy(directory, origin) as port:
            ours = measured(port)
        with nginx(directory, origin) as port:
            of_nginx = measured(port)
        with caddy(directory, origin) as port:
            of_caddy = measured(port)
    print(f"{name}: hopproxy {ours:.1f} ms, nginx {of_nginx:.1f}, Caddy {of_caddy:.1f}")
    assert min(of_nginx, of_caddy) > 40
    assert ours < min(of_nginx, of_caddy) / 2


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_reused_gets_do_not_wait_for_our_ack_as_they_do_elsewhere(
    name: str, tmp_path: Path
) -> None:
    if name == "django":
        needs_module("django")
    check_beside_others(name, tmp_path)


def uploaded(port: int) -> float:
    """The median time of a POST in ms: a client with Nagle's algorithm sends head and body
    separately."""
    taken = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        sock.makefile("rb") as response,
    ):
        for _ in range(ASKED):
            began = time.perf_counter()
            sock.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n")
            sock.sendall(b"ok")
            head = b"".join(iter(response.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 200 ")
            assert response.read(2) == b"ok"
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def test_uploads_do_not_wait_for_our_ack_as_they_do_elsewhere(tmp_path: Path) -> None:
    check_beside_others("http.server", tmp_path, uploaded)


@pytest.mark.parametrize(
    ("name", "seen"),
    [("http.server", "the second waits for our delayed ACK"), ("nginx", "in one piece")],
)
def test_probe_says_whether_responses_wait_for_our_ack(
    name: str, seen: str, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.two_pieces", name, str(port)]
    if name == "nginx":
        command = nginx_origin(tmp_path, port)
    with running(command, port, tmp_path / "origin.out"):
        printed = finished("probe", str(port), "--max", "1s", "--requests", "2").stdout
    (line,) = (line for line in printed.splitlines() if line.startswith("responses"))
    assert seen in line

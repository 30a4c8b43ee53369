"""Real origins that serve few connections at a time: Python's http.server, and starman."""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.peers.servers import configured, nginx, running
from tests.ports import free_port

SETTINGS = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams:
  few: {{origins: ["http://127.0.0.1:{few}"], pool: {{max_connections: {most}}}}}
  many: {{origins: ["http://127.0.0.1:{many}"]}}
routes: [{{path: /many, upstream: many}}, {{path: /, upstream: few}}]
admin: {{bind: 127.0.0.1:{admin}}}
access_log: off
"""


def http_server(_: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "tests.peers.one_at_a_time", str(port)]


def starman(_: Path, port: int) -> list[str]:
    program = needs("starman")
    application = str(Path(__file__).with_name("answers.psgi"))
    listen = f"127.0.0.1:{port}"
    return [program, "--workers", "2", "--keepalive-timeout", "60", "--listen", listen, application]


FEW = {"http.server": http_server, "starman": starman}


@contextlib.contextmanager
def proxied(name: str, directory: Path, most: int = 256) -> Iterator[Callable[[], Client]]:
    """hopproxy before such an origin, and before nginx at /many: a call makes a client of it."""
    few, many, port = (free_port() for _ in range(3))
    settings = SETTINGS.format(port=port, few=few, many=many, most=most, admin=free_port())
    with (
        running(FEW[name](directory, few), few, directory / "few.out"),
        running(nginx(directory, many), many, directory / "many.out"),
        configured(settings, port, directory),
        contextlib.ExitStack() as opened,
    ):
        yield lambda: opened.enter_context(contextlib.closing(Client(port)))


class Client:
    """One keep-alive client, and how long each of its requests took."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.seconds: list[float] = []

    def ask(self, method: str = "GET", path: str = "/") -> None:
        began = time.monotonic()
        self._connection.request(method, path, body=b"hi" if method == "POST" else None)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200
        self.seconds.append(time.monotonic() - began)

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("name", sorted(FEW))
def test_a_post_after_a_pause_is_answered_at_once(name: str, tmp_path: Path) -> None:
    with proxied(name, tmp_path) as new_client:
        clients = [new_client() for _ in range(2)]
        for client in clients:
            client.ask()
        time.sleep(2)
        for client in clients:
            client.ask("POST")
        assert max(max(client.seconds) for client in clients) < 1.0


def used(new_client: Callable[[], Client], count: int) -> list[float]:
    """How long each of 30 requests of so many clients took, the shortest first."""
    clients = [new_client() for _ in range(count)]

    def use(client: Client) -> None:
        for number in range(30):
            client.ask("POST" if number % 5 == 4 else "GET")
            time.sleep(0.02)

    together([threading.Thread(target=use, args=(client,)) for client in clients])
    return sorted(one for client in clients for one in client.seconds)


# http.server's backlog is 5: where more wait, the kernel drops connections, and what then happens
# is a matter of its retransmissions.
@pytest.mark.parametrize(("name", "clients"), [("http.server", 5), ("starman", 8)])
def test_more_clients_than_it_serves_at_a_time_are_all_answered(
    name: str, clients: int, tmp_path: Path
) -> None:
    with proxied(name, tmp_path) as new_client:
        seconds = used(new_client, clients)
    assert len(seconds) == 30 * clients
    assert seconds[len(seconds) // 2] < 0.3
    assert seconds[-1] < 6.0


@pytest.mark.parametrize(("name", "most"), [("http.server", 1), ("starman", 2)])
def test_with_the_limit_that_probe_proposes_requests_take_turns(
    name: str, most: int, tmp_path: Path
) -> None:
    with proxied(name, tmp_path, most) as new_client:
        seconds = used(new_client, 20)
    assert len(seconds) == 600
    assert seconds[-1] < 2.0


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_requests_to_others_are_not_held_up(tmp_path: Path) -> None:
    """The fault happens every other half second, so that noise affects both cases alike."""
    with proxied("http.server", tmp_path) as new_client:
        staged, over = threading.Event(), threading.Event()
        waiting = [new_client() for _ in range(4)]

        def stage(client: Client) -> None:
            while not over.is_set():
                if staged.wait(0.1):
                    client.ask()
                    time.sleep(0.1)
                    client.ask("POST")

        stagers = [threading.Thread(target=stage, args=(client,)) for client in waiting]
        for thread in stagers:
            thread.start()
        other = new_client()
        other.ask("GET", "/many")
        calm, held_up = _alternately(other, staged)
        over.set()
        for thread in stagers:
            thread.join()
        assert min(len(client.seconds) for client in waiting) >= 4
    assert p99(held_up) <= max(2 * p99(calm), 0.02)


def _alternately(other: Client, staged: threading.Event) -> tuple[list[float], list[float]]:
    """How long the other's requests took without the fault, and with it."""
    calm: list[float] = []
    held_up: list[float] = []
    for turn in range(10):
        seconds = held_up if turn % 2 else calm
        (staged.set if turn % 2 else staged.clear)()
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:
            other.ask("GET", "/many")
            seconds.append(other.seconds[-1])
            time.sleep(0.002)
    return calm, held_up


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]

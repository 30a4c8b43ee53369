"""A real process with more clients than file descriptors: it never lacks one for itself."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Command, answering, finished, get, hopproxy, write_settings
from tests.peers.servers import origin
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

#: Clients at the same time, as many sockets of this process.
CROWD = 1100


@pytest.fixture(autouse=True)
def enough_sockets() -> None:
    """The crowd lives in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CROWD:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))


class Served:
    """A hopproxy with limited descriptors, its port and the URL of its admin listener."""

    def __init__(self, command: Command, url: str, admin: str) -> None:
        self.command = command
        self.pid = command.workers()[0]
        self.port = int(url.rpartition(":")[2])
        self.admin = admin

    def soft_limit(self) -> int:
        limits = Path(f"/proc/{self.pid}/limits").read_text()
        found = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def metric(self, name: str) -> float:
        body = get(self.admin, "/metrics")[2].decode()
        return float(next(x for x in body.splitlines() if x.startswith(name)).split()[-1])


@contextlib.contextmanager
def limited(folder: Path, origin_port: int, soft: int, hard: int) -> Iterator[Served]:
    admin = free_port()
    file, url = write_settings(folder, origin_port, f"admin: {{bind: 127.0.0.1:{admin}}}")

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with hopproxy(
        "run", "--config", str(file), until="listening on", preexec_fn=confine
    ) as command:
        yield Served(command, url, f"http://127.0.0.1:{admin}")
        assert command.stop() == 0
        assert "Traceback" not in command.said, command.said


def ask_all(port: int, count: int, target: str = "/") -> list[int]:
    """One request from each of many clients, which stay connected: the status of each answer."""
    statuses: list[int] = []
    with contextlib.ExitStack() as held, selectors.DefaultSelector() as selector:
        for _ in range(count):
            sock = held.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: crowd.test\r\n\r\n".encode())
            selector.register(sock, selectors.EVENT_READ)
        limit = time.monotonic() + 60
        while len(statuses) < count:
            ready = selector.select(1.0)
            assert time.monotonic() < limit, f"{len(statuses)} of {count} were answered"
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                head = key.fileobj.recv(4096)
                assert head, "closed without an answer"
                statuses.append(int(head[9:12]))
                selector.unregister(key.fileobj)
    return statuses


@pytest.mark.parametrize("hard", [4096, 1024])
def test_a_thousand_clients_beyond_the_soft_limit_are_all_answered(
    tmp_path: Path, hard: int
) -> None:
    with origin("nginx", tmp_path) as server, limited(tmp_path, server.port, 1024, hard) as served:
        assert served.soft_limit() == hard
        statuses = ask_all(served.port, CROWD)
        assert {status: statuses.count(status) for status in statuses} == {200: CROWD}
        assert get(served.admin, "/readyz")[0] == 200
        assert len(os.listdir(f"/proc/{served.pid}/fd")) < hard


def test_a_crowd_that_is_busy_takes_neither_dials_nor_the_admin_listener_away(
    tmp_path: Path,
) -> None:
    """Each request waits at the origin for a while, so that no link can make room."""
    port = free_port()
    with (
        answering(port, delay=0.3),
        limited(tmp_path, port, 100, 100) as served,
        contextlib.ExitStack() as crowd,
    ):
        for _ in range(150):  # these say nothing, and wait for a descriptor
            crowd.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        assert 10 <= served.metric("hopproxy_client_links_limit") <= 40
        assert ask_all(served.port, 60) == [200] * 60
        assert get(served.admin, "/healthz")[0] == 200
        assert get(served.admin, "/readyz")[0] == 200
        assert len(os.listdir(f"/proc/{served.pid}/fd")) < 100


@pytest.mark.parametrize("limit", [64, 32])
def test_silent_connections_to_the_admin_listener_take_nobody_a_descriptor(
    tmp_path: Path, limit: int
) -> None:
    port = free_port()
    with (
        answering(port),
        limited(tmp_path, port, limit, limit) as served,
        contextlib.ExitStack() as silent,
    ):
        address = served.admin.removeprefix("http://").split(":")
        for _ in range(60):
            sock = socket.create_connection((address[0], int(address[1])))
            silent.callback(sock.close)
        assert get(served.admin, "/healthz")[0] == 200
        assert ask_all(served.port, 30) == [200] * 30
        assert get(served.admin, "/readyz")[0] == 200


def test_run_and_check_warn_of_more_connections_than_descriptors(tmp_path: Path) -> None:
    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024))

    file, _ = write_settings(tmp_path, free_port())
    checked = finished("check", "--config", str(file), preexec_fn=confine)
    warning = "warning: client.max_connections: 4096 do not fit in 1024 file descriptors"
    assert warning in checked.stdout
    assert checked.returncode == 0
    with hopproxy(
        "run", "--config", str(file), until="listening on", preexec_fn=confine
    ) as command:
        assert warning in command.said


def test_nobody_warns_where_everything_fits(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, free_port(), "client: {max_connections: 500}")
    assert "descriptors" not in finished("check", "--config", str(file)).stdout

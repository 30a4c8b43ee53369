"""Faults of the machine staged beside real load: the other requests hardly notice.

Each compares two proxies in one run, one with the fault and one without, round by round.  A stall
of the machine can spoil a round; a proxy that suffers from the fault is slow in every round.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.load import Answer, load
from tests.peers.servers import Server, hopproxy_command, origin, running
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and limits of Linux")

ROUNDS = 6
CLIENTS = 16

SETTINGS = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams: {{app: {{origins: [http://127.0.0.1:{origin}]}}}}
admin: {{bind: 127.0.0.1:{admin}}}
access_log: {log}
"""


def p99(answers: list[Answer]) -> float:
    """The 99th percentile; every answer has to be a 200."""
    assert {answer.status for answer in answers} == {200}
    return sorted(answer.seconds for answer in answers)[int(len(answers) * 0.99)]


def hardly_notice(well: Callable[[], float], faulty: Callable[[], float]) -> None:
    """Measure both in turn until the one with the fault is at most twice as slow."""
    ratios = []
    for _ in range(ROUNDS):
        usual = well()
        ratios.append(faulty() / usual)
        if ratios[-1] <= 2:
            return
    raise AssertionError(f"p99 was {min(ratios):.1f} times the usual, or more")


@contextlib.contextmanager
def proxy(folder: Path, origin_port: int, shell: str, log: str = "off") -> Iterator[Server]:
    """A hopproxy begun by a shell script, which ends with `exec "$@"` and its redirections."""
    folder.mkdir()
    port = free_port()
    config = folder / "hopproxy.yaml"
    config.write_text(SETTINGS.format(port=port, origin=origin_port, admin=free_port(), log=log))
    command = ["sh", "-c", shell, "sh", *hopproxy_command(config)]
    with running(command, port, folder / "hopproxy.out") as server:
        yield server


# -- a log that nobody reads -----------------------------------------------------------------


@contextlib.contextmanager
def logging_to_a_pipe(folder: Path, origin_port: int) -> Iterator[tuple[Server, int]]:
    """A proxy with both streams on one pipe, and the process that reads them."""
    fifo = folder.with_suffix(".fifo")
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.DEVNULL) as reader:
        try:
            with proxy(folder, origin_port, f'exec "$@" >{fifo} 2>&1', "json") as server:
                yield server, reader.pid
        finally:
            reader.kill()


def long_targets(port: int, requests: int) -> list[Answer]:
    """Requests whose lines fill a log fast."""
    return load(port, CLIENTS, requests, lambda number: f"/{'x' * 1000}?{number}")


def test_a_log_reader_that_stops_costs_requests_no_time(tmp_path: Path) -> None:
    with (
        origin("nginx", tmp_path) as server,
        logging_to_a_pipe(tmp_path / "well", server.port) as (well, _),
        logging_to_a_pipe(tmp_path / "faulty", server.port) as (faulty, reader),
    ):
        os.kill(reader, signal.SIGSTOP)
        for one in (well, faulty):
            long_targets(one.port, 4000)  # past what may wait in memory
            for _ in range(200):
                one.process.send_signal(signal.SIGUSR1)  # which is told on standard error
                load(one.port, 1, 1)
        hardly_notice(
            lambda: p99(long_targets(well.port, 2000)),
            lambda: p99(long_targets(faulty.port, 2000)),
        )
        faulty.process.terminate()
        assert faulty.process.wait(10) == 0


# -- more clients than descriptors -----------------------------------------------------------

#: Open files of the proxy, and clients that ask once and stay connected as long as they may.
LIMIT, CROWD = 256, 400


def dialled(port: int) -> list[Answer]:
    """Requests that need a new connection to the origin each.

    So few that the first one of each client, which waits to be accepted, counts in the p99.
    """
    return load(port, CLIENTS, 75 * CLIENTS, lambda _: "/close")


def test_more_clients_than_descriptors_cost_the_others_no_time(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * CROWD)), hard))
    limited = f'ulimit -n {LIMIT}; exec "$@"'
    with (
        origin("nginx", tmp_path) as server,
        proxy(tmp_path / "well", server.port, limited) as well,
        proxy(tmp_path / "faulty", server.port, limited) as faulty,
        contextlib.ExitStack() as crowd,
    ):
        for _ in range(CROWD):
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", faulty.port), 10))
            client.sendall(b"GET / HTTP/1.1\r\nHost: crowd.test\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        hardly_notice(lambda: p99(dialled(well.port)), lambda: p99(dialled(faulty.port)))

"""Active checks with several workers: one of them checks, all of them know."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, STEP, get, hopproxy
from tests.cli.test_serving import LISTENING
from tests.ports import free_port
from tests.workers.test_workers import Crew, is_serving, stopped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Checked(ThreadingHTTPServer):
    """An origin that notes when it is checked, and answers with a status that may change."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        self.times: list[float] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    def watched(self, seconds: float) -> list[float]:
        """The times of the checks in the next seconds."""
        self.times.clear()
        time.sleep(seconds)
        return list(self.times)


class _Answer(BaseHTTPRequestHandler):
    server: Checked

    def do_GET(self) -> None:
        self.server.times.append(time.monotonic())
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the test speaks."""


@contextmanager
def checked() -> Iterator[Checked]:
    origin = Checked()
    thread = threading.Thread(target=origin.serve_forever, args=(STEP,))
    thread.start()
    try:
        yield origin
    finally:
        origin.shutdown()
        thread.join()
        origin.server_close()


def test_one_worker_checks_another_follows_it_and_all_know_what_it_finds(tmp_path: Path) -> None:
    admin, port, file = free_port(), free_port(), tmp_path / "hopproxy.yaml"
    with checked() as origin:
        url = f"http://127.0.0.1:{origin.server_address[1]}"
        check = "{path: /healthz, interval: 1s, timeout: 1s, fall: 1, rise: 1}"
        file.write_text(
            f"workers: 2\nlisteners: [{{bind: 127.0.0.1:{port}}}]\n"
            f"admin: {{bind: 127.0.0.1:{admin}}}\n"
            f"upstreams: {{app: {{origins: ['{url}'], health: {{check: {check}}}}}}}\n"
        )
        with hopproxy("run", str(file), until=LISTENING) as command:
            two = Crew(command, url, f"http://127.0.0.1:{admin}", origin)  # type: ignore[arg-type]
            pids = two.workers()
            times = origin.watched(2.2)
            assert 2 <= len(times) <= 3
            assert min(after - before for before, after in pairwise(times)) > 0.8
            with stopped(pids[0]):
                assert origin.watched(1.5), "another worker goes on"
            origin.status = 503
            until(lambda: readiness(two) == {503})
            origin.status = 200
            until(lambda: readiness(two) == {200})
            assert command.stop() == 0


def test_a_worker_goes_on_with_the_checks_of_the_one_before_it(tmp_path: Path) -> None:
    """It is the only one; after SIGUSR2 it is the same."""
    port, file = free_port(), tmp_path / "hopproxy.yaml"
    with checked() as origin:
        file.write_text(
            f"listeners: [{{bind: 127.0.0.1:{port}}}]\nupstreams:\n  app:\n"
            f"    origins: ['http://127.0.0.1:{origin.server_address[1]}']\n"
            "    health: {check: {path: /, interval: 60s}}\n"
        )
        with hopproxy("run", str(file), until=LISTENING) as command:
            until(lambda: len(origin.times) == 1)
            time.sleep(STEP)
            [worker] = command.workers()
            os.kill(worker, signal.SIGKILL)
            command.wait_for("another one is started")
            until(lambda: all(map(is_serving, command.workers())))
            command.process.send_signal(signal.SIGUSR2)
            command.wait_for("others have taken over")
            assert len(origin.times) == 1
            assert command.stop() == 0


def readiness(crew: Crew) -> set[int]:
    """What the workers say; any of them answers."""
    return {get(crew.admin, "/readyz")[0] for _ in range(8)}


def until(holds: object) -> None:
    assert callable(holds)
    limit = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.1)

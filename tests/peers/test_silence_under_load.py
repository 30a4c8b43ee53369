"""Origins and names that do not answer, under load: they cost other requests nothing.

Each test measures the same load with and without the fault, in turns, and asks that the 99th
percentile is at most twice as long.  A stall of the machine can spoil a round, but not all of them.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.peers.load import Answer, load, paced
from tests.peers.servers import Server, origin, running
from tests.ports import fill, free_port

ROUNDS = 3
#: Milliseconds are the machine's own noise; a fault costs hundreds of them.
LEAST = 0.01


@contextlib.contextmanager
def hopproxy(settings: str, directory: Path) -> Iterator[Server]:
    """Run hopproxy with these settings and `tests.peers.names`."""
    port = free_port()
    config = directory / f"{port}.yaml"
    config.write_text(f"listeners: [{{bind: 127.0.0.1:{port}}}]\naccess_log: off\n{settings}")
    command = [sys.executable, "-m", "tests.peers.names", "run", "--config", str(config)]
    with running(command, port, directory / f"{port}.out") as server:
        yield server


@contextlib.contextmanager
def silent(host: str, port: int = 0) -> Iterator[int]:
    """Listen at an address that accepts nothing: its backlog is full.  Gives its port."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        opened.enter_context(fill(listener))
        yield listener.getsockname()[1]


def p99(answers: list[Answer]) -> float:
    """Seconds within which 99 of 100 were answered, each of them well."""
    assert {answer.status for answer in answers} == {200}
    times = sorted(answer.seconds for answer in answers)
    return times[len(times) * 99 // 100]


def expect_no_cost(without: Callable[[], list[Answer]], fault: Callable[[], list[Answer]]) -> None:
    """The fault at most doubles the 99th percentile."""
    seen = []
    for _ in range(ROUNDS):
        usual, troubled = p99(without()), p99(fault())
        seen.append(f"{usual * 1000:.1f} ms without, {troubled * 1000:.1f} with")
        if troubled <= 2 * max(usual, LEAST):
            return
    raise AssertionError("; ".join(seen))


def test_a_silent_address_of_a_name_costs_others_nothing(tmp_path: Path) -> None:
    with origin("nginx", tmp_path) as nginx, silent("127.0.0.2", nginx.port):
        address = "upstreams: {{app: {{origins: [http://{}:{}]}}}}"
        with (
            hopproxy(address.format("answers.test", nginx.port), tmp_path) as usual,
            hopproxy(address.format("two.test", nginx.port), tmp_path) as troubled,
        ):
            paced(troubled.port, 1, 0.1, 0.1)  # the first dial finds out
            expect_no_cost(
                lambda: paced(usual.port, 10, 2.0, 0.05, "/close"),
                lambda: paced(troubled.port, 10, 2.0, 0.05, "/close"),
            )


def test_an_origin_that_does_not_answer_delays_no_others(tmp_path: Path) -> None:
    with origin("nginx", tmp_path) as nginx, silent("127.0.0.2") as port:
        two = "upstreams: {{app: {{origins: [http://127.0.0.1:{}, http://{}:{}]}}}}"
        with (
            hopproxy(two.format(nginx.port, "localhost", nginx.port), tmp_path) as usual,
            hopproxy(two.format(nginx.port, "127.0.0.2", port), tmp_path) as troubled,
        ):
            paced(troubled.port, 20, 1.0, 0.05)  # the first requests find out
            expect_no_cost(
                lambda: paced(usual.port, 20, 3.0, 0.05),
                lambda: paced(troubled.port, 20, 6.0, 0.05),
            )


def test_a_name_that_hangs_takes_no_other_upstream_along(tmp_path: Path) -> None:
    settings = """
upstreams:
  hangs: {{origins: [http://hangs.test:{port}]}}
  answers: {{origins: [http://answers.test:{port}]}}
routes: [{{path: /hangs, upstream: hangs}}, {{upstream: answers}}]
"""
    with (
        origin("nginx", tmp_path) as nginx,
        hopproxy(settings.format(port=nginx.port), tmp_path) as server,
    ):

        def others() -> list[Answer]:
            return paced(server.port, 10, 2.0, 0.05, "/close")

        def beside() -> list[Answer]:
            hung: list[Answer] = []
            with contextlib.ExitStack() as opened:
                waiting = threading.Thread(
                    target=lambda: hung.extend(load(server.port, 100, 100, lambda _: "/hangs"))
                )
                waiting.start()
                opened.callback(waiting.join)
                time.sleep(0.2)
                answers = others()
            assert {answer.status for answer in hung} == {504}
            return answers

        expect_no_cost(others, beside)


def test_a_stop_does_not_wait_for_look_ups(tmp_path: Path) -> None:
    settings = "upstreams: {app: {origins: ['http://hangs.test'], connect_timeout: 200ms}}"
    with hopproxy(settings, tmp_path) as server:
        assert {answer.status for answer in paced(server.port, 5, 0.1, 0.1)} == {504}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0

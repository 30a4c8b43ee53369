"""The life of a proxy under load: reloads, a bad file, a new program, a crash, and a stop.

    python -m tests.workers.under_load [--rate 1000] [--seconds 60]

No request may fail but those that were in flight on the worker that crashes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.cli.command import PATIENCE, STEP, Command, children_of, hopproxy
from tests.ports import free_port
from tests.workers.test_workers import is_serving

#: Seconds after a kill within which its connections have ended.
SOON = 1.0


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[str]]:
    """One of `tests.workers.traffic`."""
    command = [sys.executable, "-m", "tests.workers.traffic", *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """End a program: what it has seen."""
    out, _ = process.communicate(timeout=PATIENCE)
    found: dict[str, Any] = json.loads(out)
    return found


class Echo(threading.Thread):
    """A connection that was upgraded, and is used all the time."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._over = threading.Event()
        self.echoes = 0
        self.error = ""
        self.start()

    def run(self) -> None:
        try:
            self._sock.sendall(
                b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            assert self._sock.recv(4096).startswith(b"HTTP/1.1 101")
            while not self._over.wait(0.02):
                self._sock.sendall(b"%d" % self.echoes)
                assert self._sock.recv(4096) == b"%d" % self.echoes
                self.echoes += 1
        except (OSError, AssertionError) as error:
            self.error = repr(error)

    def goes_on(self) -> bool:
        """Wait for one more echo; whether it comes."""
        before, limit = self.echoes, time.monotonic() + PATIENCE
        while self.echoes == before and not self.error and time.monotonic() < limit:
            time.sleep(STEP)
        return self.echoes > before

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE)
        self._sock.close()


class Life:
    """A proxy with two workers, its settings file, and the times of what was done to it."""

    def __init__(self, folder: Path, origin: int) -> None:
        self.file = folder / "hopproxy.yaml"
        self.port = free_port()
        self._origin = origin
        self.write(0)
        self.command: Command
        self.killed_at = self.stopped_at = 0.0
        self.lost = 0
        self.end: Callable[[], Outcome]

    def write(self, change: int) -> None:
        """Settings that differ in what is added to responses, and now and then in the upstream."""
        self.file.write_text(
            f"workers: 2\naccess_log: off\ndrain_delay: 1s\ndrain_timeout: 10s\n"
            f"listeners: [{{bind: 127.0.0.1:{self.port}}}]\n"
            f"upstreams:\n"
            f"  app: {{origins: [{self._origin}], response_timeout: {60 + change // 2}s}}\n"
            f"  echo: {{origins: [{self._origin}]}}\n"
            f"routes:\n  - {{path: /echo, upstream: echo}}\n"
            f"  - {{upstream: app, response_fields: {{set: {{X-Change: '{change}'}}}}}}\n"
        )

    def workers(self) -> list[int]:
        """Both, once both serve."""
        limit = time.monotonic() + PATIENCE
        while len(found := children_of(self.command.process.pid)) != 2 or not all(
            map(is_serving, found)
        ):
            assert time.monotonic() < limit, self.command.said
            time.sleep(STEP)
        return found

    def _hang_up(self, said: str) -> None:
        before = len(re.findall(said, self.command.said))
        self.command.process.send_signal(signal.SIGHUP)
        limit = time.monotonic() + PATIENCE
        while len(re.findall(said, self.command.said)) == before:
            assert time.monotonic() < limit, self.command.said
            time.sleep(STEP)

    def reload(self, change: int) -> None:
        """Reload with other settings."""
        self.write(change)
        self._hang_up("reloaded in")

    def reload_nonsense(self) -> None:
        """Reload with a file that is none."""
        self.file.write_text("listeners: [")
        self._hang_up("not reloaded")

    def take_over(self) -> None:
        """Have a new program take over, and wait until the old workers have gone."""
        old = set(self.workers())
        self.command.process.send_signal(signal.SIGUSR2)
        limit = time.monotonic() + PATIENCE
        while old & set(children_of(self.command.process.pid)):
            assert time.monotonic() < limit, self.command.said
            time.sleep(STEP)

    def kill(self) -> None:
        """Kill a worker, and wait until another one has taken its place."""
        worker = self.workers()[1]
        self.killed_at = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        said = self.command.wait_for(rf"pid {worker}\) was killed by SIGKILL: (\d+) connection")
        self.lost = int(said[1])
        self.workers()

    def stop(self) -> None:
        """Stop it politely."""
        self.stopped_at = time.monotonic()
        assert self.command.stop() == 0


class Outcome:
    """What has become of all requests."""

    def __init__(self, life: Life, clients: list[dict[str, Any]], origin: dict[str, Any]) -> None:
        self.life = life
        self.clients = clients
        self.origin = origin
        self.answered = sum(one["answered"] for one in clients)
        self.again = sum(one["again"] for one in clients)
        self.unanswered = sum(one["unanswered"] for one in clients)
        self.failures = [failure for one in clients for failure in one["failures"]]
        ends = [end for one in clients for end in one["ends"]]
        soon = [end for end in ends if 0 <= end[0] - life.killed_at < SOON]
        #: Connections that ended with the worker that was killed, and requests on them.
        self.broken = len(soon)
        self.in_flight = sum(end[1] for end in soon)

    def wrong(self) -> list[str]:
        """What should not have happened."""
        life = self.life
        found = [
            f"{at - life.killed_at:+.3f} s after the kill, {life.stopped_at - at:.3f} s before the "
            f"stop: request {number}, {method}: {why}"
            for at, number, method, why in self.failures
            if not 0 <= at - life.killed_at < SOON
        ]
        if len(self.failures) - len(found) > self.in_flight:
            found.append("more requests failed at the kill than were in flight on its connections")
        # The worker also counts a connection that its client is closing or opening at that moment.
        if not self.broken <= life.lost <= self.broken + 2:
            found.append(f"{self.broken} connections broke at the kill, {life.lost} in the log")
        if self.unanswered:
            found.append(f"{self.unanswered} requests have no answer")
        if self.origin["twice"]:
            found.append(f"POSTs that came twice: {self.origin['twice']}")
        if any(
            one["down_at"] is not None and one["down_at"] < life.stopped_at for one in self.clients
        ):
            found.append("a connection was refused before the stop")
        return found


@contextmanager
def life(folder: Path, rate: float, processes: int) -> Iterator[Life]:
    """A proxy under load.  Its `end` says what has become of the requests."""
    port = free_port()
    with ExitStack() as programs:
        origin = programs.enter_context(program("origin", str(port)))
        found = Life(folder, port)
        with hopproxy("run", str(found.file), until="listening on") as found.command:
            found.workers()
            words = "clients", str(found.port), str(rate / processes)
            loads = [programs.enter_context(program(*words)) for _ in range(processes)]
            found.end = lambda: Outcome(found, [told(load) for load in loads], told(origin))
            yield found


def main() -> int:
    """The whole of it; 0 if no request failed that should not have."""
    parser = argparse.ArgumentParser(prog="python -m tests.workers.under_load", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    pause = options.seconds / 15
    with tempfile.TemporaryDirectory() as name, life(Path(name), options.rate, 2) as one:
        began = time.monotonic()
        echo = Echo(one.port)
        time.sleep(pause)
        for change in range(1, 11):
            one.reload(change)
            time.sleep(pause)
            if change == 5:
                one.reload_nonsense()
        echo.stop()
        one.take_over()
        time.sleep(pause)
        one.kill()
        time.sleep(pause)
        one.stop()
        outcome = one.end()
    took = one.stopped_at - began
    print(f"{outcome.answered} requests answered, {outcome.answered / took:.0f} a second")
    for client in outcome.clients:
        median, p99 = client["median"] * 1000, client["p99"] * 1000
        print(
            f"median {median:.1f} ms, p99 {p99:.1f} ms; the client took {client['cpu']:.1f} s CPU"
        )
    print(f"upgraded connection: {echo.echoes} echoes over all reloads; {echo.error or 'no error'}")
    print(f"POSTs at the origin: {outcome.origin['posts']}, twice: {len(outcome.origin['twice'])}")
    print(f"sent again, since the proxy said that it had done nothing: {outcome.again}")
    print(
        f"the worker that was killed: {one.lost} connections by the log, {outcome.broken} by the "
        f"clients, with {outcome.in_flight} requests in flight:"
    )
    for at, number, method, why in outcome.failures:
        print(f"  failed {at - one.killed_at:+.3f} s after it: {number}, {method}: {why}")
    wrong = outcome.wrong() + ([echo.error] if echo.error else [])
    for line in wrong[:40]:
        print(f"wrong: {line}")
    print(f"wrong: {len(wrong)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""An origin is killed and started again under load: what may be sent again is saved, no POST is."""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.peers.servers import ROOT, sidecar

KILLS = 3
SERVED_BETWEEN = 300


class Mortal:
    """The origin's process, over a listening socket that outlives it."""

    def __init__(self, listener: socket.socket, log: Path) -> None:
        self.listener, self.log = listener, log
        self.log.touch()
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        fd = self.listener.fileno()
        command = [sys.executable, "-m", "tests.peers.mortal", str(fd), str(self.log)]
        return subprocess.Popen(command, pass_fds=[fd], cwd=ROOT)

    def die_and_rise(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self.process = self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def serve_some(self, count: int) -> None:
        """Wait until that many requests more have come."""
        wanted = len(self.lines()) + count
        deadline = time.monotonic() + 20
        while len(self.lines()) < wanted:
            assert time.monotonic() < deadline, f"{len(self.lines())} of {wanted} requests came"
            time.sleep(0.02)


class Caller(threading.Thread):
    """A keep-alive client that asks without pause and keeps the status of each id."""

    def __init__(self, port: int, method: str, number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.method, self.number, self.over = port, method, number, over
        self.statuses: dict[str, int] = {}
        self.connects = 0

    def run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        for turn in itertools.count():
            if self.over.is_set():
                break
            if client.sock is None:
                self.connects += 1
            name = f"{self.method}-{self.number}-{turn}"
            self.statuses[name] = 0
            client.request(self.method, f"/{name}", b"body" if self.method == "POST" else None)
            response = client.getresponse()
            body = response.read()
            self.statuses[name] = response.status
            assert response.status != 200 or body == name.encode()
        client.close()


def call_through_kills(port: int, origin: Mortal) -> list[Caller]:
    """Kill the origin some times while callers ask; return the callers."""
    over = threading.Event()
    callers = [Caller(port, "GET", number, over) for number in range(6)]
    callers += [Caller(port, "POST", number, over) for number in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(KILLS):
            origin.serve_some(SERVED_BETWEEN)
            origin.die_and_rise()
        origin.serve_some(SERVED_BETWEEN)
    finally:
        over.set()
        for caller in callers:
            caller.join(20)
    return callers


@pytest.mark.exchanges
def test_killed_origin_costs_no_get_and_repeats_no_post(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        origin = Mortal(listener, tmp_path / "requests")
        try:
            with sidecar(listener.getsockname()[1], tmp_path) as proxy:
                callers = call_through_kills(proxy.port, origin)
        finally:
            origin.stop()
    turns = defaultdict(list)
    for line in origin.lines():
        _, name, turn = line.split()
        turns[name].append(turn)
    statuses = {name: status for caller in callers for name, status in caller.statuses.items()}
    assert set(statuses.values()) <= {200, 502}
    assert {caller.connects for caller in callers} == {1}

    posts = Counter({name: len(seen) for name, seen in turns.items() if name[0] == "P"})
    assert max(posts.values()) == 1
    gets = [name for name in statuses if name[0] == "G"]
    # A request on a fresh socket is not sent again, nor is one that was sent again already.
    excused = {name for name in gets if len(turns[name]) > 1 or turns[name] == ["first"]}
    assert [name for name in gets if statuses[name] != 200 and name not in excused] == []
    assert any(statuses[name] == 200 and len(turns[name]) == 2 for name in gets)

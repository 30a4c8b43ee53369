"""A real process whose logs are not read: it serves, counts lost lines, and drains."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import HOPPROXY, PATIENCE, STEP, Server, answering, get, write_settings
from tests.cli.test_serving import Slow
from tests.peers.load import load
from tests.peers.servers import listens
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and terminals of Linux")

#: Requests, and signals that write to standard error.
MANY = 12


class Unread:
    """A pair of descriptors; the process writes to `theirs`, `ours` is not read."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs

    def fill(self) -> None:
        """Leave room for less than a line."""
        with contextlib.suppress(BlockingIOError):
            if stat.S_ISSOCK(os.fstat(self.theirs).st_mode):
                with socket.socket(fileno=os.dup(self.theirs)) as sock:
                    while True:
                        sock.send(b"x\n", socket.MSG_DONTWAIT)
            own = os.open(f"/proc/self/fd/{self.theirs}", os.O_WRONLY | os.O_NONBLOCK)
            try:
                while True:
                    os.write(own, b"x\n")
            finally:
                os.close(own)


def pipe() -> Unread:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return Unread(reader, writer)


def terminal() -> Unread:
    return Unread(*pty.openpty())


def socket_pair(kind: socket.SocketKind) -> Unread:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return Unread(ours.detach(), theirs.detach())


ENDS: dict[str, Callable[[], Unread]] = {
    "a terminal": terminal,
    "a pipe": pipe,
    "a stream socket": lambda: socket_pair(socket.SOCK_STREAM),
    "a datagram socket": lambda: socket_pair(socket.SOCK_DGRAM),
}
STREAMS = ["output", "error", "both"]


class Proxy:
    """A hopproxy in front of `origin`; one of its streams, or both, are not read."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, admin: str) -> None:
        self.process = process
        self.url = url
        self.admin = admin

    def speak(self) -> None:
        """Cause lines on both streams."""
        for number in range(MANY):
            self.process.send_signal(signal.SIGUSR1)
            assert get(self.url, f"/{number}")[0] == 200


@contextlib.contextmanager
def proxy(folder: Path, origin: int, unread: Unread, streams: str) -> Iterator[Proxy]:
    admin = free_port()
    file, url = write_settings(
        folder, origin, f"admin: {{bind: 127.0.0.1:{admin}}}\ndrain_timeout: 15s"
    )
    process = subprocess.Popen(
        [*HOPPROXY, "run", "--config", str(file)],
        stdout=subprocess.DEVNULL if streams == "error" else unread.theirs,
        stderr=subprocess.DEVNULL if streams == "output" else unread.theirs,
    )
    try:
        limit = time.monotonic() + PATIENCE
        while not listens(int(url.rpartition(":")[2])):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(STEP)
        yield Proxy(process, url, f"http://127.0.0.1:{admin}")
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(unread.ours)
        os.close(unread.theirs)


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_log_that_is_not_read_holds_up_neither_requests_nor_the_drain(
    tmp_path: Path, end: Callable[[], Unread], streams: str
) -> None:
    port, unread = free_port(), end()
    with answering(port, b"whole") as origin, proxy(tmp_path, port, unread, streams) as served:
        served.speak()
        unread.fill()
        served.speak()
        assert get(served.admin, "/healthz")[0] == 200
        assert os.get_blocking(unread.theirs), "it is shared with whoever else writes there"
        drain(served, origin)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_log_that_fills_up_under_load_delays_no_others(
    tmp_path: Path, end: Callable[[], Unread]
) -> None:
    port, unread = free_port(), end()
    long = "x" * 1000
    with answering(port, b"whole") as origin, proxy(tmp_path, port, unread, "output") as served:
        answers = load(int(served.url.rpartition(":")[2]), 16, 300, lambda n: f"/{long}{n}")
        assert {answer.status for answer in answers} == {200}
        assert get(served.admin, "/healthz")[0] == 200
        drain(served, origin)


def drain(served: Proxy, origin: Server) -> None:
    """What is under way ends whole, and then the process does."""
    origin.asked.clear()
    request = Slow(served.url, origin, 0.3)
    begun = time.monotonic()
    served.process.terminate()
    assert served.process.wait(PATIENCE) == 0
    assert time.monotonic() - begun < 5
    request.join()
    assert request.answer is not None
    assert request.answer[2] == b"whole"

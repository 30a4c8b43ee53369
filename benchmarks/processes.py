"""Child processes pinned to one core each, and what the kernel has counted for them.

CPU time and memory are always those of the whole tree under a process (an nginx master and its
worker are one proxy), so that no proxy hides its work in a child.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks.tls import client_context

TICK = 1 / os.sysconf("SC_CLK_TCK")
WANTED_FILES = 65536
GOOD_BODY = b"Hello, world\n"


class NotReady(Exception):
    """A process ended, or gave no good answer in time; carries the end of what it printed."""


@dataclass(frozen=True)
class Cores:
    """Which core carries the proxy and which one all else; the same where there is only one."""

    proxy: int
    load: int

    @property
    def shared(self) -> bool:
        return self.proxy == self.load


@dataclass(frozen=True)
class Launch:
    """What is executed: arguments and additions to the environment."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def pick_cores() -> Cores:
    """The last allowed core for the proxy, the first for load generator and origin."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[-1], load=allowed[0])


def raise_file_limit() -> int:
    """Allow the open files wanted, or as many as we may; returns the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((WANTED_FILES, max(hard, WANTED_FILES)), (min(hard, WANTED_FILES), hard)):
        with suppress(ValueError, OSError):
            if soft < WANTED_FILES:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
                break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child in its own process group, pinned to one core, its output in a file.

    With `core` None it may use every core.
    """

    def __init__(self, launch: Launch, core: int | None, output: Path) -> None:
        self._output = output
        cores = os.sched_getaffinity(0) if core is None else {core}
        with output.open("wb") as sink:
            self._child = subprocess.Popen(
                launch.argv,
                env={**os.environ, **launch.env},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def ended(self) -> bool:
        return self._child.poll() is not None

    def output(self) -> str:
        """The last 2,000 characters the process has printed."""
        return self._output.read_text(errors="replace")[-2000:]

    def wait(self, seconds: float) -> str:
        """Wait for the end; returns the output.  Raises NotReady on failure or lateness."""
        try:
            status = self._child.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise NotReady(f"{self._child.args!r} did not end in {seconds:g} s") from error
        if status != 0:
            raise NotReady(f"{self._child.args!r} ended with {status}: {self.output()}")
        return self._output.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, three seconds, SIGKILL to the whole group."""
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(3)
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def cpu_seconds(self) -> float:
        """User and system time of the tree and its ended children, in steps of one kernel tick."""
        return sum(_cpu_ticks(pid) for pid in _tree(self._child.pid)) * TICK

    def pss(self) -> int:
        """Bytes of memory of the tree, each shared page counted in proportion (PSS)."""
        return sum(_rollup(pid, "Pss:") for pid in _tree(self._child.pid))

    def rss(self) -> int:
        """Bytes of resident memory of the tree; shared pages count once for each process."""
        return sum(_rollup(pid, "Rss:") for pid in _tree(self._child.pid))


def answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether a GET of the path is answered 200 on this port now, with exactly the good body."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    answer = b""
    with suppress(OSError), connected(port, tls=tls) as link:
        link.sendall(request)
        while not answer.endswith(GOOD_BODY) and (more := link.recv(4096)):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b" ")[1:2] == [b"200"] and body == GOOD_BODY


def connected(port: int, *, tls: bool, seconds: float = 2, alpn: str = "") -> socket.socket:
    """A connection to this port, with TLS (and this protocol) or without.  Raises OSError."""
    link = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    if not tls:
        return link
    context = client_context()
    if alpn:
        context.set_alpn_protocols([alpn])
    try:
        return context.wrap_socket(link, server_hostname="localhost")
    except OSError:
        link.close()
        raise


def wait_until_good(
    process: Process, port: int, path: str, seconds: float = 20, *, tls: bool = False
) -> float:
    """Poll each millisecond until the path is answered 200; returns the monotonic time of that.

    Raises NotReady when the process ends or the seconds are over.
    """
    limit = time.monotonic() + seconds
    while not answers(port, path, tls=tls):
        if process.ended() or time.monotonic() > limit:
            raise NotReady(
                f"no good answer in {seconds:g} s; it printed: {process.output().strip()}"
            )
        time.sleep(0.001)
    return time.monotonic()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:  # the list grows while it is walked
        with suppress(OSError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(int(child) for child in children.read_text().split())
    return found


def _cpu_ticks(pid: int) -> int:
    """Fields 14-17 of /proc/PID/stat: utime, stime, and both of the children waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    after_name = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in after_name[11:15])


def _rollup(pid: int, row: str) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(row))


@contextmanager
def holding(core: int, *argv: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """A Python module that holds something while the block runs: its input and its output.

    It says `ready` once it does.  Raises NotReady with what it says instead.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            if said != "ready":
                raise NotReady(f"{argv[0]}: {said or 'it ended'}")
            yield process.stdin, process.stdout
        finally:
            process.kill()

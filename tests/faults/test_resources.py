"""A real process without descriptors, memory or disk: it goes on serving, and it does not spin."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import drivers
from tests.cli.command import Command, answering, get, hopproxy, write_settings
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

STEP = 0.05


@contextmanager
def limited(
    folder: Path, settings: str, *limits: tuple[int, int]
) -> Iterator[tuple[Command, str, int]]:
    """A hopproxy under these resource limits: (its process, its URL, the origin's port)."""
    port = free_port()
    file, url = write_settings(folder, port, settings)

    def confine() -> None:
        for kind, limit in limits:
            resource.setrlimit(kind, (limit, limit))

    with hopproxy(
        "run", "--config", str(file), until="listening on", preexec_fn=confine
    ) as command:
        yield command, url, port
        assert command.process.poll() is None, command.said
        assert "Traceback" not in command.said, command.said


def burned(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connect(url: str) -> socket.socket:
    """A raw connection to the gateway."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_without_descriptors_idle_clients_make_room_and_nothing_spins(tmp_path: Path) -> None:
    with limited(tmp_path, "", (resource.RLIMIT_NOFILE, 40)) as (command, url, port):
        with answering(port, b"still here"), ExitStack() as crowd:
            for _ in range(80):
                crowd.enter_context(connect(url))
            pid = command.workers()[0]
            time.sleep(10 * STEP)
            before = burned(pid)
            time.sleep(20 * STEP)
            assert burned(pid) - before < 0.5
            status, _, body = get(url)
            assert (status, body) == (200, b"still here")
        assert get(url)[0] in (502, 200)  # the crowd has left, and so has the origin
        assert len(os.listdir(f"/proc/{pid}/fd")) < 40


def test_large_heads_and_bodies_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Heads up to their limit from many at once, and uploads that the origin does not read."""
    with (
        limited(tmp_path, "access_log: off", (resource.RLIMIT_AS, 700 << 20)) as (
            command,
            url,
            port,
        ),
        socket.create_server(("127.0.0.1", port)),
        ExitStack() as crowd,
    ):
        pid = command.workers()[0]
        before = resident(pid)
        for _ in range(100):
            slow = crowd.enter_context(connect(url))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 30000)
        for _ in range(8):
            upload = crowd.enter_context(connect(url))
            upload.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
            upload.settimeout(6 * STEP)
            with pytest.raises(TimeoutError):  # nobody reads, so nobody takes it all
                upload.sendall(bytes(50_000_000))
        assert resident(pid) - before < 64 << 20


def test_a_full_disk_under_the_access_log_costs_lines_and_no_request(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    file, url = write_settings(tmp_path, port, f'admin: {{bind: "127.0.0.1:{admin}"}}')
    with open("/dev/full", "wb") as full, answering(port):
        process = subprocess.Popen(
            [*drivers.COMMAND, "run", "--config", str(file)],
            stdout=full,
            stderr=subprocess.PIPE,
        )
        with process:
            command_waits_for(url)
            assert [get(url)[0] for _ in range(20)] == [200] * 20
            limit = time.monotonic() + 20
            while dropped(admin) < 20:
                assert time.monotonic() < limit
                time.sleep(STEP)
            process.terminate()
            said = process.communicate(timeout=20)[1].decode()
    assert process.returncode == 0
    assert "No space left on device" in said
    assert "Traceback" not in said


def command_waits_for(url: str) -> None:
    """Wait until the gateway accepts."""
    limit = time.monotonic() + 20
    while True:
        try:
            connect(url).close()
            return
        except OSError:
            assert time.monotonic() < limit
            time.sleep(STEP)


def dropped(admin: int) -> int:
    """How many lines were never written, by the metrics."""
    body = get(f"http://127.0.0.1:{admin}", "/metrics")[2].decode()
    line = next(x for x in body.splitlines() if x.startswith("hopproxy_access_log_dropped_total"))
    return int(float(line.split()[1]))

"""Signals of a serving process: none kills, none is lost, and as process 1 orphans are reaped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli.command import (
    HOPPROXY,
    PATIENCE,
    STEP,
    answering,
    children_of,
    get,
    hopproxy,
    write_settings,
)
from tests.cli.test_serving import LISTENING, Slow
from tests.peers.servers import listens
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_sigquit_drains_what_is_under_way(tmp_path: Path) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port, "drain_timeout: 15s")
    with (
        answering(port, b"whole") as origin,
        hopproxy("run", "--config", str(file), until=LISTENING) as command,
    ):
        request = Slow(url, origin, 0.7)
        assert command.stop(signal.SIGQUIT) == 0
        request.join()
    assert request.answer is not None
    assert (request.answer[0], request.answer[2]) == (200, b"whole")


@pytest.mark.parametrize("command_line", ["run", "dev"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_that_asks_for_nothing_leaves_a_request_alone(
    tmp_path: Path, number: signal.Signals, command_line: str
) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port)
    arguments, until = ["run", "--config", str(file)], LISTENING
    if command_line == "dev":
        arguments, until = ["dev", str(port), "--bind", url[7:], "--admin", "127.0.0.1:0"], "open"
    with answering(port, b"whole") as origin, hopproxy(*arguments, until=until) as command:
        request = Slow(url, origin, 0.5)
        for _ in range(3):
            command.process.send_signal(number)
        reloads = (number, command_line) == (signal.SIGHUP, "run")
        command.wait_for("reloaded in" if reloads else f"{number.name}: ")
        request.join()
        assert request.answer is not None
        assert (request.answer[0], request.answer[2]) == (200, b"whole")
        origin.delay = 0.0
        assert get(url)[0] == 200
        assert command.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_that_comes_with_the_first_connection_is_obeyed(
    tmp_path: Path, number: signal.Signals
) -> None:
    file, url = write_settings(tmp_path, free_port())
    port = int(url.rpartition(":")[2])
    process = subprocess.Popen([*HOPPROXY, "run", "--config", str(file)], stderr=subprocess.PIPE)
    try:
        limit = time.monotonic() + PATIENCE
        while not accepts(port):
            assert time.monotonic() < limit
            time.sleep(0.001)
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert b"Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stops_that_go_on_until_the_end_change_nothing_of_the_exit_code(
    tmp_path: Path, number: signal.Signals
) -> None:
    file, _ = write_settings(tmp_path, free_port())
    for _ in range(3):
        with hopproxy("run", "--config", str(file), until="listening on") as command:
            limit = time.monotonic() + PATIENCE
            while command.process.poll() is None:
                assert time.monotonic() < limit
                command.process.send_signal(number)
                time.sleep(0.0005)
            assert command.ended() == 0
            assert "Traceback" not in command.said


def test_a_stop_is_caught_before_anything_listens(tmp_path: Path) -> None:
    file, url = write_settings(tmp_path, free_port())
    port = int(url.rpartition(":")[2])
    process = subprocess.Popen([*HOPPROXY, "run", "--config", str(file)], stderr=subprocess.PIPE)
    try:
        limit = time.monotonic() + PATIENCE
        while not catches(process.pid, signal.SIGTERM):
            assert not accepts(port), "it listens, and would die of a SIGTERM"
            assert time.monotonic() < limit
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert b"Traceback" not in said


def accepts(port: int) -> bool:
    """Whether somebody listens there, as fast as this can be found out."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for this signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError("no SigCgt")


def test_a_job_in_the_background_is_not_stopped_by_its_own_log(tmp_path: Path) -> None:
    """On a terminal with `stty tostop`, where a write from the background stops the writer."""
    ours, theirs = pty.openpty()
    origin = free_port()
    file, url = write_settings(tmp_path, origin, "access_log: text")
    job = ["sh", "-c", 'set -m; stty tostop; "$@" & exec sleep 60', "sh"]
    process = subprocess.Popen(
        [*job, *HOPPROXY, "run", "--config", str(file)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=partial(take_terminal, theirs),
    )
    os.close(theirs)
    said = b""
    try:
        with answering(origin, b"here"):
            while b"listening on" not in said:
                assert select.select([ours], [], [], PATIENCE)[0], said
                said += os.read(ours, 4096)
            for number in range(3):
                assert get(url, f"/{number}")[2] == b"here"
            while b"GET /2" not in said:
                assert select.select([ours], [], [], PATIENCE)[0], said
                said += os.read(ours, 4096)
    finally:
        for child in children_of(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)


def take_terminal(fd: int) -> None:
    """Begin a session with this terminal."""
    os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


# -- process 1 -------------------------------------------------------------------------------


@contextlib.contextmanager
def process_1(command: str, port: int) -> Iterator[int]:
    """Run a shell command as process 1 of its own; its pid as we see it, once it listens."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("missing: unshare (apt-get install util-linux)")
    words = (unshare, "--pid", "--fork", "--kill-child", "--")
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no right to make a PID namespace")
    outer = subprocess.Popen([*words, "sh", "-c", command], stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + PATIENCE
        while not listens(port):
            assert time.monotonic() < limit
            time.sleep(STEP)
        yield children_of(outer.pid)[0]
        assert outer.wait(PATIENCE) == 0, "it was not drained"
    finally:
        outer.kill()
        outer.wait(PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_process_1_drains_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    file, url = write_settings(tmp_path, free_port())
    port = int(url.rpartition(":")[2])
    run = f"exec {' '.join(HOPPROXY)} run --config {file}"
    with process_1(run, port) as pid:
        for harmless in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            subprocess.run(["kill", f"-{harmless.value}", str(pid)], check=True)
        assert listens(port)
        subprocess.run(["kill", f"-{number.value}", str(pid)], check=True)


def test_process_1_reaps_orphans(tmp_path: Path) -> None:
    """One that had ended before hopproxy began, and one that ends while it serves."""
    file, url = write_settings(tmp_path, free_port())
    port = int(url.rpartition(":")[2])
    orphans = "(true &) ; sleep 0.1 & (sleep 1.5 &)"
    run = f"{orphans} ; exec {' '.join(HOPPROXY)} run --config {file}"
    with process_1(run, port) as pid:
        limit = time.monotonic() + PATIENCE
        while len(children_of(pid)) > 1:  # its worker stays
            assert time.monotonic() < limit, "a zombie is left"
            time.sleep(STEP)
        subprocess.run(["kill", str(pid)], check=True)

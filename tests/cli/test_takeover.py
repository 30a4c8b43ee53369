"""A new program under the same process id (SIGUSR2), and sockets and messages of systemd."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from hopproxy.server.channel import VARIABLE
from tests.cli.command import (
    HOPPROXY,
    PATIENCE,
    STEP,
    Command,
    answering,
    children_of,
    get,
    hopproxy,
)
from tests.ports import free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="take") as made:
        yield Path(made)


def write(folder: Path, origin: int, listeners: str, more: str = "") -> Path:
    file = folder / "hopproxy.yaml"
    file.write_text(
        f"listeners: [{listeners}]\naccess_log: off\ndrain_timeout: 5s\n{more}\n"
        f"upstreams: {{app: {{origins: [{origin}]}}}}\n"
    )
    return file


def wait_until(done: Callable[[], bool], command: Command) -> None:
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, command.said
        time.sleep(STEP)


# -- SIGUSR2 -----------------------------------------------------------------------------------


class Asking(threading.Thread):
    """A client that asks again and again, on one connection as long as that is kept open."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.answers: list[int | str] = []
        self._port = port
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        while not self._over.wait(0.005):
            try:
                link.request("POST", "/", b"x")  # it connects again by itself
                with link.getresponse() as response:
                    response.read()
                    self.answers.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))
                link.close()
        link.close()

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE)


def take_over(command: Command, workers: int) -> None:
    """Send SIGUSR2 and wait until only new workers are left."""
    pid = command.process.pid
    old = set(children_of(pid))
    assert len(old) == workers
    command.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: not old & set(children_of(pid)), command)
    wait_until(lambda: len(children_of(pid)) == workers, command)


def has_begun(worker: int) -> bool:
    """Whether this process is hopproxy's already; before that it is a copy of its parent."""
    return f"{VARIABLE}=".encode() in Path(f"/proc/{worker}/environ").read_bytes()


def sockets_of(pid: int) -> int:
    """How many sockets this process has open."""
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return sum(link.startswith("socket:") for link in links)


def test_a_new_program_takes_over_without_a_lost_request(folder: Path) -> None:
    port, origin, admin = free_port(), free_port(), free_port()
    path = folder / "site"
    listeners = f"{{bind: 127.0.0.1:{port}}}, {{bind: unix:{path}}}"
    more = f"workers: 2\nadmin: {{bind: 127.0.0.1:{admin}}}"
    file = write(folder, origin, listeners, more)

    def counted() -> float:
        text = get(f"http://127.0.0.1:{admin}", "/metrics")[2].decode()
        found = re.findall(r"^hopproxy_requests_total\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    with answering(origin, b"here"), hopproxy("run", str(file), until="admin listener") as command:
        pid = command.process.pid
        wait_until(lambda: len(children_of(pid)) == 2, command)
        identity = path.stat().st_ino
        sockets = sockets_of(pid)
        clients = [Asking(port) for _ in range(4)]
        take_over(command, 2)
        assert command.process.poll() is None, "under the same process id"
        assert path.stat().st_ino == identity, "the file was never removed"
        assert sockets_of(pid) == sockets
        for client in clients:
            client.stop()
        answers = [answer for client in clients for answer in client.answers]
        assert len(answers) > 100
        assert set(answers) == {501}, "POST is not what this origin answers"
        assert counted() == len(answers), "no counter falls"
        assert command.stop() == 0
    assert not path.exists()
    assert "Traceback" not in command.said


def test_a_failed_check_keeps_the_old_program(folder: Path) -> None:
    port, origin = free_port(), free_port()
    file = write(folder, origin, f"{{bind: 127.0.0.1:{port}}}")
    with answering(origin, b"here"), hopproxy("run", str(file), until="listening") as command:
        before = children_of(command.process.pid)
        file.write_text(f"{file.read_text()}wrong: 1\n")
        command.process.send_signal(signal.SIGUSR2)
        command.wait_for("the check has failed: nothing changes")
        assert f"{file}:6:1: wrong: is not a setting" in command.said
        assert children_of(command.process.pid) == before
        assert get(f"http://127.0.0.1:{port}")[2] == b"here"
        assert command.stop() == 0


def test_a_new_program_that_cannot_serve_leaves_the_old_workers(folder: Path) -> None:
    """The check does not bind: an address that is taken shows only when it is too late."""
    port, taken, origin = free_port(), free_port(), free_port()
    file = write(folder, origin, f"{{bind: 127.0.0.1:{port}}}")
    url = f"http://127.0.0.1:{port}"
    with answering(origin, b"here"), hopproxy("run", str(file), until="listening") as command:
        [old] = children_of(command.process.pid)
        with socket.create_server(("127.0.0.1", taken)):
            write(folder, origin, f"{{bind: 127.0.0.1:{port}}}, {{bind: 127.0.0.1:{taken}}}")
            command.process.send_signal(signal.SIGUSR2)
            command.wait_for("the new program cannot serve: the old workers still serve")
            assert children_of(command.process.pid) == [old]
            assert get(url)[2] == b"here"
        command.process.send_signal(signal.SIGHUP)  # now it can
        wait_until(lambda: old not in children_of(command.process.pid), command)
        assert get(url)[2] == b"here"
        assert get(f"http://127.0.0.1:{taken}")[2] == b"here"
        assert command.stop() == 0


def test_a_stop_right_after_it_is_obeyed(folder: Path) -> None:
    port = free_port()
    file = write(folder, free_port(), f"{{bind: 127.0.0.1:{port}}}")
    for pause in (0.05, 0.3):
        with hopproxy("run", str(file), until="listening") as command:
            command.process.send_signal(signal.SIGUSR2)
            time.sleep(pause)
            assert command.stop() == 0
            assert "Traceback" not in command.said


# -- sockets that are passed -------------------------------------------------------------------


@contextlib.contextmanager
def passing(
    file: Path, sockets: list[socket.socket], environ: str, **more: str
) -> Iterator[Command]:
    """hopproxy with these sockets as 3, 4 and so on; the shell sets `environ` ($$: its pid)."""
    redirections = " ".join(f"{number}<&{sock.fileno()}" for number, sock in enumerate(sockets, 3))
    script = f'{environ} exec "$@" {redirections}'
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("missing: bash (apt-get install bash)")
    pass_fds = [sock.fileno() for sock in sockets]
    with hopproxy(
        "run",
        str(file),
        until="listening on",
        command_line=(bash, "-c", script, "bash", *HOPPROXY),
        pass_fds=pass_fds,
        env={**os.environ, **more},
    ) as command:
        yield command


def listening() -> socket.socket:
    return above(socket.create_server(("127.0.0.1", 0)))


def above(sock: socket.socket) -> socket.socket:
    """The same socket, with a number above those that the shell is going to set."""
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 50))


def test_sockets_of_systemd_are_served_by_their_names(folder: Path) -> None:
    origin = free_port()
    sockets = [listening() for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    file = write(folder, origin, "{bind: systemd:web}, {bind: systemd:other}", "workers: 2")
    environ = "export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=web:web:other;"
    with answering(origin, b"here"), passing(file, sockets, environ) as command:
        command.wait_for(rf"listening on 127.0.0.1:{ports[2]}")
        for port in ports:
            assert get(f"http://127.0.0.1:{port}")[2] == b"here"
        wait_until(lambda: len(children_of(command.process.pid)) == 2, command)
        for worker in children_of(command.process.pid):
            wait_until(partial(has_begun, worker), command)
            variables = Path(f"/proc/{worker}/environ").read_bytes()
            assert b"LISTEN_" not in variables, "they are not passed on"
            held = {os.readlink(f"/proc/{worker}/fd/{fd}") for fd in ("0", "1", "2")}
            assert not any(name.startswith("socket:") for name in held)
        take_over(command, 2)
        for port in ports:
            assert get(f"http://127.0.0.1:{port}")[2] == b"here"
        assert command.stop() == 0
    # What comes while nobody serves waits for the next one: systemd keeps the sockets.
    with socket.create_connection(("127.0.0.1", ports[0]), timeout=PATIENCE) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with answering(origin, b"here"), passing(file, sockets, environ):
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
    for sock in sockets:
        sock.close()


def test_a_descriptor_is_served_by_its_number(folder: Path) -> None:
    origin = free_port()
    path = str(folder / "site")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    sock = above(sock)
    file = write(folder, origin, "{bind: fd:3}")
    # Variables for another process are ignored; the descriptor is there all the same.
    with answering(origin, b"here"), passing(file, [sock], "export LISTEN_PID=1 LISTEN_FDS=1;"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert Path(path).exists(), "it is not ours to remove"
    sock.close()


@pytest.mark.parametrize("bind", ["fd:3", "systemd:web"])
def test_a_socket_that_was_not_passed_is_named(folder: Path, bind: str) -> None:
    file = write(folder, 1, f"{{bind: {bind}}}")
    with hopproxy("run", str(file), until="cannot listen on") as command:
        assert command.ended() == 3
        assert f"cannot listen on {bind}: no such listening socket was passed" in command.said


# -- messages to systemd -----------------------------------------------------------------------


def test_systemd_is_notified_of_every_change(folder: Path) -> None:
    file = write(folder, 1, "{bind: '127.0.0.1:0'}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(folder / "notify"))

        def told() -> list[str]:
            assert select.select([notified], [], [], PATIENCE)[0], command.said
            return notified.recv(4096).decode().split("\n")

        more = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "600000000"}
        with passing(file, [], "export WATCHDOG_PID=$$;", **more) as command:
            assert told()[0] == "READY=1"
            for worker in children_of(command.process.pid):
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{worker}/environ").read_bytes()
            command.process.send_signal(signal.SIGHUP)
            reloading = told()
            assert reloading[0] == "RELOADING=1"
            [since] = [line for line in reloading if line.startswith("MONOTONIC_USEC=")]
            assert abs(int(since[15:]) / 1e6 - time.monotonic()) < PATIENCE
            assert told()[0] == "READY=1"
            command.process.send_signal(signal.SIGUSR2)
            assert told()[0] == "RELOADING=1"
            assert told()[0] == "READY=1"
            assert command.stop() == 0
            assert told()[0] == "STOPPING=1"


def test_the_watchdog_of_systemd_is_fed(folder: Path) -> None:
    file = write(folder, 1, "{bind: '127.0.0.1:0'}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind("\0hopproxy-test" + folder.name)
        notified.settimeout(PATIENCE)
        more = {"NOTIFY_SOCKET": "@hopproxy-test" + folder.name, "WATCHDOG_USEC": "200000"}
        with passing(file, [], "", **more):
            seen = [notified.recv(4096) for _ in range(5)]
    assert seen.count(b"WATCHDOG=1") >= 3

"""The command as a black box: a process, what it says, and how it ends."""

from __future__ import annotations

import http.client
import io
import logging
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hopproxy.begin import serves
from hopproxy.cli import _obey, main
from tests import drivers
from tests.ports import free_port

#: Seconds until a process must have said or done what is waited for.
PATIENCE = 20.0
STEP = 0.02

HOPPROXY = tuple(drivers.COMMAND)


class Command:
    """A hopproxy process; its standard error is collected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until standard error shows the pattern; the match."""
        limit = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said)) is None:
            alive = self.process.poll() is None and time.monotonic() < limit
            assert alive, f"no {pattern!r} in:\n{self.said}"
            time.sleep(STEP)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def workers(self) -> list[int]:
        """The processes that serve, in the order of their start; `dev` serves by itself."""
        return children_of(self.process.pid) or [self.process.pid]

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


def children_of(pid: int) -> list[int]:
    """The processes that this one has started, and orphans that it got."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def hopproxy(
    *arguments: str, until: str = "", command_line: Sequence[str] = HOPPROXY, **popen: Any
) -> Iterator[Command]:
    """Run the command until it says `until`; ended at the end, if it has not ended by itself.

    Without `until`, until it says what to open (which `url` then holds).
    """
    process = subprocess.Popen(
        [*command_line, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )
    command = Command(process)
    try:
        found = command.wait_for(until or r"open (http://\S+)")
        command.url = "" if until else found[1]
        yield command
    finally:
        if process.poll() is None:
            process.kill()
        command.ended()
        assert process.stderr is not None
        process.stderr.close()


def finished(*arguments: str, **run: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*HOPPROXY, *arguments], capture_output=True, text=True, timeout=PATIENCE, **run
    )


def told(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As `finished`, in this process, which has imported all already.

    For commands that serve nothing, or fail before they do.
    """
    out, said = io.StringIO(), io.StringIO()
    handlers, logging.root.handlers = logging.root.handlers, []
    with ExitStack() as stack:
        stack.callback(setattr, logging.root, "handlers", handlers)
        stack.callback(logging.root.setLevel, logging.root.level)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(said))
        if cwd is not None:
            stack.enter_context(chdir(cwd))
        try:
            code = (_obey if serves(arguments) else main)(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), said.getvalue())


class Server(ThreadingHTTPServer):
    """An origin that answers every request with the same page, after `delay` seconds."""

    daemon_threads = True
    page = b""
    delay = 0.0

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.asked = threading.Event()
        super().__init__((host, port), _Answer)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece
    server: Server

    def do_GET(self) -> None:
        self.server.asked.set()
        time.sleep(self.server.delay)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.server.page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.server.page)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: the test speaks."""


@contextmanager
def answering(
    port: int, page: bytes = b"here", *, host: str = "127.0.0.1", delay: float = 0.0
) -> Iterator[Server]:
    """An origin on this port for the time of the block."""
    server = Server(host, port)
    server.page, server.delay = page, delay
    thread = threading.Thread(target=server.serve_forever, args=(STEP,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url: str, target: str = "/", **fields: str) -> tuple[int, dict[str, str], bytes]:
    """One GET on a connection of its own: (status, fields by their lower-case names, body)."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        connection.request("GET", target, headers=fields)
        response = connection.getresponse()
        body = response.read()
        return response.status, {n.lower(): v for n, v in response.getheaders()}, body
    finally:
        connection.close()


def write_settings(folder: Path, origin_port: int, more: str = "") -> tuple[Path, str]:
    """A settings file for one origin, and the URL it will be served at."""
    port = free_port()
    file = folder / "hopproxy.yaml"
    file.write_text(
        f"listeners: [{{bind: 127.0.0.1:{port}}}]\n"
        f"upstreams: {{app: {{origins: [http://127.0.0.1:{origin_port}]}}}}\n{more}\n"
    )
    return file, f"http://127.0.0.1:{port}"

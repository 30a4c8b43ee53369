"""Start real servers as origins, and hopproxy as the sidecar in front of them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import drivers
from tests.conftest import needs
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
APPS = "tests.peers.apps"
START_WITHIN = 20.0

NGINX = """
daemon off; pid {directory}/pid; error_log stderr; worker_processes 1; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ return 200 "$remote_port"; }}
    location /echo {{ return 200 "$connection $arg_id"; }}
    location /close {{ keepalive_timeout 0; return 200 "$remote_port"; }}
  }}
}}
"""


@dataclass
class Server:
    """A process that listens on a port of the loopback address."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path

    def pids(self) -> list[int]:
        """Return the process and its children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text().split())]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(3)


def needs_module(name: str) -> None:
    """Skip the test, naming the package, where Python cannot import it."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"missing: {name} (pip install {name})")


def nginx(directory: Path, port: int) -> list[str]:
    program = needs("nginx", debian="nginx")
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(directory=directory, port=port, user=user))
    return [program, "-p", str(directory), "-c", str(config)]


def gunicorn(directory: Path, port: int) -> list[str]:
    needs_module("gunicorn")
    threads = ("-k", "gthread", "--threads", "32", "--worker-tmp-dir", str(directory))
    address = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "gunicorn", *threads, "--bind", address, f"{APPS}:wsgi"]


def uvicorn(_directory: Path, port: int) -> list[str]:
    needs_module("uvicorn")
    quiet = ("--no-access-log", "--log-level", "warning")
    return [sys.executable, "-m", "uvicorn", *quiet, "--port", str(port), f"{APPS}:asgi"]


def node(_directory: Path, port: int) -> list[str]:
    program = needs("node", debian="nodejs")
    return [program, str(Path(__file__).with_name("origin.js")), str(port)]


ORIGINS = {"nginx": nginx, "gunicorn": gunicorn, "uvicorn": uvicorn, "node": node}


@contextlib.contextmanager
def origin(name: str, directory: Path) -> Iterator[Server]:
    """Run one of ORIGINS until the block ends."""
    port = free_port()
    with running(ORIGINS[name](directory, port), port, directory / f"{name}.out") as server:
        yield server


@contextlib.contextmanager
def sidecar(origin_port: int, directory: Path, *, admin: bool = True) -> Iterator[Server]:
    """Run hopproxy with config/sidecar.yaml before that port."""
    port = free_port()
    environ = {
        "HOPPROXY_PORT": str(port),
        "HOPPROXY_ORIGIN": f"http://127.0.0.1:{origin_port}",
        "HOPPROXY_ADMIN": f"127.0.0.1:{free_port()}" if admin else "off",
    }
    command = hopproxy_command(ROOT / "config" / "sidecar.yaml")
    with running(command, port, directory / "hopproxy.out", environ) as server:
        yield server


@contextlib.contextmanager
def configured(settings: str, port: int, directory: Path) -> Iterator[Server]:
    """Run hopproxy with these settings; they listen on `port`."""
    config = directory / "hopproxy.yaml"
    config.write_text(settings)
    with running(hopproxy_command(config), port, directory / "hopproxy.out") as server:
        yield server


def hopproxy_command(config: Path) -> list[str]:
    return [*drivers.COMMAND, "run", "--config", str(config)]


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, output: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a command until the block ends; it must listen on `port` before the block begins."""
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
        )
    server = Server(port, process, output)
    try:
        wait_for(server)
        yield server
    finally:
        server.stop()


def wait_for(server: Server) -> None:
    """Wait until the server listens; fails with what it printed."""
    deadline = time.monotonic() + START_WITHIN
    while not listens(server.port):
        if server.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"not started: {server.output.read_text()}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

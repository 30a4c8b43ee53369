"""Start a proxy of each kind for a group of cases: hopproxy, nginx, HAProxy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import drivers
from tests.authority import authority, certificate, files_of, server_context
from tests.conformance import wire
from tests.conformance.case import Case, Stage
from tests.conformance.groups import GROUPS, Group
from tests.conformance.origin import Origin
from tests.ports import free_port

START_WITHIN = 20.0
DRAIN_SIGNALS = {"nginx": signal.SIGQUIT, "haproxy": signal.SIGUSR1}


class NotStarted(Exception):
    """The proxy did not begin to listen; carries what it printed."""


@dataclass
class Proxy:
    """A proxy under test, and the origin of each of its cases."""

    name: str
    port: int
    origins: Mapping[str, Origin]
    process: subprocess.Popen[bytes] | None = None
    directory: Path | None = None
    address: str = "127.0.0.1"

    def stage(self, case: Case) -> Stage:
        """Set a case on this proxy; a proxy with one origin lends it to every case."""
        origin = self.origins.get(case.host) or self.origins[""]
        host = case.host if case.host in self.origins else "origin.test"
        ours = self.name == "hopproxy"
        drain = DRAIN_SIGNALS.get(self.name, signal.SIGTERM)
        begun = len(self.printed())

        def log() -> str:
            return self.printed()[begun:]

        return Stage((self.address, self.port), origin, host, ours, self.pids(), drain, log)

    def pids(self) -> tuple[int, ...]:
        """Return the process and its children, those that serve included."""
        if self.process is None:
            return ()
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return (self.process.pid, *map(int, listed.split()))

    def printed(self) -> str:
        return (self.directory / "output").read_text() if self.directory else ""

    def stop(self) -> None:
        """End the process and close the origins."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill() if self.name == "hopproxy" else self.process.terminate()
            self.process.wait(10)
        for origin in self.origins.values():
            origin.close()


def hopproxy(cases: Sequence[Case], directory: Path) -> Proxy:
    """Start hopproxy with an upstream and an origin of its own for each case.

    The groups of the cases must share their settings of the whole process.
    """
    context = server_context("127.0.0.1") if drivers.TLS in ("origins", "both") else None
    origins = {case.host: Origin(context=context) for case in cases}
    port = free_port()
    settings = hopproxy_settings(cases, origins, port)
    if context is not None:
        authority().cert_pem.write_to_path(str(directory / "ca.crt"))
        for upstream in settings["upstreams"].values():
            upstream["origins"] = [url.replace("http:", "https:") for url in upstream["origins"]]
            upstream["tls"] = {"ca": str(directory / "ca.crt")}
    if drivers.TLS in ("clients", "both"):
        cert, key = files_of(certificate(wire.NAME), directory)
        tls = {"certificates": [{"cert": str(cert), "key": str(key)}]}
        settings["listeners"] = [one | {"tls": tls} for one in settings["listeners"]]
    config = directory / "hopproxy.yaml"
    config.write_text(json.dumps(settings, indent=1))
    command = [*drivers.COMMAND, "run", "--config", str(config)]
    return started(Proxy("hopproxy", port, origins, directory=directory), command)


def hopproxy_settings(
    cases: Sequence[Case], origins: Mapping[str, Origin], port: int
) -> dict[str, Any]:
    """Write the groups' settings over the defaults; JSON is YAML too."""
    upstreams = {
        f"u{origins[case.host].port}": {
            "origins": [f"http://127.0.0.1:{origins[case.host].port}"],
            **GROUPS[case.group].upstream,
        }
        for case in cases
    }
    return {
        "listeners": [{"bind": f"127.0.0.1:{port}"}],
        "upstreams": upstreams,
        "routes": [{"upstream": f"u{o.port}", "host": host} for host, o in origins.items()],
        "access_log": "json",
        **GROUPS[cases[0].group].process,
    }


NGINX = """
daemon off; pid {directory}/pid; error_log stderr; worker_processes 1; {user}
worker_shutdown_timeout 1500ms;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  map $http_upgrade $upstream_connection {{ default upgrade; "" ""; }}
  upstream origin {{ server 127.0.0.1:{origin}; {upstream} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection $upstream_connection;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_buffering off;
      proxy_request_buffering off;
    }}
    {server}
  }}
}}
"""

HAPROXY = """
global
 maxconn 500
 nbthread 1
defaults
 mode http
 timeout connect 5s
 timeout client 30s
 timeout server 30s
 option forwardfor
 option abortonclose
 option http-no-delay
 http-reuse always
 {defaults}
frontend front
 bind 127.0.0.1:{port}
 default_backend origin
backend origin
 server origin 127.0.0.1:{origin} {server}
"""


def nginx(group: Group, directory: Path) -> Proxy:
    """Start nginx as a reverse proxy with upstream keep-alive and streaming."""
    assert group.nginx is not None
    server, upstream = group.nginx
    if "keepalive " not in upstream:
        upstream = "keepalive 32; " + upstream
    user = "user root;" if os.geteuid() == 0 else ""
    origin, port = Origin(), free_port()
    config = directory / "nginx.conf"
    config.write_text(
        NGINX.format(
            directory=directory,
            origin=origin.port,
            port=port,
            server=server,
            upstream=upstream,
            user=user,
        )
    )
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(directory), "-c", str(config)]
    return started(Proxy("nginx", port, {"": origin}, directory=directory), command)


def haproxy(group: Group, directory: Path) -> Proxy:
    """Start HAProxy as a reverse proxy with upstream keep-alive."""
    assert group.haproxy is not None
    defaults, server = group.haproxy
    origin, port = Origin(), free_port()
    text = HAPROXY.format(origin=origin.port, port=port, defaults=defaults, server=server)
    if defaults.startswith("hard-stop-after"):
        text = text.replace(f"\n {defaults}", "").replace("global\n", f"global\n {defaults}\n")
    config = directory / "haproxy.cfg"
    config.write_text(text)
    command = [shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", str(config)]
    return started(Proxy("haproxy", port, {"": origin}, directory=directory), command)


def started(proxy: Proxy, command: Sequence[str]) -> Proxy:
    """Run the command and wait until it listens.

    Raises NotStarted with what the command printed.
    """
    assert proxy.directory is not None
    with (proxy.directory / "output").open("wb") as output:
        proxy.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + START_WITHIN
    while not _listens(proxy.port):
        if proxy.process.poll() is not None or time.monotonic() > deadline:
            proxy.stop()
            raise NotStarted(f"{' '.join(command)}:\n{proxy.printed()}")
        time.sleep(0.02)
    return proxy


def version(name: str) -> str:
    """Return the name and version that a proxy gives itself."""
    if name == "hopproxy":
        return f"hopproxy {importlib.metadata.version('hopproxy')}"
    path = shutil.which(name) or f"/usr/sbin/{name}"
    asked = "version" if name == "caddy" else "-v"
    done = subprocess.run([path, asked], capture_output=True, text=True, check=True)
    number = re.search(r"(?:^|[/ v])(\d+\.\d+\.\d+)", done.stdout + done.stderr)
    return f"{name} {number[1] if number else ''}".strip()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

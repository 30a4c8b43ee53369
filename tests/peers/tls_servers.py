"""Real servers that speak TLS, as origins, and hopproxy in front of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.authority import authority, certificate, files_of
from tests.conftest import needs
from tests.peers.servers import Server, configured, needs_module, running
from tests.ports import free_port

NGINX = """
daemon off; pid {directory}/pid; error_log {directory}/error; worker_processes 1; {user}
events {{ worker_connections 1024; }}
http {{
  log_format posts '$request_method $args'; access_log {directory}/posts posts;
  keepalive_requests 1000000; keepalive_timeout {limit};
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  ssl_session_cache shared:x:1m; ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024;
    ssl_certificate {cert}; ssl_certificate_key {key};
    location / {{ return 200 "$ssl_session_reused $remote_port"; }}
    location /close {{ keepalive_timeout 0; return 200 "$ssl_session_reused $remote_port"; }}
  }}
}}
"""
HOPPROXY = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams:
  app:
    origins: ["https://localhost:{origin}"]
    tls: {{ca: {ca}}}
    pool: {{{pool}}}
admin: {{bind: 127.0.0.1:{admin}}}
readiness: self
access_log: off
"""


def _files(directory: Path) -> tuple[str, str]:
    cert, key = files_of(certificate("localhost"), directory)
    return str(cert), str(key)


def nginx(directory: Path, port: int, limit: str = "75s") -> list[str]:
    """nginx; `limit` is its idle limit."""
    program = needs("nginx", debian="nginx")
    cert, key = _files(directory)
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        NGINX.format(directory=directory, port=port, user=user, cert=cert, key=key, limit=limit)
    )
    return [program, "-p", str(directory), "-c", str(config)]


def node(directory: Path, port: int, limit: str = "") -> list[str]:
    """Node; `limit` is its idle limit in milliseconds."""
    script = str(Path(__file__).with_name("tls_origin.js"))
    return [needs("node", debian="nodejs"), script, str(port), *_files(directory), limit]


def uvicorn(directory: Path, port: int) -> list[str]:
    """uvicorn."""
    needs_module("uvicorn")
    cert, key = _files(directory)
    quiet = ("--no-access-log", "--log-level", "warning")
    tls = ("--ssl-certfile", cert, "--ssl-keyfile", key)
    application = "tests.peers.apps:asgi"
    return [sys.executable, "-m", "uvicorn", *quiet, *tls, "--port", str(port), application]


def s_server(directory: Path, port: int, *options: str) -> list[str]:
    """OpenSSL's own server, which answers with what it is told on its standard input."""
    cert, key = _files(directory)
    listen = ("-accept", f"127.0.0.1:{port}", "-cert", cert, "-key", key, "-crlf")
    return [needs("openssl", debian="openssl"), "s_server", *listen, *options]


ORIGINS = {"nginx": nginx, "node": node, "uvicorn": uvicorn}


class Front:
    """hopproxy in front of one origin."""

    def __init__(self, server: Server, admin: int) -> None:
        self.port = server.port
        self._admin = admin

    def connection(self, port: int = 0) -> http.client.HTTPConnection:
        """A client's connection."""
        return http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)

    def get(self, path: str = "/", port: int = 0) -> str:
        """The body of a GET, whose status is 200."""
        with contextlib.closing(self.connection(port)) as made:
            made.request("GET", path)
            response = made.getresponse()
            body = response.read().decode()
        assert response.status == 200, body
        return body

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = self.get("/metrics", self._admin)
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextlib.contextmanager
def origin(name: str, directory: Path) -> Iterator[Server]:
    """Run one of ORIGINS."""
    port = free_port()
    with running(ORIGINS[name](directory, port), port, directory / f"{name}.out") as server:
        yield server


@contextlib.contextmanager
def front(origin: int, directory: Path, pool: str = "") -> Iterator[Front]:
    """Run hopproxy in front of the origin on this port."""
    ca = directory / "ca.crt"
    authority().cert_pem.write_to_path(str(ca))
    port, admin = free_port(), free_port()
    settings = HOPPROXY.format(port=port, origin=origin, ca=ca, pool=pool, admin=admin)
    with configured(settings, port, directory) as server:
        yield Front(server, admin)

"""Real origins that give up idle connections soon, and the proxies that race them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import needs
from tests.peers.servers import hopproxy_command, needs_module, running
from tests.ports import free_port

HERE = Path(__file__).parent

NGINX = """
daemon off; pid {directory}/pid; error_log {directory}/error; worker_processes 1; {user}
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  log_format posts '$request_method $args'; keepalive_requests 1000000;
  {body}
}}
"""
ORIGIN = """
  access_log {directory}/posts posts; keepalive_timeout {limit};
  server {{ listen 127.0.0.1:{port} backlog=1024{http2}; return 200 "ok"; }}
"""
PROXY = """
  access_log off; keepalive_timeout 75s;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_timeout 60s; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
"""
APACHE = """
ServerRoot {directory}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {directory}/pid
ErrorLog {directory}/error
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
{user}
DocumentRoot {directory}/site
KeepAlive On
KeepAliveTimeout 5
CustomLog {directory}/posts "%m %q"
"""
USER = "User www-data"
HAPROXY = """
global
  maxconn 4096
defaults
  mode http
  timeout connect 3s
  timeout client 75s
  timeout server 60s
  timeout http-keep-alive 75s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{origin} pool-purge-delay 60s
"""
HOPPROXY = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams: {{app: {{origins: ["{scheme}://127.0.0.1:{origin}"], pool: {{{pool}}}}}}}
admin: {{bind: 127.0.0.1:{admin}}}
access_log: off
"""


def _nginx(directory: Path, body: str) -> list[str]:
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(directory=directory, user=user, body=body))
    return [needs("nginx"), "-p", str(directory), "-c", str(config)]


def nginx(directory: Path, port: int, limit: str = "3s", http2: str = "") -> list[str]:
    body = ORIGIN.format(directory=directory, port=port, limit=limit, http2=http2)
    return _nginx(directory, body)


def nginx_h2(directory: Path, port: int, limit: str = "3s") -> list[str]:
    return nginx(directory, port, limit, " http2")


def apache(directory: Path, port: int) -> list[str]:
    program = needs("apache2")
    (directory / "site").mkdir()
    (directory / "site" / "index").write_text("ok")
    directory.chmod(0o755)
    config = directory / "apache.conf"
    user = USER if os.geteuid() == 0 else ""
    config.write_text(APACHE.format(directory=directory, port=port, user=user))
    return [program, "-f", str(config), "-DFOREGROUND"]


def gunicorn(directory: Path, port: int) -> list[str]:
    needs_module("gunicorn")
    threads = ("-k", "gthread", "--threads", "32", "--worker-tmp-dir", str(directory))
    bind = ("--bind", f"127.0.0.1:{port}", "--keep-alive", "2")
    return [sys.executable, "-m", "gunicorn", *threads, *bind, "tests.learn.apps:wsgi"]


def uvicorn(_: Path, port: int) -> list[str]:
    needs_module("uvicorn")
    quiet = ("--no-access-log", "--log-level", "warning")
    application = "tests.learn.apps:asgi"
    return [sys.executable, "-m", "uvicorn", *quiet, "--port", str(port), application]


def node(_: Path, port: int) -> list[str]:
    return [needs("node", debian="nodejs"), str(HERE / "counting.js"), str(port)]


def node_h2(_: Path, port: int, limit: str = "3000") -> list[str]:
    return [needs("node", debian="nodejs"), str(HERE / "counting_h2.js"), str(port), limit]


#: Each origin with its idle limit in seconds.
ORIGINS: dict[str, tuple[Callable[[Path, int], list[str]], float]] = {
    "gunicorn": (gunicorn, 2.0),
    "uvicorn": (uvicorn, 5.0),
    "node": (node, 5.0),
    "nginx": (nginx, 3.0),
    "apache": (apache, 5.0),
}
#: The same, speaking HTTP/2: only hopproxy can be in front of them.
H2_ORIGINS: dict[str, tuple[Callable[[Path, int], list[str]], float]] = {
    "nginx-h2": (nginx_h2, 3.0),
    "node-h2": (node_h2, 3.0),
}


@dataclass
class Running:
    """An origin that runs, and where it writes down the POSTs."""

    port: int
    posts: Path

    def seen(self) -> list[str]:
        """The query of each POST, in order."""
        if not self.posts.exists():
            return []
        lines = self.posts.read_text().splitlines()
        return [line[5:].lstrip("?") for line in lines if line.startswith("POST ")]


@contextlib.contextmanager
def origin(command: Callable[[Path, int], list[str]], directory: Path) -> Iterator[Running]:
    """Run an origin until the block ends."""
    port = free_port()
    directory.mkdir()
    posts = directory / "posts"
    environ = {"POSTS": str(posts)}
    with running(command(directory, port), port, directory / "out", environ):
        yield Running(port, posts)


def _hopproxy(
    directory: Path, port: int, origin: int, pool: str = "", scheme: str = "http"
) -> list[str]:
    config = directory / "hopproxy.yaml"
    text = HOPPROXY.format(port=port, origin=origin, admin=free_port(), pool=pool, scheme=scheme)
    config.write_text(text)
    return hopproxy_command(config)


def _hopproxy_h2(directory: Path, port: int, origin: int) -> list[str]:
    return _hopproxy(directory, port, origin, scheme="h2c")


def _unlearned(directory: Path, port: int, origin: int) -> list[str]:
    return _hopproxy(directory, port, origin, "learn: off, young_share: 100%")


def _haproxy(directory: Path, port: int, origin: int) -> list[str]:
    config = directory / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, origin=origin))
    return [needs("haproxy"), "-f", str(config), "-db"]


def nginx_proxy(directory: Path, port: int, origin: int) -> list[str]:
    return _nginx(directory, PROXY.format(port=port, origin=origin))


PROXIES = {
    "hopproxy": _hopproxy,
    "learn: off": _unlearned,
    "nginx": nginx_proxy,
    "haproxy": _haproxy,
}


H2_PROXIES = {"hopproxy-h2": _hopproxy_h2}


@contextlib.contextmanager
def proxy(name: str, directory: Path, origin: int) -> Iterator[int]:
    """Run a proxy in front of that port; its own port."""
    port = free_port()
    directory.mkdir()
    with running({**PROXIES, **H2_PROXIES}[name](directory, port, origin), port, directory / "out"):
        yield port

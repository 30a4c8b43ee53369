"""The proxies that are compared, and the settings each one runs with.

All have one worker unless a scenario asks for more, keep upstream connections alive, and write no
access log; none is limited in the number of requests on a connection.  hopproxy runs with its
defaults, so its limits, counters and admin listener are on.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.origin import nginx_program
from benchmarks.processes import Launch, NotReady

HOPPROXY = "hopproxy"


@dataclass(frozen=True)
class Setup:
    """Where a proxy listens, whom it asks, and what a scenario wants of it.

    `links` is the number of client connections it must allow, `workers` how many processes or
    threads serve.  The next three are for hopproxy alone:
    `log` turns its access log on, `routes` is how many it has, and all but the last match nothing;
    `idle` is how many upstream links it keeps.  `tls` on the clients' hop, `secure_origin` on the
    other: then `origin_port` is one with TLS.  The certificate is in `folder`.  With `h2` clients
    speak HTTP/2; `h2_origin_port` is an origin that does, 0 to ask the other one, as nginx always
    does.
    """

    folder: Path
    port: int
    admin_port: int
    origin_port: int
    links: int = 4096
    workers: int = 1
    log: bool = False
    routes: int = 1
    idle: int = 64
    tls: bool = False
    secure_origin: bool = False
    h2: bool = False
    h2_origin_port: int = 0

    @property
    def scheme(self) -> str:
        """The scheme of the origin."""
        return "https" if self.secure_origin else "http"

    def write(self, name: str, text: str) -> str:
        path = self.folder / f"{self.port}-{name}"
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Peer:
    """One proxy: how to find it, how to get it, how to start it."""

    name: str
    install: str
    program: Callable[[], str | None]
    version: tuple[str, ...]
    launch: Callable[[Setup], Launch]
    speaks_tls: bool = True

    def version_text(self) -> str:
        """The first line of what the program says about its version."""
        program = self.program()
        if program is None:
            return "missing"
        done = subprocess.run([program, *self.version], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].strip() if lines else "unknown"


def _hopproxy_program() -> str | None:
    return sys.executable if importlib.util.find_spec("hopproxy.cli") else None


def _hopproxy_launch(setup: Setup) -> Launch:
    limit = "" if setup.links <= 4096 else f"client:\n  max_connections: {setup.links}\n"
    pool = "" if setup.idle == 64 else f"    pool: {{max_idle: {setup.idle}}}\n"
    others = "".join(
        f"  - {{host: '*.h{number}.example', path: /p{number}, upstream: app}}\n"
        f"  - {{path: /plain{number}, upstream: app}}\n"
        for number in range(setup.routes // 2)
    )
    folder = setup.folder
    certificate = f"{{cert: {folder}/site.crt, key: {folder}/site.key}}"
    tls = f"    tls: {{certificates: [{certificate}]}}\n" * setup.tls
    ca = f"    tls: {{ca: {folder}/ca.crt}}\n" * setup.secure_origin
    origin = f"{setup.scheme}://127.0.0.1:{setup.origin_port}"
    if setup.h2_origin_port:
        origin = f"h2c://127.0.0.1:{setup.h2_origin_port}"
    settings = setup.write(
        "hopproxy.yaml",
        f"""listeners:
  - bind: 127.0.0.1:{setup.port}
{tls}{limit}upstreams:
  app:
    origins: ["{origin}"]
{ca}{pool}routes:
{others}  - upstream: app
admin:
  bind: 127.0.0.1:{setup.admin_port}
access_log: {"json" if setup.log else "off"}
workers: {setup.workers}
""",
    )
    return Launch([sys.executable, "-m", "hopproxy.cli", "run", "--config", settings])


_NGINX = """
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {folder}/{port}-nginx.pid;
error_log {folder}/{port}-nginx.log crit;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/{port}-body;
  proxy_temp_path {folder}/{port}-proxy;
  fastcgi_temp_path {folder}/{port}-fastcgi;
  uwsgi_temp_path {folder}/{port}-uwsgi;
  scgi_temp_path {folder}/{port}-scgi;
  map $http_upgrade $upgrade_or_nothing {{ default upgrade; "" ""; }}
  upstream app {{
    server 127.0.0.1:{origin_port};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  ssl_certificate {folder}/site.crt;
  ssl_certificate_key {folder}/site.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  proxy_ssl_trusted_certificate {folder}/ca.crt;
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  server {{
    listen 127.0.0.1:{port} backlog=4096{ssl}{http2};
    location / {{
      proxy_pass {scheme}://app;
      proxy_http_version 1.1;
      proxy_max_temp_file_size 0;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrade_or_nothing;
    }}
  }}
}}
"""


def _nginx_launch(setup: Setup) -> Launch:
    settings = _NGINX.format(
        folder=setup.folder,
        port=setup.port,
        origin_port=setup.origin_port,
        files=setup.links + 1024,
        workers=setup.workers,
        scheme=setup.scheme,
        ssl=" ssl" * setup.tls,
        http2=" http2" * setup.h2,
    )
    path = setup.write("nginx.conf", settings)
    return Launch([nginx_program() or "nginx", "-p", str(setup.folder), "-c", path])


_HAPROXY = """
global
  nbthread {workers}
  maxconn {links}
  no strict-limits
  # Past a share of the file limit it stops pooling: ten thousand idle clients would end its pool.
  tune.pool-low-fd-ratio 100
  tune.pool-high-fd-ratio 100
defaults
  mode http
  timeout connect 3s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  timeout tunnel 1h
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096{ssl}
  maxconn {links}
  default_backend app
backend app
  server origin 127.0.0.1:{origin_port} pool-max-conn 256{ssl_server}{proto}
"""


def _haproxy_program() -> str | None:
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def _haproxy_launch(setup: Setup) -> Launch:
    folder = setup.folder
    verified = f" ssl verify required ca-file {folder}/ca.crt verifyhost localhost"
    settings = _HAPROXY.format(
        port=setup.port,
        origin_port=setup.h2_origin_port or setup.origin_port,
        links=setup.links + 512,
        workers=setup.workers,
        proto=" proto h2" if setup.h2_origin_port else "",
        ssl=f" ssl crt {folder}/site.pem alpn {'h2' if setup.h2 else 'http/1.1'}" * setup.tls,
        ssl_server=verified * setup.secure_origin,
    )
    path = setup.write("haproxy.cfg", settings)
    return Launch([_haproxy_program() or "haproxy", "-db", "-f", path])


_CADDY = """{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2 h2c
  }}
}}
{site}://:{port} {{
  bind 127.0.0.1
{tls}  reverse_proxy {scheme}://127.0.0.1:{origin_port} {{
    transport http {{
{origin_tls}      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""


def _caddy_launch(setup: Setup) -> Launch:
    folder = setup.folder
    trust = f"      tls_trusted_ca_certs {folder}/ca.crt\n      tls_server_name localhost\n"
    settings = _CADDY.format(
        port=setup.port,
        origin_port=setup.h2_origin_port or setup.origin_port,
        scheme="h2c" if setup.h2_origin_port else setup.scheme,
        site="https" if setup.tls else "http",
        tls=f"  tls {folder}/site.crt {folder}/site.key\n" * setup.tls,
        origin_tls=trust * setup.secure_origin,
    )
    path = setup.write("Caddyfile", settings)
    own = str(setup.folder)
    env = {"GOMAXPROCS": str(setup.workers), "XDG_DATA_HOME": own, "HOME": own}
    return Launch(["caddy", "run", "--config", path, "--adapter", "caddyfile"], env)


def _aiohttp_program() -> str | None:
    return sys.executable if importlib.util.find_spec("aiohttp") else None


def _aiohttp_launch(setup: Setup) -> Launch:
    if setup.h2:
        raise NotReady("aiohttp does not speak HTTP/2")
    if setup.workers > 1:
        raise NotReady("the proxy written with aiohttp has one worker")
    ports = [str(setup.port), str(setup.origin_port)]
    return Launch([sys.executable, "-m", "benchmarks.peers.aiohttp_proxy", *ports])


_HOPPROXY_VERSION = ("-m", "hopproxy.cli", "--version")
_AIOHTTP_VERSION = ("-c", "import aiohttp; print('aiohttp', aiohttp.__version__)")

PEERS = (
    Peer(HOPPROXY, "pip install -e .", _hopproxy_program, _HOPPROXY_VERSION, _hopproxy_launch),
    Peer("nginx", "apt install nginx-light", nginx_program, ("-v",), _nginx_launch),
    Peer("haproxy", "apt install haproxy", _haproxy_program, ("-v",), _haproxy_launch),
    Peer("caddy", "apt install caddy", lambda: shutil.which("caddy"), ("version",), _caddy_launch),
    Peer(
        "aiohttp", "pip install aiohttp", _aiohttp_program, _AIOHTTP_VERSION, _aiohttp_launch, False
    ),
)

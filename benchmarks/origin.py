"""The origin behind every proxy: nginx with one worker, which must never be the slow part.

| path | what it answers |
|---|---|
| /plain | 13 bytes from memory |
| /body10k, /body1m | a file through sendfile, its descriptor cached |
| /chunked | 2 KiB without a length (server-side includes are on, so nginx sends chunks) |
| /post | 2 bytes, once the whole request body has been read |
| /close | 13 bytes, and `Connection: close` |
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.processes import Launch

INSTALL = "apt install nginx-light"

_SETTINGS = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/origin.pid;
error_log {folder}/origin.log crit;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/origin_body;
  proxy_temp_path {folder}/origin_proxy;
  fastcgi_temp_path {folder}/origin_fastcgi;
  uwsgi_temp_path {folder}/origin_uwsgi;
  scgi_temp_path {folder}/origin_scgi;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16 inactive=1h;
  open_file_cache_valid 1h;
  default_type text/plain;
  http2_max_concurrent_streams 256;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{secure_port} ssl backlog=4096;
    ssl_certificate {folder}/site.crt;
    ssl_certificate_key {folder}/site.key;
    listen 127.0.0.1:{h2_port} http2 backlog=4096;
    root {folder}/files;
    location = /plain {{ return 200 "Hello, world\\n"; }}
    location = /chunked {{ ssi on; ssi_types text/plain; return 200 "{text}"; }}
    location = /close {{ keepalive_timeout 0; return 200 "Hello, world\\n"; }}
    # The static file refuses a POST after the mirror has made nginx read the body: the cheapest
    # answer that waits for all of it.
    location = /post {{ mirror /sink; error_page 405 =200 @ok; }}
    location = /sink {{ internal; return 204; }}
    location @ok {{ return 200 "ok"; }}
  }}
}}
"""


def nginx_program() -> str | None:
    """Where nginx is; /usr/sbin is not on everybody's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def origin_launch(folder: Path, port: int, secure_port: int, h2_port: int, files: int) -> Launch:
    """Write the origin's settings and files into the folder; files is its limit of open ones.

    `secure_port` is for TLS, with the certificate in the folder; on `h2_port` it speaks HTTP/2.
    """
    program = nginx_program()
    if program is None:
        raise FileNotFoundError(f"the origin is nginx: {INSTALL}")
    (folder / "files").mkdir()
    (folder / "files" / "body10k").write_bytes(b"0123456789abcdef" * 640)
    (folder / "files" / "body1m").write_bytes(b"0123456789abcdef" * 65536)
    (folder / "files" / "post").write_bytes(b"ok")
    text = "0123456789abcdef" * 128
    settings = folder / "origin.conf"
    settings.write_text(
        _SETTINGS.format(
            folder=folder,
            port=port,
            secure_port=secure_port,
            h2_port=h2_port,
            files=files,
            text=text,
        )
    )
    return Launch([program, "-p", str(folder), "-c", str(settings)])

"""Converted configurations give the answers that nginx and Caddy themselves give."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import trio
import trustme

from hopproxy.convert.command import converted
from hopproxy.server.listener import open_listener
from hopproxy.server.sockets import Sockets
from hopproxy.server.worker import Worker
from hopproxy.settings.reader import read
from tests.conftest import needs
from tests.convert.sites import CADDY, NGINX, Site
from tests.ports import free_port
from tests.wire_pair import Records

ORIGINS = ("APP", "API", "ADMIN")
PATIENCE = 20.0

WRAPPER = """
daemon off; master_process off; pid {folder}/pid; error_log stderr; {user}
events {{ worker_connections 256; }}
http {{
  access_log off; server_names_hash_bucket_size 128;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{sites}
}}
"""


class Origin(ThreadingHTTPServer):
    """Answers with what it has received; `name` is its own."""

    daemon_threads = True
    name = ""

    def handle_error(self, *_: object) -> None:
        """A proxy may give up in the middle of an upload."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields = {name.lower(): value for name, value in self.headers.items()}
        told = {"origin": self.server.name, "method": self.command, "target": self.path}
        body = json.dumps(told | {"fields": fields}).encode()
        status = 200
        if found := re.search(r"/status/([0-9]+)", self.path):
            status = int(found[1])
        location = ""
        if "/redirect/" in self.path:
            status = 302
            location = {
                "own": f"http://127.0.0.1:{self.server.server_port}/there?x#y",
                "path": "/there", "else": "https://else.test/there",
            }[self.path.rpartition("/")[2]]  # fmt: skip
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("X-Powered-By", "test")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Say nothing: the test speaks."""


@pytest.fixture(scope="module")
def origins() -> Iterator[dict[str, str]]:
    """The ports of the stand-in origins, by their names in the configurations."""
    servers = []
    for name in ORIGINS:
        server = Origin(("127.0.0.1", 0), _Answer)
        server.name = name
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        servers.append(server)
    yield {server.name: str(server.server_port) for server in servers}
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    made = trustme.CA().issue_cert("a.example", "www.a.example")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made.private_key_pem.write_to_path(key)
    cert.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    return {"CERT": str(cert), "KEY": str(key)}


def filled(site: Site, values: dict[str, str]) -> tuple[str, dict[str, int]]:
    """(the configuration with ports of its own, these ports)."""
    ports = {name: free_port() for name in ("HTTP", "HTTPS")}
    whole = values | {name: str(port) for name, port in ports.items()}
    return re.sub(r"@(\w+)@", lambda match: whole[match[1]], site.text), ports


def ask(port: int, words: str, ports: dict[str, int]) -> dict[str, Any]:
    """Send `[METHOD[:SIZE][+Field]|https] host path`; what comes back, ports replaced by names."""
    *how, host, path = words.split()
    method, body, secure = "GET", None, False
    fields: dict[str, str] = {}
    for word in how:
        if word == "https":
            secure = True
            continue
        word, plus, name = word.partition("+")
        method, colon, size = word.partition(":")
        fields |= {name: "given"} if plus else {}
        body = "b" * int(size) if colon else None
    connection: http.client.HTTPConnection
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", ports["HTTPS"], timeout=PATIENCE, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    authority = f"{host}:{ports['HTTPS' if secure else 'HTTP']}"
    try:
        connection.request(method, path, body, {"Host": authority, **fields})
        response = connection.getresponse()
        text = response.read().decode()
        return {
            "status": response.status,
            "fields": [(name.lower(), value) for name, value in response.getheaders()],
            "body": text,
            "url": f"{'https' if secure else 'http'}://{authority}{path}",
        }
    finally:
        connection.close()


def seen(site: Site, answer: dict[str, Any], ports: dict[str, int]) -> dict[str, Any]:
    """The part of an answer that must be the same."""
    status = answer["status"]
    names = {"location", *site.seen}
    names -= {"content-type"} if status >= 300 else set()
    fields = sorted(
        # nginx makes a path in Location absolute.
        (
            name,
            urljoin(answer["url"], value)
            if name == "location"
            else value.removesuffix("; charset=utf-8"),
        )
        for name, value in answer["fields"]
        if name in names
    )
    for name, port in ports.items():
        fields = [(key, value.replace(f":{port}", f":{name}")) for key, value in fields]
    body: Any = answer["body"] if status < 300 else ""
    with contextlib.suppress(json.JSONDecodeError, TypeError, KeyError):
        told = json.loads(answer["body"])
        sent = told["fields"]
        body = {key: told[key] for key in ("origin", "method", "target")}
        body |= {"host": sent["host"].partition(":")[0]}
        body |= {name: sent.get(name) for name in site.sent}
    return {"status": status, "fields": fields, "body": body}


@contextlib.contextmanager
def running(command: list[str], folder: Path, ports: list[int]) -> Iterator[None]:
    """Run a proxy until it listens, and to the end of the block."""
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    log = folder / "output"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder, env=environ)
    try:
        limit = time.monotonic() + PATIENCE
        for port in ports:
            while not _listens(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < limit, log.read_text()
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def hopproxy_answers(
    texts: list[str], sites: tuple[Site, ...], ports: list[dict[str, int]]
) -> list[list[dict[str, Any]]]:
    """What a worker with each of these settings answers."""
    answers: list[list[dict[str, Any]]] = []
    for text, site, own in zip(texts, sites, ports, strict=True):
        settings = read(text, file=site.name, environ={})
        with contextlib.ExitStack() as opened:
            sockets = [open_listener(one.bind, 64) for one in settings.listeners]
            for sock in sockets:
                opened.callback(sock.close)
            async with trio.open_nursery() as nursery:
                worker = Worker(settings, Sockets(sockets, None), Records())
                await nursery.start(worker.run)
                found = [
                    await trio.to_thread.run_sync(ask, own["HTTP"], words, own)
                    for words in site.asked
                ]
                answers.append(found)
                nursery.cancel_scope.cancel()
    return answers


def compare(sites: tuple[Site, ...], language: str, texts: list[str], ports: list[dict[str, int]],
            theirs: list[list[dict[str, Any]]]) -> None:  # fmt: skip
    """Convert, check, run, and compare with their answers."""
    drafts = [converted(text, Path("/nonexistent"), language) for text in texts]
    for site, draft in zip(sites, drafts, strict=True):
        told = {note.text for note in draft.notes}
        assert set(site.told) <= told, site.name
    ours = trio.run(hopproxy_answers, [draft.text("x") for draft in drafts], sites, ports)
    differ = [
        (site.name, words, seen(site, here, own), seen(site, there, own))
        for site, own, mine, other in zip(sites, ports, ours, theirs, strict=True)
        for words, here, there in zip(site.asked, mine, other, strict=True)
        if seen(site, here, own) != seen(site, there, own)
    ]
    assert differ == []


def test_nginx(tmp_path: Path, origins: dict[str, str], certificate: dict[str, str]) -> None:
    program = needs("nginx", debian="nginx")
    texts, ports = zip(*[filled(site, origins | certificate) for site in NGINX], strict=True)
    user = "user root;" if os.geteuid() == 0 else ""
    config = tmp_path / "nginx.conf"
    config.write_text(WRAPPER.format(folder=tmp_path, user=user, sites=_apart(list(texts))))
    listening = [own["HTTP"] for own in ports]
    with running([program, "-p", str(tmp_path), "-c", str(config)], tmp_path, listening):
        theirs = [
            [ask(own["HTTP"], words, own) for words in site.asked]
            for site, own in zip(NGINX, ports, strict=True)
        ]
    compare(NGINX, "nginx", list(texts), list(ports), theirs)


def _apart(texts: list[str]) -> str:
    """Several configurations in one: what stands above their servers goes into each server."""
    found = []
    for text in texts:
        above = re.findall(r"^proxy_hide_header .*;$", text, re.MULTILINE)
        text = re.sub(r"^proxy_hide_header .*;$\n", "", text, flags=re.MULTILINE)
        found.append(re.sub(r"^server \{", "server { " + " ".join(above), text, flags=re.MULTILINE))
    return "\n".join(found)


def test_caddy(tmp_path: Path, origins: dict[str, str]) -> None:
    program = needs("caddy", debian="caddy")
    texts, ports = zip(*[filled(site, origins) for site in CADDY], strict=True)
    config = tmp_path / "Caddyfile"
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    # Global options are read once: only one of the files has some.
    sites = [re.sub(r"\A\s*\{\n.*?\n\}\n", "", text, flags=re.DOTALL) for text in texts]
    config.write_text(options + "".join(sites))
    command = [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    with running(command, tmp_path, [own["HTTP"] for own in ports]):
        theirs = [
            [ask(own["HTTP"], words, own) for words in site.asked]
            for site, own in zip(CADDY, ports, strict=True)
        ]
    compare(CADDY, "caddy", list(texts), list(ports), theirs)

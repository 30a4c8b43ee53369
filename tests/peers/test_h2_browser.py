"""HTTP/2 as Chromium speaks it: a page with many images, and a WebSocket, over one connection."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from tests.authority import certificate, files_of
from tests.conftest import needs
from tests.dev.browser import Browser
from tests.peers.servers import configured
from tests.ports import free_port

IMAGES = 100
IMAGE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PAGE = "<!doctype html><title>images</title><p id=said></p>" + "".join(
    f"<img src=/image/{number}>" for number in range(IMAGES)
)
LOADED = """
return [...document.images].filter(image => image.complete && image.naturalWidth === 1).length
"""
SPEAK = """
const socket = new WebSocket(location.origin.replace("https", "wss") + "/socket")
socket.onopen = () => socket.send("hello")
socket.onmessage = event => { document.querySelector("#said").innerText = event.data }
"""


class Site(BaseHTTPRequestHandler):
    """The page, its images, and a WebSocket that sends each short message back."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/socket":
            self._echo()
            return
        body, kind = (IMAGE, "image/gif") if "image" in self.path else (PAGE.encode(), "text/html")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        first, size = self.rfile.read(2)
        mask, data = self.rfile.read(4), self.rfile.read(size & 0x7F)
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.wfile.write(bytes([first, len(plain)]) + plain)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """It ends although connections are open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends is no error."""


@contextmanager
def site() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def key_of(cert: Path) -> str:
    """The hash of a certificate's key, as Chromium wants it."""
    key = load_pem_x509_certificate(cert.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@pytest.mark.exchanges
def test_a_page_of_100_images_and_a_websocket_take_one_connection(tmp_path: Path) -> None:
    chromium = needs("chromium")
    chromedriver = needs("chromedriver", debian="chromium-driver")
    cert, key = files_of(certificate("localhost"), tmp_path)
    port = free_port()
    with site() as origin:
        settings = f"""
listeners:
  - bind: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
upstreams: {{app: {{origins: ["http://127.0.0.1:{origin}"]}}}}
"""
        trusted = f"--ignore-certificate-errors-spki-list={key_of(cert)}"
        with configured(settings, port, tmp_path) as server:
            browser = Browser(chromium, chromedriver, tmp_path / "profile", trusted)
            try:
                browser.open(f"https://localhost:{port}/")
                assert browser.run(LOADED) == IMAGES
                browser.run(SPEAK)
                browser.wait_for("#said", "hello")
            finally:
                browser.close()
    printed = server.output.read_text().splitlines()
    lines = [json.loads(line) for line in printed if '"client_stream"' in line]
    asked = [line for line in lines if line["target"] != "/favicon.ico"]
    assert len(asked) == IMAGES + 2
    assert len({line["client_link"] for line in asked}) == 1
    assert len({line["client_stream"] for line in asked} - {0}) == IMAGES + 2
    assert [line["upgraded"] for line in asked if line["target"] == "/socket"] == [True]

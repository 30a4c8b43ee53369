"""WebSockets to Hypercorn over HTTP/2 (RFC 8441): the client speaks HTTP/1.1, by wsproto."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.authority import authority, certificate, files_of
from tests.peers.servers import APPS, configured, needs_module, running
from tests.ports import free_port


class Visitor:
    """A WebSocket client on a plain socket."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.ws = WSConnection(ConnectionType.CLIENT)

    def send(self, event: object) -> None:
        self.sock.sendall(self.ws.send(event))  # type: ignore[arg-type]

    def next(self) -> object:
        while True:
            for event in self.ws.events():
                return event
            data = self.sock.recv(65536)
            self.ws.receive_data(data or None)

    def echo(self, data: bytes) -> bytes:
        self.send(BytesMessage(data))
        back = b""
        while len(back) < len(data):
            event = self.next()
            assert isinstance(event, BytesMessage)
            back += event.data
        return back


def echo(port: int, path: str) -> None:
    """A text, much binary data, and a close."""
    visitor = Visitor(port)
    with visitor.sock:
        visitor.send(Request(host="a", target=path, extensions=[PerMessageDeflate()]))
        assert isinstance(visitor.next(), AcceptConnection)
        visitor.send(TextMessage("hello"))
        event = visitor.next()
        assert isinstance(event, TextMessage)
        assert event.data == "hello"
        large = bytes(range(256)) * 1000
        assert visitor.echo(large) == large
        visitor.send(CloseConnection(code=1000))
        assert isinstance(visitor.next(), CloseConnection)


def test_an_echo_over_http2_without_tls_and_by_alpn(tmp_path: Path) -> None:
    needs_module("hypercorn")
    plain, secure, front = free_port(), free_port(), free_port()
    cert, key = files_of(certificate("127.0.0.1"), tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority().cert_pem.bytes())
    binds = ["-b", f"127.0.0.1:{secure}", "--insecure-bind", f"127.0.0.1:{plain}"]
    files = ["--certfile", str(cert), "--keyfile", str(key)]
    command = [sys.executable, "-m", "hypercorn", *binds, *files, f"{APPS}:asgi"]
    settings = f"""
listeners: [{{bind: "127.0.0.1:{front}"}}]
upstreams:
  plain: {{origins: ["h2c://127.0.0.1:{plain}"]}}
  secure: {{origins: ["https://127.0.0.1:{secure}"], tls: {{ca: {tmp_path}/ca.crt}}}}
routes: [{{path: /plain, upstream: plain}}, {{upstream: secure}}]
access_log: json
"""
    with (
        running(command, secure, tmp_path / "hypercorn.out"),
        configured(settings, front, tmp_path) as proxy,
    ):
        echo(front, "/plain")
        echo(front, "/secure")
        proxy.stop()
        assert proxy.output.read_text().count('"upstream_stream":1') == 2

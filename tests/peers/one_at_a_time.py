"""python -m tests.peers.one_at_a_time PORT: Python's own server, one connection at a time.

`http.server.HTTPServer` with HTTP/1.1 has one thread, which stays with a connection until it ends.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answers(BaseHTTPRequestHandler):
    """Answers each request with the peer's port."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = str(self.client_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()

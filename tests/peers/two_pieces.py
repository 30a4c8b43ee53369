"""Servers of Python that write a response in two small pieces: `python -m ... NAME PORT`."""

from __future__ import annotations

import http.server
import socketserver
import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

BODY = b"hello, " * 20


def http_server(port: int) -> None:
    """`http.server`: the head in one write, the body in another."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def wsgiref(port: int) -> None:
    """`wsgiref`, kept open between requests as Django does it: a write for each part of a head."""

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            self.close_connection = False
            while not self.close_connection:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    return
                self._respond()

        def _respond(self) -> None:
            errors, environ = self.get_stderr(), self.get_environ()
            handler = ServerHandler(self.rfile, self.wfile, errors, environ)  # type: ignore[arg-type]
            handler.http_version = "1.1"
            handler.request_handler = self  # type: ignore[attr-defined]
            handler.run(application)

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    class Server(socketserver.ThreadingMixIn, WSGIServer):
        daemon_threads = True

    def application(_: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", str(len(BODY)))])
        return [BODY]

    Server(("127.0.0.1", port), Handler).serve_forever()


def django(port: int) -> None:
    """`manage.py runserver`."""
    from django.conf import settings
    from django.core.management import execute_from_command_line
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def page(_: HttpRequest) -> HttpResponse:
        return HttpResponse(BODY)

    settings.configure(
        DEBUG=True,
        SECRET_KEY="of no consequence",
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # for Content-Length
        LOGGING_CONFIG=None,
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": [path("", page)]}),
    )
    execute_from_command_line(["manage", "runserver", "--noreload", f"127.0.0.1:{port}"])


SERVERS = {"django": django, "http.server": http_server, "wsgiref": wsgiref}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))

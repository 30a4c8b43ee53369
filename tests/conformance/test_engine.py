"""The suite itself: its reader is strict, and a proxy that only copies bytes does not pass."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests import drivers
from tests.conformance import strict
from tests.conformance.case import run
from tests.conformance.origin import Origin
from tests.conformance.proxies import Proxy
from tests.conformance.strict import Malformed
from tests.conformance.table import cases


class Text:
    """A source that ends."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_until(self, marker: bytes) -> bytes:
        at = self.data.find(marker)
        if at < 0:
            raise Malformed("ended")
        return self.read_exactly(at + len(marker))

    def read_exactly(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def read_to_end(self) -> bytes:
        return self.read_exactly(len(self.data))


def test_a_message_is_read_with_its_body_and_trailers() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b c \r\n\r\n"
    source = Text(head + b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\nrest")
    message = strict.read_response(source, "GET")
    assert (message.status, message.body, message.values("x-a")) == (200, b"ok", ["b c"])
    assert (message.trailer_values("x-t"), source.data) == (["1"], b"rest")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_strictly_http_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        strict.read_request(Text(data))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
    ],
)
def test_what_is_not_strictly_a_response_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        strict.read_response(Text(data), "GET")


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until either end is gone."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def blind_relay(origin_port: int) -> Iterator[int]:
    """Copy bytes between each client and a connection of its own to the origin; yields a port."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = opened.enter_context(listener.accept()[0])
                    address = ("127.0.0.1", origin_port)
                    upstream = opened.enter_context(socket.create_connection(address))
                    for ends in ((client, upstream), (upstream, client)):
                        threading.Thread(target=copy, args=ends, daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


BROKEN_BY_COPYING = (1, 2, 59, 60, 61, 62, 63, 65, 69, 70, 74, 75, 77, 79, 98)
"""Rules that a proxy breaks when it only copies bytes, and that are seen broken at once."""


@pytest.mark.skipif(bool(drivers.TLS), reason="the relay speaks no TLS")
def test_a_relay_that_only_copies_bytes_breaks_the_rules() -> None:
    origin = Origin()
    with blind_relay(origin.port) as port:
        proxy = Proxy("relay", port, {"": origin})
        chosen = [case for case in cases(group="base") if case.rule in BROKEN_BY_COPYING]
        failed = {case.rule for case in chosen if run(case, proxy.stage(case)).verdict == "fail"}
        proxy.stop()
    assert failed == set(BROKEN_BY_COPYING)

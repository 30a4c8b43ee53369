"""Two GiB in each direction past a slow reader: the memory of the proxy stays where it was."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.peers.bulk import peak_growth, read_head, receive, send_zeros, serving
from tests.peers.servers import Server, sidecar

GIB = 1 << 30
WARM_UP = 64 << 20
ALLOWED = 2 << 20


class Pauses:
    """A reader that stops for a moment now and then, long enough to fill every buffer before it."""

    def __init__(self, every: int, seconds: float) -> None:
        self.every, self.seconds = every, seconds
        self.following = every

    def __call__(self, come: int) -> None:
        if come >= self.following:
            self.following += self.every
            time.sleep(self.seconds)


def pauses() -> Pauses:
    return Pauses(every=GIB // 4, seconds=0.15)


def serve_either(peer: socket.socket) -> None:
    """Answer GET /SIZE with so many bytes, and POST /SIZE after having read so many, slowly."""
    if not peer.recv(1, socket.MSG_PEEK):
        return  # the proxy tried whether this origin can be reached
    method, target, _ = read_head(peer).split(b" ", 2)
    size = int(target[1:])
    if method == b"GET":
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        send_zeros(peer, size)
    else:
        receive(peer, size, pauses())
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def download(proxy: Server, size: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: peers.test\r\n\r\n" % size)
        assert read_head(client).startswith(b"HTTP/1.1 200 ")
        receive(client, size, pauses())


def upload(proxy: Server, size: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        head = b"POST /%d HTTP/1.1\r\nHost: peers.test\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % (size, size))
        send_zeros(client, size)
        assert read_head(client).startswith(b"HTTP/1.1 200 ")


def test_slow_reader_of_two_gib_costs_no_memory(tmp_path: Path) -> None:
    with serving(serve_either) as port, sidecar(port, tmp_path, admin=False) as proxy:
        download(proxy, WARM_UP)
        assert peak_growth(proxy.pids(), lambda: download(proxy, 2 * GIB)) < ALLOWED


def test_slow_origin_under_two_gib_of_upload_costs_no_memory(tmp_path: Path) -> None:
    with serving(serve_either) as port, sidecar(port, tmp_path, admin=False) as proxy:
        upload(proxy, WARM_UP)
        assert peak_growth(proxy.pids(), lambda: upload(proxy, 2 * GIB)) < ALLOWED

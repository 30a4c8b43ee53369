"""What `check` says of memory is never exceeded: processes at their worst, for each protocol.

Nobody reads: neither clients nor origins, so every buffer fills.  What the kernel holds for them is
not counted, here or there.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hopproxy.settings import memory
from hopproxy.settings.memory import most_memory
from hopproxy.settings.reader import read
from tests.authority import certificate, client_context, files_of
from tests.cli.command import PATIENCE, hopproxy
from tests.h2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
    setting,
)
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1 << 20
STREAMS = 8
HEAD = 32768
#: How much larger the bound may be than what was seen at the worst.
ALLOWED = 8
FIELDS = [(b"x-%d" % n, 250) for n in range(120)]

Sock = socket.socket | ssl.SSLSocket


def taken(pids: list[int]) -> int:
    """Bytes of these processes; what they share counts once."""
    found = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kib = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
        assert kib is not None
        found += int(kib[1]) * 1024
    return found


@contextmanager
def origin(answer: bytes) -> Iterator[int]:
    """The port of an origin that reads no body, and sends `answer` and more, if there is one."""
    kept: list[socket.socket] = []

    def serve(sock: socket.socket) -> None:
        with suppress(OSError):
            if answer and sock.recv(65536):
                sock.sendall(answer)
                while True:
                    sock.sendall(bytes(65536))

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                kept.append(sock)
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for sock in kept:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()


FLOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n%b\r\n" % b"".join(
    b"X-%d: %b\r\n" % (n, b"v" * 400) for n in range(120)
)


class Worst:
    """A hopproxy with small limits, and how much its memory has grown at most."""

    def __init__(self, port: int, pids: list[int], *, tls: bool) -> None:
        self._port = port
        self._pids = pids
        self._tls = tls
        self.at_rest = taken(pids)
        self.grown = 0

    def connect(self, clients: ExitStack) -> Sock:
        sock: Sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        clients.callback(sock.close)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self._port))
        if self._tls:
            context = client_context(ssl.TLSVersion.TLSv1_3)
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock, server_hostname="site.test")
            clients.callback(sock.close)
        return sock

    def at_worst(self, begin: Callable[[ExitStack], object]) -> int:
        """How much memory the clients that `begin` cost, at most, until it grows no more."""
        with ExitStack() as clients:
            begin(clients)
            most, since = 0, time.monotonic()
            while time.monotonic() < since + 0.4:
                now = taken(self._pids) - self.at_rest
                if now > most + MIB // 4:
                    most, since = now, time.monotonic()
                time.sleep(0.02)
        self.grown = max(self.grown, most)
        return most


@contextmanager
def at_worst(folder: Path, clients: int, *, multiplexed: bool) -> Iterator[Worst]:
    port = free_port()
    listener = f"bind: 127.0.0.1:{port}, protocols: [http/1.1]"
    if multiplexed:
        cert, key = files_of(certificate("site.test"), folder)
        tls = f"tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}"
        listener = f"bind: 127.0.0.1:{port}, protocols: [h2], {tls}"
    with origin(b"") as silent, origin(FLOOD) as flood:
        pool = f"pool: {{max_connections: {clients}, queue: 512, queue_timeout: 1m}}"
        text = (
            f"listeners: [{{{listener}}}]\naccess_log: off\ndrain_timeout: 0s\n"
            f"client: {{max_connections: {clients}, max_streams: {STREAMS}}}\n"
            f"upstreams: {{silent: {{origins: [{silent}], {pool}}}, "
            f"flood: {{origins: [{flood}], {pool}}}}}\n"
            "routes: [{path: /silent, upstream: silent}, {path: /flood, upstream: flood}]\n"
        )
        file = folder / "hopproxy.yaml"
        file.write_text(text)
        bound = most_memory(read(text, file="a", environ={}), 1)
        with hopproxy("run", str(file), until=rf"listening on \S+:{port}") as command:
            worker = command.workers()[0]
            found = Worst(port, [command.process.pid, worker], tls=multiplexed)
            yield found
            assert found.at_rest < memory.WORKER + memory.SUPERVISOR
            for_clients = bound - memory.WORKER - memory.SUPERVISOR - 2 * memory.UPSTREAM
            print(found.at_rest >> 20, found.grown >> 20, for_clients >> 20)
            assert found.grown < for_clients, "more than `check` says"
            assert found.grown > for_clients / ALLOWED, "far less than `check` says"


def head_of(path: bytes, method: bytes, client: int) -> bytes:
    """A head nearly as large as it may be, unlike all others."""
    lines = [b"%b: %d%b" % (name, client, b"v" * size) for name, size in FIELDS]
    start = b"%b %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n" % (method, path)
    return start + b"\r\n".join(lines) + b"\r\n\r\n"


def fill(socks: list[Sock], data: bytes) -> None:
    """Send on all of them until none has accepted anything for a moment."""
    for sock in socks:
        sock.setblocking(False)
    moved_at = time.monotonic()
    while time.monotonic() < moved_at + 0.15:
        for sock in socks:
            with suppress(BlockingIOError, ssl.SSLWantWriteError):
                sock.send(data)
                moved_at = time.monotonic()
        time.sleep(0.005)


def test_http_1_never_takes_more_than_check_says(tmp_path: Path) -> None:
    clients = 12
    with at_worst(tmp_path, clients, multiplexed=False) as worst:

        def stalled(stack: ExitStack, path: bytes) -> None:
            socks = [worst.connect(stack) for _ in range(clients)]
            for n, sock in enumerate(socks):
                sock.sendall(head_of(path, b"POST", n))
            fill(socks, bytes(65536))

        uploads = worst.at_worst(lambda stack: stalled(stack, b"/silent"))
        assert uploads > clients * (HEAD + 65536)
        both_ways = worst.at_worst(lambda stack: stalled(stack, b"/flood"))
        assert both_ways > clients * (HEAD + 65536)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that enters no table, with lengths below 254 + 127."""
    out = b"\x00"
    for text in (name, value):
        size = len(text)
        out += bytes([size]) if size < 127 else b"\x7f" + _more(size - 127)
        out += text
    return out


def _more(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])


def block_of(path: bytes, method: bytes, client: int, stream: int) -> bytes:
    found = literal(b":method", method) + literal(b":scheme", b"https") + literal(b":path", path)
    found += literal(b":authority", b"a")
    return found + b"".join(
        literal(name, b"%d.%d.%b" % (client, stream, b"v" * (size - 8))) for name, size in FIELDS
    )


def open_stream(sock: Sock, stream: int, block: bytes, *, ended: bool) -> None:
    sock.sendall(frame(HEADERS, END_STREAM if ended else 0, stream, block[:16000]))
    sock.sendall(frame(CONTINUATION, END_HEADERS, stream, block[16000:]))


def test_http_2_over_tls_never_takes_more_than_check_says(tmp_path: Path) -> None:
    clients = 12
    with at_worst(tmp_path, clients, multiplexed=True) as worst:

        def begin(stack: ExitStack, path: bytes, window: int) -> list[Sock]:
            socks = []
            for n in range(clients):
                sock = worst.connect(stack)
                socks.append(sock)
                sock.sendall(PREFACE + frame(SETTINGS, 0, 0, setting(4, window)))
                sock.sendall(frame(WINDOW_UPDATE, 0, 0, number(1 << 30)))
                method = b"POST" if path == b"/silent" else b"GET"
                for stream in range(1, 2 * STREAMS, 2):
                    block = block_of(path, method, n, stream)
                    open_stream(sock, stream, block, ended=method == b"GET")
            return socks

        def uploads(stack: ExitStack) -> None:
            tiny = 65535 // 64
            for sock in begin(stack, b"/silent", 0):
                for stream in range(1, 2 * STREAMS, 2):
                    sock.sendall(frame(DATA, 0, stream, b"x" * tiny) * 50)
                    sock.sendall(frame(DATA, 0, stream, b"xy") * 2000)

        def unread(stack: ExitStack) -> None:
            socks = begin(stack, b"/flood", 1 << 30)
            time.sleep(0.3)
            for sock in socks:  # as many as nobody minds
                sock.sendall(frame(PING, 0, 0, b"12345678") * 900)

        def window_closed(stack: ExitStack) -> None:
            begin(stack, b"/flood", 0)

        requests = clients * STREAMS
        assert worst.at_worst(uploads) > requests * (HEAD + 32768)
        assert worst.at_worst(unread) > requests * HEAD
        assert worst.at_worst(window_closed) > requests * HEAD

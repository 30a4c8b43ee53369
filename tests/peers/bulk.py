"""Large bodies through the proxy, and the memory that it needs meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BLOCK = bytes(1 << 20)


def peak_growth(pids: Sequence[int], work: Callable[[], None]) -> int:
    """Return by how many bytes the resident memory rose above its start while `work` ran."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = sum(_status(pid, "VmRSS") for pid in pids)
    work()
    return sum(_status(pid, "VmHWM") for pid in pids) - before


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} of process {pid}")


def send_zeros(sock: socket.socket, size: int) -> None:
    while size:
        sock.sendall(BLOCK[: min(size, len(BLOCK))])
        size -= min(size, len(BLOCK))


def receive(sock: socket.socket, size: int, pause: Callable[[int], None]) -> None:
    """Read `size` bytes and forget them; `pause` is told how many have come."""
    buffer = bytearray(1 << 20)
    come = 0
    while come < size:
        count = sock.recv_into(buffer, min(len(buffer), size - come))
        assert count, f"closed after {come} of {size} bytes"
        come += count
        pause(come)


def read_head(sock: socket.socket) -> bytes:
    """Read a head byte by byte, so that no byte of the body is taken."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, f"closed in a head: {bytes(head)!r}"
        head += byte
    return bytes(head)


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections on a port, one after another, in a thread; yields the port."""
    broken: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    peer = listener.accept()[0]
                except OSError:
                    return
                with peer:
                    try:
                        serve(peer)
                    except (AssertionError, OSError) as error:
                        broken.append(error)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not broken, broken

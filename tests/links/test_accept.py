"""Accepting without a file descriptor left: neither an end nor a spin, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import errno, resource, socket, time
import trio
from hopproxy.listener import accept, open_listener
from hopproxy.settings.units import Bind

taken = []
rooms = []


async def serve(sock, address):
    taken.append(sock)


async def main():
    listener = open_listener(Bind("tcp", host="127.0.0.1", port=0), 128)
    target = listener.getsockname()
    clients = [socket.create_connection(target) for _ in range(4)]
    held = [socket.socket() for _ in range(2)]
    async with trio.open_nursery() as nursery:
        limit = max(sock.fileno() for sock in held) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        try:
            while True:
                held.append(socket.socket())
        except OSError as error:
            assert error.errno == errno.EMFILE
        nursery.start_soon(accept, listener, serve, nursery, lambda: rooms.append(1))
        began, burned = time.monotonic(), time.process_time()
        await trio.sleep(0.55)
        assert not taken
        assert 1 <= len(rooms) <= 7, rooms
        assert time.process_time() - burned < 0.2, "it spins"
        for sock in held:
            sock.close()
        with trio.fail_after(5):
            while len(taken) < 2:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    for sock in (*taken, *clients, listener):
        sock.close()
    print("recovered")


trio.run(main)
"""


def test_without_a_descriptor_left_it_pauses_makes_room_and_recovers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == ("recovered\n", 0), done.stderr

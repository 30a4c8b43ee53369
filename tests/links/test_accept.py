"""Accepting: many at once; and without a file descriptor left, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys

import trio
import trio.testing

from hopproxy.server.listener import BATCH, STEP_BACK, open_listener
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.units import Bind
from tests.wire_pair import Hops

SCRIPT = """
import errno, resource, socket, time
import trio, trio.testing
from hopproxy.link.watch import Watch
from hopproxy.server.listener import Intake, open_listener
from hopproxy.settings.units import Bind

class Clients:
    limit = 100
    links = {}


class Runtime:
    clients = Clients()

    def __init__(self, watch):
        self.watch = watch
        self.board = None


class Gateway:
    def __init__(self):
        self.taken = []
        self.rooms = 0

    def admit(self, sock, entrance, address, port):
        self.taken.append(sock)

    def shed(self):
        self.rooms += 1


async def main():
    listener = open_listener(Bind("tcp", host="127.0.0.1", port=0), 128)
    target = listener.getsockname()
    clients = [socket.create_connection(target) for _ in range(4)]
    held = [socket.socket() for _ in range(2)]
    gateway = Gateway()
    async with trio.open_nursery() as nursery:
        watch = Watch()
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        limit = max(sock.fileno() for sock in held) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        try:
            while True:
                held.append(socket.socket())
        except OSError as error:
            assert error.errno == errno.EMFILE
        intake = Intake(listener, Runtime(watch), gateway, None)
        began, burned = time.monotonic(), time.process_time()
        await trio.sleep(0.55)
        assert not gateway.taken
        assert 1 <= gateway.rooms <= 7, gateway.rooms
        assert time.process_time() - burned < 0.2, "it spins"
        for sock in held:
            sock.close()
        with trio.fail_after(5):
            while len(gateway.taken) < 2:
                await trio.sleep(0.01)
        intake.close()
        nursery.cancel_scope.cancel()
    for sock in (*gateway.taken, *clients, listener):
        sock.close()
    print("recovered")


trio.run(main)
"""


def test_without_a_descriptor_left_it_pauses_makes_room_and_recovers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == ("recovered\n", 0), done.stderr


def test_who_connects_before_anybody_accepts_has_the_settings_of_tcp_too() -> None:
    bind = Bind("tcp", host="127.0.0.1", port=0)
    with open_listener(bind, 8, ClientSettings(tcp_keepalive=45.0)) as listener:
        with socket.create_connection(listener.getsockname(), 5):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 45


async def test_a_crowd_is_accepted_in_turns_that_take_no_time(hops: Hops) -> None:
    await hops.start()
    began = trio.current_time()
    crowd = []
    for _ in range(3 * BATCH):  # without a checkpoint: nothing is accepted meanwhile
        crowd.append(socket.socket(socket.AF_UNIX))
        crowd[-1].connect(hops.target)
    await trio.testing.wait_all_tasks_blocked()
    assert len(hops.runtime.clients.links) == len(crowd)
    assert trio.current_time() == began
    for client in crowd:
        client.close()


async def test_a_worker_that_is_ahead_waits_for_another_until_that_accepts_none(hops: Hops) -> None:
    await hops.start()
    await hops.quiet()
    another, links = hops.beside_another(), hops.runtime.clients.links

    async def accepted() -> int:
        """Milliseconds until the next connection is accepted."""
        began, before = trio.current_time(), len(links)
        await hops.client()
        await trio.testing.wait_all_tasks_blocked()
        if len(links) == before:
            await trio.sleep(STEP_BACK)
        await trio.testing.wait_all_tasks_blocked()
        assert len(links) == before + 1
        return round(1000 * (trio.current_time() - began))

    assert [await accepted() for _ in range(2)] == [0, 0]
    assert [await accepted() for _ in range(21)] == [1] * 21  # a little more than 20 ms
    assert [await accepted() for _ in range(20)] == [0] * 20  # at once
    later = []
    for _ in range(9):
        await trio.sleep(0.004)
        later.append(await accepted())
    assert later == [0, 0, 1] * 3  # for 10 ms
    another.connections = 100
    assert [await accepted() for _ in range(2)] == [0, 0]
    another.connections = 0
    assert [await accepted() for _ in range(9)] == [1] * 9  # it is waited for as before

"""Bytes before, within and after the TLS handshake of a client, whole or damaged.

Each run is one connection.  A client that says everything right must be answered; of any other, all
that must hold is that it is let go in time, that nothing is logged as a fault, and that nothing but
TLS is sent to whom began it.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hopproxy.link.watch import Watch
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.server.runtime import Runtime
from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.networks import parse_network
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import UNIX, OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.authority import client_context, listener_tls
from tests.fuzz.search import Result
from tests.fuzz.whole_path import Logged

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
HEADERS = (
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\n",
    b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n",
    b"PROXY UNKNOWN\r\n",
    V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 9, 198, 51, 100, 1, 18, 103, 1, 187]),
    V2 + b"\x20\x00\x00\x00",
    V2 + b"\x21\x11\x00\x13" + bytes(12) + b"\x04\x00\x04\x00\x00\x00\x00",
)
#: Answered by the gateway itself.
REQUEST = b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
#: Records that a peer may not send, or not now.
STRAY = (
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
    b"\x17\x03\x03\x00\x20" + bytes(32),
    b"\x17\x03\x03\xff\xff",
    b"\x80\x2e\x01\x03\x01",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x00",
)
Hurt = Callable[[bytes], bytes]


@cache
def _context(version: ssl.TLSVersion) -> ssl.SSLContext:
    return client_context(version)


class Dice:
    """What one run does, from its seed alone."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.sound = self.chance.random() < 0.25
        self.damaged = False

    def hurt(self, data: bytes) -> bytes:
        """The bytes, perhaps damaged; never if the run is a sound one."""
        chance = self.chance
        if self.sound or not data or chance.random() < 0.6:
            return data
        self.damaged = True
        at = chance.randrange(len(data))
        return chance.choice(
            (
                lambda: data[:at],
                lambda: data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
                lambda: data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at:],
                lambda: data[:at] + chance.choice(STRAY) + data[at:],
                lambda: data + chance.choice(STRAY),
                lambda: chance.choice(STRAY) + data,
                lambda: data[:at] + data[at + chance.randrange(1, 9) :],
                lambda: data + data,
                lambda: chance.randbytes(chance.randrange(1, 300)),
            )
        )()


class Far:
    """The client's end: it speaks TLS by hand, and its bytes are damaged on their way."""

    def __init__(self, sock: socket.socket, dice: Dice) -> None:
        sock.setblocking(False)
        self.sock, self.dice = sock, dice
        self.began = b""
        self.came = b""
        self.plain = b""
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        version = dice.chance.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
        self.tls = _context(version).wrap_bio(self.into, self.out, server_hostname="site.test")

    async def say(self, data: bytes) -> None:
        """Send, in one piece or in several."""
        data = self.dice.hurt(data)
        self.began = self.began or data
        pieces = 1 if self.dice.chance.random() < 0.7 else self.dice.chance.randrange(2, 6)
        size = max(1, len(data) // pieces)
        for at in range(0, len(data), size):
            with suppress(OSError):
                self.sock.send(data[at : at + size])
            if pieces > 1:
                await wait_all_tasks_blocked()

    def hear(self) -> None:
        """Take what has come."""
        with suppress(OSError):
            while data := self.sock.recv(65536):
                self.came += data
                self.into.write(data)

    async def shake(self) -> bool:
        """The handshake; False if it fails."""
        for _ in range(6):
            try:
                self.tls.do_handshake()
                await self.say(self.out.read())
                return True
            except ssl.SSLWantReadError:
                await self.say(self.out.read())
                await wait_all_tasks_blocked()
                self.hear()
            except ssl.SSLError:
                return False
        return False

    async def ask(self) -> None:
        """Requests, and what comes back."""
        for _ in range(self.dice.chance.randrange(1, 4)):
            with suppress(ssl.SSLError):
                self.tls.write(REQUEST)
            await self.say(self.out.read())
            await wait_all_tasks_blocked()
            self.hear()
            with suppress(ssl.SSLError):
                while more := self.tls.read(65536):
                    self.plain += more

    async def leave(self) -> None:
        """Say goodbye or not, then close."""
        if self.dice.chance.random() < 0.5:
            with suppress(ssl.SSLError):
                self.tls.unwrap()
            await self.say(self.out.read())
        await wait_all_tasks_blocked()
        self.hear()
        self.sock.close()


class Stage:
    """A gateway with a TLS listener, and one behind a balancer that sends PROXY headers."""

    def __init__(self, nursery: trio.Nursery, watch: Watch, folder: Path) -> None:
        tls = listener_tls(folder)
        listeners = Listener(tls=tls), Listener(tls=tls, proxy_protocol=True)
        limits = ClientSettings(
            handshake_timeout=5, head_timeout=5, idle_timeout=5, linger_timeout=2
        )
        nowhere = UpstreamSettings(origins=(OriginAddress("unix", path=str(folder / "none")),))
        settings = Settings(
            client=limits,
            listeners=listeners,
            upstreams={"app": nowhere},
            trusted_proxies=(parse_network(UNIX),),
        )
        self.runtime = Runtime(settings, watch)
        self.gateway = Gateway(self.runtime, nursery)
        self.entrances = [Entrance(settings, listener) for listener in listeners]

    async def run(self, seed: str, logged: Logged) -> None:
        """One connection.  Raises AssertionError."""
        dice = Dice(seed)
        entrance = dice.chance.choice(self.entrances)
        near, far = socket.socketpair()
        client = Far(far, dice)
        self.gateway.admit(near, entrance)
        if entrance.listener.proxy_protocol:
            await client.say(dice.chance.choice(HEADERS))
        shaken = await client.shake()
        if shaken:
            await client.ask()
        await client.leave()
        if dice.sound:
            assert shaken, "a sound handshake failed"
            assert client.plain.startswith(b"HTTP/1.1 200 "), client.plain
        if client.came and not client.came.startswith(b"HTTP/1.1 400 "):
            assert client.came[0] in (20, 21, 22, 23), client.came[:40]
        await trio.sleep(30)  # longer than all limits together
        await wait_all_tasks_blocked()
        assert not logged.texts, logged.texts
        assert not self.runtime.clients.links
        assert not self.runtime.clients.openings


def search_tls(seconds: float, seed: int, most: float = inf) -> Result:
    """Runs of different seeds, until the time is over."""
    result = Result("tls")
    clock = MockClock(autojump_threshold=0)
    trio.run(_search, result, (seconds, most), seed, clock=clock)
    return result


async def _search(result: Result, bounds: tuple[float, float], seed: int) -> None:
    seconds, most = bounds
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, (logged := Logged()).in_place():
        async with trio.open_nursery() as nursery:
            watch = Watch()
            nursery.start_soon(watch.run)
            stage = Stage(nursery, watch, Path(folder))
            while (passed := time.monotonic() - began) < seconds and result.inputs < most:
                result.inputs += 1
                one = f"{seed}-{result.inputs}"
                logged.texts.clear()
                try:
                    await stage.run(one, logged)
                except Exception as error:
                    result.found(error, json.dumps({"tls": one}))
            stage.runtime.pool.stop()
            stage.runtime.handshakes.close()
            nursery.cancel_scope.cancel()
    result.seconds = passed

"""Clients and origins that do anything at any time, out of a seed: nothing hangs, nothing is left.

Much of it comes in one batch of events, in pieces, and to peers that do not read.
"""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

import pytest
import trio

from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

#: More of them with HOPPROXY_TEST_SEEDS=1000.
SEEDS = range(int(os.environ.get("HOPPROXY_TEST_SEEDS", "150")))
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"
REQUESTS = [
    *[GET] * 3,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12000\r\n\r\n" + b"p" * 12000,
    POST + b"Content-Length: 5\r\n\r\nhello",
    POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\r\n",
    b"BAD\r\n\r\n",
]
RESPONSES = [
    *[OK] * 3,
    b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n" + b"x" * 12000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"y" * 200000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the close",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n" + UPGRADE + b"\r\nhi",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
    b"junk\r\n\r\n",
]


class Actor:
    """A peer that sends, reads and leaves without waiting for anything."""

    def __init__(self, peer: Peer, words: list[bytes], chance: random.Random) -> None:
        self._peer = peer
        self._words = words
        self._chance = chance
        self._unsent = b""
        self.heard = b""

    @property
    def _fd(self) -> int:
        return self._peer.sock.fileno()

    def speak(self) -> None:
        """Send some of what it says."""
        if not self._unsent:
            count = self._chance.choice([1, 1, 1, 2, 3])
            self._unsent = b"".join(self._chance.choices(self._words, k=count))
        size = self._chance.choice([1 << 20, 1 << 20, 1 << 20, 7, 60, 3000])
        with suppress(OSError):  # it has left, or the other side has
            self._unsent = self._unsent[os.write(self._fd, self._unsent[:size]) :]

    def listen(self) -> None:
        """Read all that has come."""
        with suppress(OSError):
            while data := os.read(self._fd, 65536):
                self.heard += data

    def leave(self) -> None:
        """Close one side, or both."""
        with suppress(OSError):
            self._chance.choice([self._peer.finish, self._peer.close])()


async def accept(hops: Hops, actors: list[Actor], chance: random.Random) -> None:
    """Origins accept every connection."""
    while True:
        peer = await hops.origins[0].accept()
        actors.append(Actor(peer, RESPONSES, chance))


async def come(hops: Hops, chance: random.Random) -> list[Actor]:
    """Some clients, of which some cannot be sent much while they do not read."""
    count = chance.randint(1, 5)
    clients = [Actor(await hops.client(), REQUESTS, chance) for _ in range(count)]
    await hops.quiet()
    for link in hops.runtime.clients.links:
        if chance.random() < 0.4:
            with socket.socket(fileno=os.dup(link.transport.fd)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return clients


def act(clients: list[Actor], upstreams: list[Actor], chance: random.Random) -> None:
    """Several things at once: they come in one batch of events."""
    for _ in range(chance.randint(1, 6)):
        who = chance.choice(clients if chance.random() < 0.6 or not upstreams else upstreams[-6:])
        [what] = chance.choices([who.speak, who.listen, who.leave], [75, 15, 8])
        what()


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_peers_do_everything_ends_in_its_time(
    hops: Hops, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)
    await hops.start(
        client={
            "max_connections": chance.choice([3, 100]),
            "idle_timeout": 30.0,
            "head_timeout": 10.0,
            "body_timeout": 10.0,
            "write_timeout": 20.0,
        },
        upstream={"response_timeout": 15.0, "body_timeout": 10.0, "tunnel_timeout": 20.0},
        pool={"max_connections": chance.choice([1, 2, 50]), "queue_timeout": 5.0},
    )
    upstreams: list[Actor] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, hops, upstreams, chance)
        clients = await come(hops, chance)
        for _ in range(chance.randint(5, 60)):
            act(clients, upstreams, chance)
            if chance.random() < 0.1:
                await trio.sleep(chance.choice([0.3, 3.0, 11.0, 25.0]))
            else:
                await chance.choice([hops.quiet, trio.lowlevel.checkpoint])()
            if chance.random() < 0.02:
                hops.worker.stop()
        for _ in range(100):  # from here on all listen and nobody speaks
            for actor in (*clients, *upstreams):
                actor.listen()
            await trio.sleep(3.0)
        nursery.cancel_scope.cancel()
    assert not hops.runtime.clients.links
    for share in hops.runtime.pool.ledger.shares:
        assert (share.in_use, share.dialling, len(share.waiters)) == (0, 0, 0)
    assert not any(b" 499 " in client.heard for client in clients), "that is for the log alone"
    assert not [entry for entry in caplog.records if entry.exc_info]

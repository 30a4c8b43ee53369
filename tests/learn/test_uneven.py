"""Origins whose links end unevenly: learning costs no reuse, and loses no request."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops, virtual_time

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
CLIENTS, ROUNDS, APART = 8, 16, 0.5


class Uneven:
    """An origin one of whose connections in `every` ends once it has been idle for `limit`."""

    def __init__(self, hops: Hops, limit: float, every: int) -> None:
        self.origin = hops.origins[0]
        self.limit = limit
        self.every = every
        self.accepted = self.posts = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                peer = await self.origin.accept()
                self.accepted += 1
                ends = self.accepted % self.every == 0
                nursery.start_soon(self._serve, peer, self.limit if ends else 1000.0)

    async def _serve(self, peer: Peer, limit: float) -> None:
        while True:
            with trio.move_on_after(limit) as idle:
                try:
                    message = await peer.message()
                except EOFError:
                    return
            if idle.cancelled_caught:
                peer.close()
                return
            self.posts += message.start.startswith(b"POST")
            await trio.sleep(0.01)
            await peer.send(OK)


async def _opened(hops: Hops, origin: Uneven, learn: bool) -> int:
    """How many connections 128 GETs of eight clients open, half a second apart."""
    await hops.start(pool={"learn": learn})
    origin.origin = hops.origins[0]
    clients = [await hops.client() for _ in range(CLIENTS)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        for _ in range(ROUNDS):
            for client in clients:
                await client.send(GET)
            for client in clients:
                assert (await client.message()).status == 200
            await trio.sleep(APART)
        nursery.cancel_scope.cancel()
    assert all(record.status == 200 for record in hops.records.kept)
    return origin.accepted


@pytest.mark.parametrize("every", [1, 4, 8, 1000])
def test_gets_open_hardly_more_connections_with_learning_than_without(
    directory: Path, every: int
) -> None:
    opened: dict[bool, int] = {}

    def run(learn: bool) -> None:
        async def act() -> None:
            async with trio.open_nursery() as nursery:
                hops = Hops(nursery, directory)
                hops.tcp = True
                hops.add_origin()
                opened[learn] = await _opened(hops, Uneven(hops, 0.35, every), learn)
                await hops.end()

        virtual_time(act)

    run(True)
    run(False)
    asked = CLIENTS * ROUNDS
    assert asked - opened[True] >= 0.9 * (asked - opened[False])
    assert opened[False] < 2 * CLIENTS or every == 1


async def test_no_post_is_lost_at_the_limit_of_some_links(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 600.0})
    origin = Uneven(hops, 1.2, 3)
    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        clients = [await hops.client() for _ in range(3)]
        for number in range(60):
            for client in clients:
                await client.send(POST if number % 2 else GET)
            for client in clients:
                assert (await client.message()).status == 200
            sent += len(clients) * (number % 2)
            await trio.sleep(1.2 + (number % 11 - 5) / 100)
        nursery.cancel_scope.cancel()
    assert origin.posts == sent

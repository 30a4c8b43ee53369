"""Origins that write a response in two pieces, on both wires and in real time.

Without TCP_NODELAY such an origin waits for our delayed ACK (40 ms) before its second piece goes
out.  The system calls that acknowledge at once are counted on the sockets.
"""

from __future__ import annotations

import os
import socket
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from hopproxy.link.endpoint import Plain
from hopproxy.observe.snapshot import origin_row
from hopproxy.pool.delayed_ack import ENOUGH, FIRST_TRIAL, FUTILE, UNNEEDED, WHOLE
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import UpstreamSettings
from tests.raw_peers import Origin, Peer
from tests.wire_pair import Hops

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#: Its body comes apart: it is sent by a coroutine of its own.
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 140\r\n\r\n"
BODY = b"hello, " * 20
#: Milliseconds that tell a delayed ACK from none on a busy machine.
DELAYED, PROMPT = 35.0, 20.0


class Script:
    """How the origin writes: `pieces`, with a pause between them, and TCP_NODELAY or not."""

    def __init__(self, *pieces: bytes, pause: float = 0.0, nodelay: bool = False) -> None:
        self.pieces = pieces
        self.pause = pause
        self.nodelay = nodelay

    async def run(self, origin: Origin) -> None:
        """Answer on every connection."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve, await origin.accept())

    async def _serve(self, peer: Peer) -> None:
        while True:
            try:
                await peer.message()
            except EOFError:
                return
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self.nodelay)
            for piece in self.pieces:
                await peer.send(piece)
                if self.pause and piece is not self.pieces[-1]:
                    await trio.sleep(self.pause)


@pytest.fixture
async def hops(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Hops]:
    """Both hops on loopback TCP, in real time."""
    made = Hops(nursery, tmp_path)
    made.tcp = True
    yield made
    await made.leave()
    made.worker.stop()
    await made.ended.wait()


@pytest.fixture
def acknowledged(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often an endpoint was told to acknowledge at once, by the port of its peer."""
    seen: Counter[int] = Counter()
    acknowledge = Plain.acknowledge

    def counting(endpoint: Plain) -> None:
        with socket.socket(fileno=os.dup(endpoint.fd)) as sock:
            seen[sock.getpeername()[1]] += 1
        acknowledge(endpoint)

    monkeypatch.setattr(Plain, "acknowledge", counting)
    return seen


async def asked(client: Peer, count: int, request: bytes = GET) -> list[float]:
    """So many requests in turn; the milliseconds that each took."""
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    for _ in range(count):
        began = trio.current_time()
        await client.send(request)
        if request is PUT:
            await trio.sleep(0.001)  # the body comes apart from its head
            await client.send(b"ok")
        message = await client.message()
        assert (message.status, message.body) == (200, BODY)
        taken.append((trio.current_time() - began) * 1000)
    return taken


def known(hops: Hops, index: int = 0) -> bool:
    """What `/links` says of an origin."""
    origin = list(hops.runtime.upstreams["app"].balancer.members)[index]
    row = origin_row("app", origin, trio.current_time())
    return bool(row["learned"]["acknowledged_at_once"])


@pytest.mark.parametrize("request_", [GET, PUT], ids=["GET", "PUT in pieces"])
async def test_a_second_piece_does_not_wait_for_our_ack(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int], request_: bytes
) -> None:
    await hops.start()
    nursery.start_soon(Script(HEAD, BODY).run, hops.origins[0])
    client = await hops.client()
    taken = await asked(client, 30, request_)
    assert statistics.median(taken) < PROMPT
    assert sum(one > DELAYED for one in taken) <= ENOUGH + 2
    assert hops.runtime.pool.links
    assert known(hops)
    assert 0 < acknowledged[hops.origins[0].address.port] <= 40


async def test_a_head_in_pieces_does_not_wait_either(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int]
) -> None:
    await hops.start()
    nursery.start_soon(Script(HEAD[:17], HEAD[17:], BODY).run, hops.origins[0])
    assert statistics.median(await asked(await hops.client(), 30)) < PROMPT
    assert acknowledged


@pytest.mark.parametrize(
    "script",
    [Script(HEAD + BODY), Script(HEAD, BODY, nodelay=True)],
    ids=["in one piece", "TCP_NODELAY"],
)
async def test_an_origin_that_does_not_wait_costs_no_system_call(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int], script: Script
) -> None:
    await hops.start()
    nursery.start_soon(script.run, hops.origins[0])
    client = await hops.client()
    await asked(client, 150)
    await asked(client, 50, PUT)
    port = client.sock.getsockname()[1]
    assert acknowledged == {port: 50}  # the heads of the PUTs, and none of the origin's responses
    assert not known(hops)


async def test_an_origin_that_takes_its_time_is_soon_left_alone(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int]
) -> None:
    await hops.start()
    nursery.start_soon(Script(HEAD, BODY, pause=0.06, nodelay=True).run, hops.origins[0])
    await asked(await hops.client(), ENOUGH + FUTILE + 6)
    assert acknowledged.total() <= FUTILE
    assert not known(hops)


async def test_only_the_origin_that_waits_is_acknowledged_at_once(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int]
) -> None:
    waits, other = hops.add_origin(), hops.add_origin()
    await hops.start(
        upstreams={
            "waits": UpstreamSettings(origins=(waits.address,)),
            "other": UpstreamSettings(origins=(other.address,)),
        },
        routes=(Route(upstream="other", path="/other"), Route(upstream="waits")),
    )
    nursery.start_soon(Script(HEAD, BODY).run, waits)
    nursery.start_soon(Script(HEAD + BODY).run, other)
    client = await hops.client()
    for _ in range(10):
        await asked(client, 1)
        await asked(client, 1, GET.replace(b"GET /", b"GET /other"))
    assert acknowledged[waits.address.port] > 0
    assert set(acknowledged) == {waits.address.port}


@pytest.mark.parametrize("nodelay", [True, False], ids=["TCP_NODELAY", "one piece"])
async def test_it_stops_when_the_origin_no_longer_waits(
    nursery: trio.Nursery, hops: Hops, acknowledged: Counter[int], nodelay: bool
) -> None:
    await hops.start()
    script = Script(HEAD, BODY)
    nursery.start_soon(script.run, hops.origins[0])
    client = await hops.client()
    await asked(client, 10)
    assert known(hops)
    if nodelay:
        script.nodelay = True
    else:
        script.pieces = (HEAD + BODY,)
    with trio.move_on_after(30):
        while known(hops):  # a pause of a busy machine looks like a wait: the count begins anew
            await asked(client, FIRST_TRIAL + UNNEEDED + WHOLE)
    assert not known(hops)
    before = acknowledged.total()
    await asked(client, 20)
    assert acknowledged.total() == before
    script.nodelay, script.pieces = False, (HEAD, BODY)
    assert statistics.median(await asked(client, 20)) < PROMPT, "and it begins again"


async def test_an_origin_that_was_away_is_learned_again(nursery: trio.Nursery, hops: Hops) -> None:
    await hops.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Script(HEAD, BODY).run, hops.origins[0])
        client = await hops.client()
        await asked(client, 10)
        assert known(hops)
        nursery.cancel_scope.cancel()
    hops.origins[0].end()
    for expected in (502, 502):
        await client.send(GET)
        assert (await client.message()).status == expected
    assert not known(hops)

"""A fault of hopproxy itself, planted in each stage: it ends its own link, and nothing else."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio

from hopproxy.link.client import ClientLink
from hopproxy.link.dial import Dial
from hopproxy.link.transport import Transport
from hopproxy.link.tunnel import Flow
from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.connector import Opened
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import Closes
from hopproxy.routing.table import Table
from hopproxy.server.connection import Connection
from hopproxy.wire import http1
from tests import drivers
from tests.raw_peers import GET, OK, Peer, together
from tests.wire_pair import Hops

CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


class Planted(Exception):
    """An unexpected exception."""


#: What makes the fault show; whether the client is answered 500.
Stage = Callable[[Hops, Callable[[], None]], Awaitable[None]]


async def ended(peer: Peer) -> None:
    """The peer's connection has been closed by hopproxy."""
    with trio.fail_after(5):
        await peer.gone()


def has_ended(peer: Peer) -> bool:
    """Whether hopproxy has closed this connection."""
    with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
        try:
            return not raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


async def answered_500(client: Peer) -> None:
    """The client got an answer, and its link was closed."""
    answer = await client.message()
    assert answer.status == 500
    assert b"proxy_internal_error" in answer.values(b"proxy-status")[0]


async def accept(hops: Hops, plant: Callable[[], None]) -> None:
    plant()
    await ended(await hops.client())


async def request(hops: Hops, plant: Callable[[], None]) -> None:
    client = await hops.client()
    await hops.quiet()
    plant()
    await client.send(GET)
    await ended(client)


async def asked(hops: Hops, plant: Callable[[], None]) -> None:
    """The fault shows while a request is answered: nothing has begun, so it is answered 500."""
    client, _ = await hops.pair()
    plant()
    await client.send(GET)
    await answered_500(client)
    await ended(client)


async def dial(hops: Hops, plant: Callable[[], None]) -> None:
    client = await hops.client()
    await hops.quiet()
    plant()
    await client.send(GET)
    await answered_500(client)


async def response(hops: Hops, plant: Callable[[], None]) -> None:
    client, upstream = await hops.asked()
    plant()
    await upstream.send(OK)
    await answered_500(client)
    await ended(client)


async def relay(hops: Hops, plant: Callable[[], None]) -> None:
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    await client.until(b"ab")
    plant()
    await upstream.send(b"c")
    await ended(client)


async def upload(hops: Hops, plant: Callable[[], None]) -> None:
    client = await hops.client()
    await client.send(CHUNKS)
    upstream = await hops.origins[0].accept()
    await upstream.until(b"\r\n\r\n")
    plant()
    await client.send(b"3\r\nabc\r\n")
    await answered_500(client)
    await ended(client)


async def tunnel(hops: Hops, plant: Callable[[], None]) -> None:
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(SWITCH)
    await client.message()
    plant()
    await upstream.send(b"hello")
    await ended(client)


async def sent_in_a_batch(hops: Hops, plant: Callable[[], None]) -> None:
    other, another = await hops.asked()
    client, upstream = await hops.pair()
    plant()
    together((client, GET), (another, OK))
    await answered_500(client)
    await ended(client)
    await ended(upstream)
    assert (await other.message()).body == b"ok"


async def answered_in_a_batch(hops: Hops, plant: Callable[[], None]) -> None:
    client, upstream = await hops.asked()
    other, another = await hops.asked()
    plant()
    together((upstream, OK), (another, OK))
    await ended(client)
    assert (await other.message()).body == b"ok"


async def idle_event(hops: Hops, plant: Callable[[], None]) -> None:
    _, upstream = await hops.pair()
    plant()
    upstream.finish()
    await ended(upstream)


async def timer(hops: Hops, plant: Callable[[], None]) -> None:
    client = await hops.client()
    await hops.quiet()
    plant()
    await trio.sleep(30)
    await ended(client)


IN_A_BATCH = pytest.mark.skipif(
    drivers.DRIVER != "events", reason="a task sends at once, and so another client meets the fault"
)

#: Where the fault is planted: a class or module, the name there, how it is met, which hop's link.
STAGES = [
    pytest.param(Connection, "start", accept, Hop.CLIENT, id="accept"),
    pytest.param(ClientLink, "take_request", request, Hop.CLIENT, id="head"),
    pytest.param(Table, "find", asked, Hop.CLIENT, id="route"),
    pytest.param(Pool, "acquire_now", asked, Hop.CLIENT, id="check-out"),
    pytest.param(Dial, "_connect", dial, Hop.UPSTREAM, id="dial"),
    pytest.param(UpstreamLink, "write_request", asked, Hop.CLIENT, id="send"),
    pytest.param(
        UpstreamLink,
        "send_queued",
        sent_in_a_batch,
        Hop.CLIENT,
        id="send in a batch",
        marks=IN_A_BATCH,
    ),
    pytest.param(
        ClientLink, "send_queued", answered_in_a_batch, Hop.CLIENT, id="answer", marks=IN_A_BATCH
    ),
    pytest.param(http1, "read_response", response, Hop.CLIENT, id="response head"),
    pytest.param(UpstreamLink, "read_body", relay, Hop.CLIENT, id="relay"),
    pytest.param(ClientLink, "_body_of", upload, Hop.CLIENT, id="upload"),
    pytest.param(Flow, "pump", tunnel, Hop.CLIENT, id="tunnel"),
    pytest.param(UpstreamLink, "idle_verdict", idle_event, Hop.UPSTREAM, id="idle event"),
    pytest.param(Transport, "_expired", timer, Hop.CLIENT, id="timer"),
]


@pytest.mark.parametrize(("place", "name", "stage", "hop"), STAGES)
async def test_a_fault_ends_its_own_link_and_nothing_else(
    hops: Hops,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: object,
    name: str,
    stage: Stage,
    hop: Hop,
) -> None:
    await hops.start(client={"head_timeout": 20.0}, upstream={"response_timeout": 500.0})
    bystander, other = await hops.asked()
    with monkeypatch.context() as patch:

        def planted(*_: object, **__: object) -> None:
            patch.undo()
            raise Planted

        with caplog.at_level(logging.ERROR, "hopproxy"):
            await stage(hops, lambda: patch.setattr(place, name, planted))
    await hops.quiet()
    assert CloseReason.INTERNAL_ERROR in hops.closes(hop)
    faults = [entry for entry in caplog.records if entry.exc_info]
    assert [entry.exc_info and entry.exc_info[0] for entry in faults] == [Planted], "logged once"
    served = hops.runtime.clients.links
    assert len(served) == sum(1 for peer in hops.clients if not has_ended(peer)), "no link is left"
    await other.send(OK)
    assert (await bystander.message()).body == b"ok", "the others go on"
    hops.check_ledger()
    client = await hops.client()
    assert (await hops.again(client, other)).body == b"ok", "the worker lives"


async def test_a_fault_in_what_comes_of_a_dial_is_logged(
    hops: Hops, caplog: pytest.LogCaptureFixture
) -> None:
    await hops.start()
    [origin] = hops.runtime.upstreams["app"].balancer.members

    def done(_: object, opened: Opened) -> None:
        assert isinstance(opened, UpstreamLink)
        opened.close(CloseReason.INTERNAL_ERROR)
        raise Planted

    hops.runtime.pool.connector.begin(origin, done)
    await hops.quiet()
    assert [entry.exc_info and entry.exc_info[0] for entry in caplog.records] == [Planted]


async def test_a_fault_as_a_link_ends_is_logged(
    hops: Hops, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await hops.start()
    client, upstream = await hops.pair()

    def planted(*_: object) -> None:
        monkeypatch.undo()
        raise Planted

    for peer in (client, upstream):
        monkeypatch.setattr(Closes, "add", planted)
        peer.close()
        await hops.quiet()
    assert [entry.exc_info and entry.exc_info[0] for entry in caplog.records] == [Planted, Planted]


async def leave(hops: Hops, plant: Callable[[], None]) -> None:
    client, _ = await hops.pair()
    plant()
    client.close()


async def drain(hops: Hops, plant: Callable[[], None]) -> None:
    client, upstream = await hops.asked()
    hops.worker.stop()
    await hops.quiet()
    plant()
    await upstream.send(OK)
    await client.message()
    await ended(client)


async def idle_timeout(hops: Hops, plant: Callable[[], None]) -> None:
    _, upstream = await hops.pair()
    plant()
    await ended(upstream)


async def dialled(hops: Hops, plant: Callable[[], None]) -> None:
    client = await hops.client()
    await hops.quiet()
    plant()
    await client.send(GET)
    upstream = await hops.origins[0].accept()
    await upstream.message()
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


#: Faults as something ends: its link, or its dial, is gone by then, and nobody waits for it.
ENDS = [
    pytest.param(ClientLink, "close", leave, id="a client leaves"),
    pytest.param(ClientLink, "close", drain, id="the worker drains"),
    pytest.param(Origin, "outlived", idle_timeout, id="an idle link is retired"),
    pytest.param(Dial, "_drop", dialled, id="a dial has ended"),
]


@pytest.mark.parametrize(("place", "name", "stage"), ENDS)
async def test_a_fault_as_something_ends_is_logged_and_leaves_nothing(
    hops: Hops,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: object,
    name: str,
    stage: Stage,
) -> None:
    await hops.start(pool={"idle_timeout": 2.0})
    sound = getattr(place, name)
    with monkeypatch.context() as patch:

        def planted(*args: object, **more: object) -> None:
            patch.undo()
            sound(*args, **more)
            raise Planted

        with caplog.at_level(logging.ERROR, "hopproxy"):
            await stage(hops, lambda: patch.setattr(place, name, planted))
            await hops.quiet()
    faults = [entry.exc_info and entry.exc_info[0] for entry in caplog.records if entry.exc_info]
    assert faults == [Planted], "logged once"
    hops.check_ledger()
    if not hops.ended.is_set() and not hops.runtime.draining:
        client = await hops.client()
        await client.send(GET)
        await hops.quiet()
        if hops.origins[0].waiting():
            await hops.origins[0].peers[-1].message()
        await hops.origins[0].peers[-1].send(OK)
        assert (await client.message()).body == b"ok", "the worker lives"

"""A dial that meets a fault, or a host that has no name: it ends one request and nothing else."""

from __future__ import annotations

import socket

import pytest

from hopproxy.record import Hop
from hopproxy.settings.schema import UpstreamSettings
from hopproxy.settings.units import OriginAddress
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops


def faulty(*_: object) -> socket.socket:
    """A dial that meets what nobody has thought of."""
    raise TypeError("what nobody has thought of")


async def test_a_fault_of_a_dial_is_answered_and_ends_nothing_else(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    bystander, upstream = await hops.asked()
    client = await hops.client()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        await client.send(GET)
        answer = await client.message()
    assert answer.status == 500
    assert b"proxy_internal_error" in answer.values(b"proxy-status")[0]
    await upstream.send(OK)
    assert (await bystander.message()).body == b"ok"
    await hops.quiet()
    hops.check_ledger()
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_fault_of_a_repetition_is_answered_and_ends_nothing_else(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    bystander = await hops.client()
    client, upstream = await hops.pair()
    await client.send(GET)
    await upstream.message()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        upstream.close()
        assert (await client.message()).status == 500
    assert hops.closes(Hop.CLIENT) == []
    assert (await hops.anew(bystander)).body == b"ok"


async def test_after_a_fault_the_next_in_the_queue_has_a_dial_of_its_own(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = await hops.start(pool={"max_connections": 1})
    clients = [await hops.client() for _ in range(2)]
    await hops.quiet()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", faulty)
        for client in clients:
            await client.send(GET)
        assert [(await client.message()).status for client in clients] == [500, 500]
    assert not origin.waiting()


@pytest.mark.parametrize("host", ["a" * 70, "a." + "b" * 70, "a..b"])
async def test_what_is_no_host_name_is_answered_502(hops: Hops, host: str) -> None:
    await hops.start(
        upstreams={"app": UpstreamSettings(origins=(OriginAddress("tcp", host=host, port=80),))}
    )
    client = await hops.client()
    for _ in range(2):
        await client.send(GET)
        answer = await client.message()
        assert answer.status == 502
        assert b"dns_error" in answer.values(b"proxy-status")[0]

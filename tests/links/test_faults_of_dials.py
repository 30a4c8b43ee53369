"""A fault in a dial, or an invalid host name: it ends one request and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hopproxy.link.dial import Target
from hopproxy.reasons import Hop
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

#: Where a dial meets what nobody has thought of: no path is a number.
NOWHERE: list[Target] = [(socket.AF_UNIX, 7)]


@contextmanager
def faulty_dials() -> Iterator[None]:
    """Each dial in this block has a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hopproxy.pool.resolver.known_targets", lambda _: NOWHERE)
        yield


async def test_a_fault_of_a_dial_is_answered_and_ends_nothing_else(hops: Hops) -> None:
    await hops.start()
    bystander, upstream = await hops.asked()
    client = await hops.client()
    with faulty_dials():
        await client.send(GET)
        answer = await client.message()
    assert answer.status == 500
    assert b"proxy_internal_error" in answer.values(b"proxy-status")[0]
    await upstream.send(OK)
    assert (await bystander.message()).body == b"ok"
    await hops.quiet()
    hops.check_ledger()
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_a_fault_of_a_repetition_is_answered_and_ends_nothing_else(hops: Hops) -> None:
    await hops.start()
    bystander = await hops.client()
    client, upstream = await hops.pair()
    await client.send(GET)
    await upstream.message()
    with faulty_dials():
        upstream.close()
        assert (await client.message()).status == 500
    assert hops.closes(Hop.CLIENT) == []
    assert (await hops.anew(bystander)).body == b"ok"


async def test_after_a_fault_the_next_in_the_queue_has_a_dial_of_its_own(hops: Hops) -> None:
    origin = await hops.start(pool={"max_connections": 1})
    clients = [await hops.client() for _ in range(2)]
    await hops.quiet()
    with faulty_dials():
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

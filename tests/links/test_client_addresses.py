"""Connections of one client address: those beyond the limit are refused, others are served."""

from __future__ import annotations

import sys

import pytest

from hopproxy.reasons import CloseReason, Hop
from hopproxy.server.addresses import Addresses
from hopproxy.server.board import Board, clear, new_board
from hopproxy.settings.client import Listener
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import Bind
from tests.raw_peers import GET
from tests.wire_pair import Hops

LIMIT = {"max_connections_per_address": 2}


async def test_a_connection_too_many_gets_503_and_the_others_stay(tcp_hops: Hops) -> None:
    hops = tcp_hops
    origin = await hops.start(client=LIMIT)
    first, _second = await hops.client(), await hops.client()
    await hops.quiet()
    third = await hops.client()
    answer = await third.message()
    assert (answer.status, answer.values(b"connection")) == (503, [b"close"])
    assert answer.values(b"retry-after") == [b"1"]
    (status,) = answer.values(b"proxy-status")
    assert status.startswith(b"hopproxy; error=connection_limit_reached;")
    assert await third.rest() == b""
    await first.send(GET)
    await origin.accept_and_answer()
    assert (await first.message()).status == 200
    counts = hops.runtime.closes.counts
    assert counts[Hop.CLIENT, CloseReason.ADDRESS_LIMIT] == 1
    first.close()
    await hops.quiet()
    again = await hops.client()
    await again.send(GET)
    await hops.quiet()
    assert len(hops.runtime.clients.links) == 2


async def test_trusted_proxies_are_not_counted(tcp_hops: Hops) -> None:
    await tcp_hops.start(client=LIMIT, trusted_proxies=(parse_network("127.0.0.0/8"),))
    clients = [await tcp_hops.client() for _ in range(5)]
    await tcp_hops.quiet()
    assert len(tcp_hops.runtime.clients.links) == len(clients)


async def test_clients_that_a_proxy_header_names_are_counted(hops: Hops) -> None:
    listener = Listener(bind=Bind("unix", path="/unused"), proxy_protocol=True)
    await hops.start(client=LIMIT, listeners=(listener,), trusted_proxies=(parse_network("unix"),))
    for address in (b"192.0.2.1", b"192.0.2.1", b"192.0.2.2", b"192.0.2.1"):
        client = await hops.client()
        await client.send(b"PROXY TCP4 %b 192.0.2.9 1000 80\r\n" % address)
        await hops.quiet()
    assert len(hops.runtime.clients.links) == 3
    assert hops.closes(Hop.CLIENT) == [CloseReason.ADDRESS_LIMIT]


def test_the_limit_is_one_for_all_workers() -> None:
    board = new_board()
    one, other = (Addresses(Board(board, place, 2)) for place in range(2))
    assert [one.enter("10.0.0.1", 3), other.enter("10.0.0.1", 3)] == [True, True]
    assert [one.enter("10.0.0.1", 3), other.enter("10.0.0.1", 3)] == [True, False]
    assert other.enter("10.0.0.2", 3)
    one.leave("10.0.0.1")
    assert other.enter("10.0.0.1", 3)
    assert not other.enter("10.0.0.1", 3)
    clear(board, 0)  # that worker has ended
    assert other.enter("10.0.0.1", 3)


@pytest.mark.parametrize("addresses", [50_000])
def test_many_addresses_are_counted_in_memory_of_a_fixed_size(addresses: int) -> None:
    board = new_board()
    one, other = (Addresses(Board(board, place, 2)) for place in range(2))
    for number in range(addresses):
        one.enter(f"a{number}", 1)
    refused = sum(not other.enter(f"a{number}", 1) for number in range(2000))
    assert refused > 200, "a full table forgets the rest, and refuses nobody for it"
    for number in range(addresses):
        one.leave(f"a{number}")
    assert other.enter("a0", 2)
    before = sys.getallocatedblocks()
    for number in range(addresses):  # nothing is kept of those that have left
        assert one.enter(f"b{number}", 1)
        one.leave(f"b{number}")
    assert sys.getallocatedblocks() < before + 1000

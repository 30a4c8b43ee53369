"""What the kernel is told of TCP: on accepted connections, and on those that we open."""

import os
import socket

import pytest

from hopproxy.link.tcp import tune
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind
from tests.wire_pair import Hops


@pytest.mark.parametrize("nodelay", [True, False])
def test_accepted_connections_inherit_the_options_of_their_listener(nodelay: bool) -> None:
    with open_listener(Bind("tcp", "127.0.0.1", 0), 8) as listener:
        tune(listener, nodelay=nodelay, keepalive=30)
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


@pytest.mark.parametrize("seconds", [32768.0, 2_160_000.0, 2.0**31, 1e12])
async def test_times_longer_than_the_kernel_knows_are_its_longest(
    tcp_hops: Hops, seconds: float
) -> None:
    await tcp_hops.start(
        upstream={"tcp_keepalive": seconds, "tcp_user_timeout": seconds},
        client={"tcp_keepalive": seconds},
    )
    client, upstream = await tcp_hops.pair()
    assert (await tcp_hops.again(client, upstream)).body == b"ok"
    runtime = tcp_hops.runtime
    ours = [link.transport for link in runtime.clients.links]
    for transport in (*ours, *(link.transport for link in runtime.pool.links)):
        with socket.socket(fileno=os.dup(transport.fd)) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 32767

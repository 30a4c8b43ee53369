"""TCP options of accepted connections, and of those that we open."""

import os
import socket
from pathlib import Path

import pytest

from hopproxy.link.tcp import ignore_newcomers, tune
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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_connection_is_made_between_the_last_accept_and_the_close(host: str) -> None:
    with open_listener(Bind("tcp", host, 0), 8) as listener:
        address = listener.getsockname()
        with socket.create_connection(address[:2]) as early, socket.socket(listener.family) as late:
            ignore_newcomers(listener)
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(address[:2])
            listener.setblocking(True)
            accepted, _ = listener.accept()
            early.sendall(b"x")
            assert accepted.recv(1) == b"x", "whoever came before is served"
            accepted.close()
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_other_listeners_than_tcp_have_no_first_packet(tmp_path: Path) -> None:
    with open_listener(Bind("unix", path=str(tmp_path / "sock")), 8) as listener:
        ignore_newcomers(listener)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "sock"))

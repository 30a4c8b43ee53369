"""What a listener is told of TCP holds for every connection that it accepts."""

import socket

import pytest

from hopproxy.link.tcp import tune
from hopproxy.server.listener import open_listener
from hopproxy.settings.units import Bind


@pytest.mark.parametrize("nodelay", [True, False])
def test_accepted_connections_inherit_the_options_of_their_listener(nodelay: bool) -> None:
    with open_listener(Bind("tcp", "127.0.0.1", 0), 8) as listener:
        tune(listener, nodelay=nodelay, keepalive=30)
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30

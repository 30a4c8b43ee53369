"""Both ends of a soak with TLS."""

from __future__ import annotations

import contextlib
import os
import ssl
from functools import cache

import trio

from tests import authority, tls_peers
from tests.raw_peers import Peer

#: The name of the listener and of the origins.
NAME = "127.0.0.1"


class SecureClient(authority.TlsPeer):
    """A client with TLS."""

    def finish(self) -> None:
        """Send close_notify and FIN; reading goes on."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        data = self.outgoing.read()
        assert os.write(self.sock.fileno(), data) == len(data)
        super().finish()


class SecureOrigin(tls_peers.TlsPeer):
    """A connection of an origin with TLS, before its handshake."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        super().__init__(sock, _server())

    def finish(self) -> None:
        """Send close_notify and FIN; reading goes on."""
        self.notify()
        super().finish()


async def secure_client(sock: trio.socket.SocketType, protocol: str) -> SecureClient:
    """Shake hands on a connection to the listener, and speak this protocol."""
    peer = SecureClient(Peer(sock), _client(protocol), NAME)
    await peer.shake()
    return peer


@cache
def _client(protocol: str) -> ssl.SSLContext:
    return authority.client_context(alpn=(protocol,))


@cache
def _server() -> ssl.SSLContext:
    return authority.server_context(NAME)

"""Origins that speak TLS, to the byte: what a test sends and when is decided by the test."""

from __future__ import annotations

import contextlib
import os
import ssl
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import trio

from hopproxy.settings.certificate import OriginTls
from tests.authority import authority, server_context
from tests.raw_peers import OK, Origin, Peer
from tests.wire_pair import Hops

#: The name that the origins of the tests have.
NAME = "origin.test"


@cache
def context_for_origin() -> ssl.SSLContext:
    """A server with a certificate for NAME."""
    return server_context(NAME)


def ca_file(folder: Path) -> str:
    """The file of the authority, for the settings."""
    file = folder / "ca.crt"
    authority().cert_pem.write_to_path(str(file))
    return str(file)


class TlsPeer(Peer):
    """The far end of a connection with TLS; `notified` once close_notify has come."""

    def __init__(self, sock: trio.socket.SocketType, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self.notified = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)

    async def shake(self, *, tickets: bool = True) -> None:
        """The handshake.  Without `tickets` its last flight is kept for `flight`."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._push()
                await self._pull()
            except ssl.SSLError:
                await self._push()
                raise
            else:
                break
        if tickets:
            await self._push()

    async def _push(self) -> None:
        if data := self._out.read():
            await super().send(data)

    async def _pull(self) -> None:
        raw = await self.sock.recv(65536)
        if raw:
            self._in.write(raw)
        else:
            self._in.write_eof()

    def sealed(self, data: bytes = b"") -> bytes:
        """The records that carry this, after all that was kept; to be sent raw."""
        if data:
            self.tls.write(data)
        return self._out.read()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await super().send(self.sealed(data))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes beside TLS."""
        await super().send(data)

    def send_at_once(self, data: bytes) -> None:
        """Send without a checkpoint."""
        super().send_at_once(self.sealed(data))

    async def more(self) -> None:
        """Receive once; EOFError at the end of the connection."""
        data = await self._receive()
        if not data:
            raise EOFError(self.unread)
        self.unread += data

    async def rest(self) -> bytes:
        """Everything up to close_notify or FIN."""
        while data := await self._receive():
            self.unread += data
        found, self.unread = self.unread, b""
        return found

    async def _receive(self) -> bytes:
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self._push()
                await self._pull()
                continue
            except ssl.SSLZeroReturnError:  # behind a close_notify of ours
                data = b""
            except ssl.SSLEOFError:
                return b""
            self.notified = not data
            return data

    def notify(self) -> None:
        """Send close_notify; no FIN follows by itself."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        data = self._out.read()
        assert os.write(self.sock.fileno(), data) == len(data)


class TlsOrigin(Origin):
    """A listening origin that speaks TLS."""

    context: ssl.SSLContext

    async def accept_raw(self) -> TlsPeer:
        """The next connection, before its handshake."""
        sock, _ = await self._sock.accept()
        peer = TlsPeer(sock, self.context)
        self.peers.append(peer)
        return peer

    async def accept(self) -> TlsPeer:
        """The next connection, after its handshake."""
        peer = await self.accept_raw()
        await peer.shake()
        return peer

    async def accept_and_answer(self) -> TlsPeer:
        """As in `Origin`."""
        peer = await self.accept()
        await peer.message()
        await peer.send(OK)
        return peer


class TlsHops(Hops):
    """Both hops; TLS towards the origins."""

    def add_origin(self, backlog: int = 128, context: ssl.SSLContext | None = None) -> TlsOrigin:
        """One more origin, before `start`."""
        plain = super().add_origin(backlog)
        origin = TlsOrigin.__new__(TlsOrigin)
        origin.__dict__.update(plain.__dict__)
        origin.address = replace(plain.address, scheme="https")
        origin.context = context or context_for_origin()
        self.origins[-1] = origin
        return origin

    async def start(self, *, upstream: dict[str, Any] | None = None, **other: Any) -> TlsOrigin:
        """As in `Hops`; the origins are trusted, unless the settings say otherwise."""
        tls = OriginTls(ca=ca_file(self._directory), server_name=NAME)
        origin = await super().start(upstream={"tls": tls, **(upstream or {})}, **other)
        assert isinstance(origin, TlsOrigin)
        return origin

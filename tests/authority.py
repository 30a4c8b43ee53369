"""A certificate authority for tests, and both sides' contexts for the certificates that it signs.

Keys are ECDSA and made once in a test run.
"""

from __future__ import annotations

import contextlib
import ssl
from functools import cache
from pathlib import Path
from typing import Any

import trustme

from hopproxy.settings.certificate import Certificate, ListenerTls
from tests.raw_peers import Peer


@cache
def authority() -> trustme.CA:
    """The authority that everybody in the tests trusts."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@cache
def certificate(*names: str) -> trustme.LeafCert:
    """A certificate of the authority for these names."""
    return authority().issue_cert(*names, key_type=trustme.KeyType.ECDSA)


def files_of(cert: trustme.LeafCert, folder: Path, name: str = "site") -> tuple[Path, Path]:
    """Write a certificate with its chain, and its key: the paths of the two files."""
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    key.touch(mode=0o600)
    key.write_bytes(cert.private_key_pem.bytes())
    return chain, key


def server_context(*names: str) -> ssl.SSLContext:
    """A server with a certificate for these names."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*names).configure_cert(made)
    return made


def client_context(
    version: ssl.TLSVersion | None = None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """A client that trusts the authority; `version` if it speaks only one."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(made)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def listener_tls(
    folder: Path, *names: str, client_ca: bool = False, **settings: Any
) -> ListenerTls:
    """Settings of a TLS listener with a certificate for these names, in files in `folder`.

    With `client_ca` the authority signs its clients' certificates too.
    """
    cert, key = files_of(certificate(*(names or ("site.test",))), folder)
    if client_ca:
        file = folder / "ca.crt"
        file.write_bytes(authority().cert_pem.bytes())
        settings["client_ca"] = str(file)
    return ListenerTls(certificates=(Certificate(cert=str(cert), key=str(key)),), **settings)


class TlsPeer(Peer):
    """A raw client that speaks TLS: what it sends and reads is plaintext."""

    def __init__(self, peer: Peer, context: ssl.SSLContext, name: str | None = "site.test") -> None:
        super().__init__(peer.sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def resume(self, session: ssl.SSLSession) -> None:
        """Have the handshake ask to resume `session`."""
        self.tls.session = session

    async def shake(self) -> None:
        """The handshake, to its end.  Raises ssl.SSLError, EOFError."""
        while True:
            try:
                self.tls.do_handshake()
                await self._flush()
                return
            except ssl.SSLWantReadError:
                await self._flush()
                if not (data := await self.sock.recv(65536)):
                    raise EOFError from None
                self.incoming.write(data)

    async def _flush(self) -> None:
        await super().send(self.outgoing.read())

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        self.tls.write(data)
        await self._flush()

    async def decrypted(self) -> bytes:
        """The next plaintext; b"" after close_notify, EOFError at a FIN without it."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                if not (data := await self.sock.recv(65536)):
                    raise EOFError(self.unread) from None
                self.incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    async def more(self) -> None:
        """Receive once; EOFError at the end of the stream, said or not."""
        data = await self.decrypted()
        if not data:
            raise EOFError(self.unread)
        self.unread += data

    async def rest(self) -> bytes:
        """Everything up to close_notify.  A FIN without it is raised as EOFError."""
        while data := await self.decrypted():
            self.unread += data
        found, self.unread = self.unread, b""
        return found

    async def say_goodbye(self) -> None:
        """Send close_notify, and no FIN."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        await self._flush()

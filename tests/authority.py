"""A certificate authority for tests, and both sides' contexts for the certificates that it signs.

Keys are ECDSA and made once in a test run.
"""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

import trustme


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

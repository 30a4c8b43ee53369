"""The certificate of the TLS scenarios: one for all proxies and the origin, ECDSA with P-256."""

from __future__ import annotations

import ssl
from pathlib import Path

NAMES = ("localhost", "127.0.0.1")


def make_certificate(folder: Path) -> None:
    """Write the authority, the certificate, its key, and both in one file as HAProxy wants it."""
    import trustme

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert(*NAMES, key_type=trustme.KeyType.ECDSA)
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    key = issued.private_key_pem.bytes()
    contents = {
        "ca.crt": authority.cert_pem.bytes(),
        "site.crt": chain,
        "site.key": key,
        "site.pem": chain + key,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def client_context() -> ssl.SSLContext:
    """A client that takes any certificate, as wrk does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

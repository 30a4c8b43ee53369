"""Clients resume their TLS sessions at any worker."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from hopproxy.link import tickets


@pytest.fixture
def secret() -> Iterator[None]:
    tickets.share(b"s" * 64)
    yield
    tickets.share(b"")


def listener(authority: trustme.CA, demand: bytes) -> ssl.SSLContext:
    """The context of one worker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if not tickets.share_keys(context, demand):
        pytest.skip("missing: OpenSSL as a library that ssl uses")
    return context


def resumed(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """One connection in memory: whether it was resumed, and its session."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    return bool(ours.session_reused), ours.session


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_one_worker_is_resumed_at_another(version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    client.minimum_version = client.maximum_version = version
    one, other = (listener(authority, b"off") for _ in range(2))
    first, session = resumed(client, one, None)
    again, _ = resumed(client, other, session)
    stricter, _ = resumed(client, listener(authority, b"required"), session)
    assert (first, again, stricter) == (False, True, False)


def test_a_single_worker_keeps_the_keys_of_openssl(tmp_path: Path) -> None:
    assert not tickets.share_keys(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), b"")

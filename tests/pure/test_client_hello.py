"""Which protocols a ClientHello names, where OpenSSL does not tell."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.wire.client_hello import offers_other

OURS = (b"h2", b"http/1.1")


def hello(protocols: Sequence[str] = (), name: str | None = "site.test") -> bytes:
    """The first flight of a client of OpenSSL's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


@pytest.mark.parametrize(
    ("protocols", "other"),
    [
        ((), False),
        (("http/1.1",), False),
        (("h2", "http/1.1"), False),
        (("foo", "h2"), False),
        (("foo",), True),
        (("h3", "http/1.0"), True),
        (("xh2", "x" * 255), True),
    ],
)
def test_only_who_names_none_of_ours_is_refused(protocols: Sequence[str], other: bool) -> None:
    assert offers_other(hello(protocols), OURS) is other
    assert offers_other(hello(protocols, name=None), OURS) is other


def in_records(data: bytes, size: int) -> bytes:
    """The same message, split into records of this size."""
    body = data[5:]
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("size", [1, 7, 100, 16384])
def test_a_hello_may_lie_in_many_records(size: int) -> None:
    assert offers_other(in_records(hello(["foo"]), size), OURS)
    assert not offers_other(in_records(hello(["http/1.1"]), size), OURS)


def test_what_follows_the_hello_is_not_looked_at() -> None:
    assert not offers_other(hello() + b"\x17\x03\x03\x00\x05" + bytes(5), OURS)
    assert offers_other(hello(["foo"]) + b"\x14\x03\x03\x00\x01\x01", OURS)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_hello_that_is_cut_or_damaged_raises_nothing(data: bytes, cut: int) -> None:
    offers_other(data, OURS)
    offers_other(b"\x16\x03\x01\xff\xff" + data, OURS)
    offers_other(hello(["foo"])[:cut], OURS)

"""The PROXY header: what is one, where it ends, and what may not be believed."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings.units import unmapped
from hopproxy.wire.proxy_protocol import (
    MOST_V1,
    MOST_V2,
    V2,
    BadHeader,
    Header,
    crc32c,
    own_header,
    read_header,
    write_header,
)

A4, B4 = IPv4Address("192.0.2.9").packed, IPv4Address("198.51.100.1").packed
A6, B6 = IPv6Address("2001:db8::9").packed, IPv6Address("::1").packed
INET = A4 + B4 + struct.pack(">HH", 4711, 443)
INET6 = A6 + B6 + struct.pack(">HH", 4711, 443)


def v2(addresses: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    """A header of version 2."""
    return V2 + bytes([command, family]) + struct.pack(">H", len(addresses)) + addresses


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack(">H", len(value)) + value


def with_checksum(addresses: bytes) -> bytes:
    """A header of version 2 with a right checksum behind the addresses."""
    header = v2(addresses + tlv(3, bytes(4)))
    return header[:-4] + struct.pack(">I", crc32c(header))


WHOLE = {
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\n": ("192.0.2.9", 4711),
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n": ("0.0.0.0", 0),
    b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n": ("2001:db8::9", 4711),
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:9 ::1 65535 0\r\n": ("2001:db8::9", 65535),
    b"PROXY UNKNOWN\r\n": ("", 0),
    b"PROXY UNKNOWN ff:ff 1.2.3.4 whatever\r\n": ("", 0),
    v2(INET): ("192.0.2.9", 4711),
    v2(INET6, 0x21): ("2001:db8::9", 4711),
    v2(bytes(216), 0x31): ("", 0),
    v2(b"", 0x00): ("", 0),
    v2(b"ignored", 0x00): ("", 0),
    v2(b"", 0x00, command=0x20): ("", 0),
    v2(INET, command=0x20): ("", 0),
    v2(b"\x01", 0xFF, command=0x20): ("", 0),
    v2(INET + tlv(1, b"h2") + tlv(4, b"") + tlv(0xE0, bytes(300))): ("192.0.2.9", 4711),
    with_checksum(INET): ("192.0.2.9", 4711),
}


@pytest.mark.parametrize("header", WHOLE, ids=range(len(WHOLE)))
def test_a_header_is_read_to_its_end_and_never_before(header: bytes) -> None:
    address, port = WHOLE[header]
    expected = Header(len(header), address, port)
    assert read_header(header) == expected
    assert read_header(header + b"GET / HTTP/1.1\r\n") == expected
    assert all(read_header(header[:cut]) is None for cut in range(len(header)))


BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"PROXy TCP4",
    b"PROXY  TCP4 192.0.2.9 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443 \r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443 1\r\n",
    b"PROXY TCP4 192.0.2.009 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.256 4711 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 04711 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 00\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 -1 443\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 +1 443\r\n",
    "PROXY TCP4 192.0.2.9 198.51.100.1 ٣ 443\r\n".encode(),
    b"PROXY TCP4 2001:db8::9 ::1 4711 443\r\n",
    b"PROXY TCP6 192.0.2.9 198.51.100.1 4711 443\r\n",
    b"PROXY TCP6 fe80::1%1 ::1 4711 443\r\n",
    b"PROXY TCP5 192.0.2.9 198.51.100.1 4711 443\r\n",
    b"PROXY tcp4 192.0.2.9 198.51.100.1 4711 443\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN " + b"x" * MOST_V1,
    V2[:6] + b"X",
    v2(INET, command=0x22),
    v2(INET, command=0x11),
    v2(INET, family=0x12),
    v2(INET, family=0x13),
    v2(INET[:-1]),
    v2(INET6[:-1], 0x21),
    v2(bytes(215), 0x31),
    v2(INET + b"\x04"),
    v2(INET + b"\x04\x00"),
    v2(INET + b"\x04\x00\x01"),
    v2(INET + tlv(3, bytes(4))),
    v2(INET + tlv(3, bytes(3))),
    v2(INET + tlv(3, bytes(5))),
    v2(INET + bytes(MOST_V2)),
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_not_exactly_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadHeader):
        read_header(data)


def test_a_header_without_an_end_is_not_waited_for() -> None:
    longest = b"PROXY UNKNOWN " + b"x" * (MOST_V1 - 16) + b"\r\n"
    assert len(longest) == MOST_V1
    assert read_header(longest) == Header(MOST_V1)
    assert read_header(longest[:-1]) is None
    with pytest.raises(BadHeader, match="no end"):
        read_header(longest[:-2] + b"xx")
    with pytest.raises(BadHeader, match="too long"):
        read_header(v2(bytes(MOST_V2))[:16])  # its length alone is enough


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_name_the_same_client(
    source: IPv4Address, destination: IPv4Address, port: int, other: int
) -> None:
    line = f"PROXY TCP4 {source} {destination} {port} {other}\r\n".encode()
    packed = source.packed + destination.packed + struct.pack(">HH", port, other)
    first, second = read_header(line), read_header(v2(packed))
    assert first is not None
    assert second is not None
    assert first[1:] == second[1:] == (str(source), port)


@given(
    st.binary(max_size=40)
    | st.binary(max_size=200).map(lambda tail: b"PROXY " + tail)
    | st.binary(max_size=200).map(lambda tail: V2 + tail)
)
def test_any_bytes_are_read_or_refused_or_waited_for(data: bytes) -> None:
    try:
        header = read_header(data)
    except BadHeader:
        return
    if header is None:
        assert len(data) < MOST_V2
        return
    assert 0 < header.size <= len(data)
    assert read_header(data[: header.size]) == header


@given(
    st.sampled_from(["v1", "v2"]),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.one_of(st.ip_addresses().map(str), st.just("")),
)
def test_a_header_that_we_write_is_one_that_we_read(
    version: str, client: IPv4Address | IPv6Address, port: int, here: str
) -> None:
    header = write_header(version, (str(client), port), (here, 80))
    found = read_header(header)
    assert found is not None
    assert (found.size, found.port) == (len(header), port)
    assert unmapped(found.address) == unmapped(str(client))


@pytest.mark.parametrize(
    ("client", "here", "line"),
    [
        ("192.0.2.1", "192.0.2.9", b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n"),
        ("2001:db8::1", "::1", b"PROXY TCP6 2001:db8::1 ::1 1000 80\r\n"),
        ("192.0.2.1", "", b"PROXY TCP4 192.0.2.1 0.0.0.0 1000 80\r\n"),
        ("192.0.2.1", "::ffff:192.0.2.9", b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n"),
        ("192.0.2.1", "::1", b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1000 80\r\n"),
        ("fe80::1%eth0", "fe80::2", b"PROXY TCP6 fe80::1 fe80::2 1000 80\r\n"),
        ("unix", "", b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1_as_it_is_written(client: str, here: str, line: bytes) -> None:
    written = write_header("v1", (client, 1000), (here, 80))
    assert written.replace(b"::ffff:c000:201", b"::ffff:192.0.2.1") == line


@pytest.mark.parametrize(
    ("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", V2 + b"\x20\x00\x00\x00")]
)
def test_a_connection_of_our_own_names_no_client(version: str, header: bytes) -> None:
    assert own_header(version) == header
    assert read_header(header) == Header(len(header))


def test_where_no_header_is_wanted_our_own_connections_have_none_either() -> None:
    assert own_header("off") == b""


def test_version_2_of_a_client_without_an_address() -> None:
    header = write_header("v2", ("", 0), ("", 0))
    assert header == V2 + b"\x21\x00\x00\x00"
    assert read_header(header) == Header(16)

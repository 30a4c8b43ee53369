"""The PROXY header that begins a connection from a balancer: versions 1 and 2.

It names the client whose bytes follow.  Anything that is not exactly a header is refused, since a
forged one could name any client.  (haproxy.org/download/3.0/doc/proxy-protocol.txt)
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from hopproxy.settings.units import unmapped

#: The longest header of version 1, and the longest of version 2 that is read: 4 KiB of TLVs.
MOST_V1, MOST_V2 = 107, 16 + 4096

V1, V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
_LINE = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_PORT = re.compile(rb"0|[1-9][0-9]*")
#: By family and transport of version 2: the bytes of both addresses and ports.
_IPV4, _IPV6, _UNIX = 0x11, 0x21, 0x31
_SIZES = {_IPV4: 12, _IPV6: 36, _UNIX: 216}
_LOCAL, _PROXY, _UNSPECIFIED = 0x20, 0x21, 0x00
_CRC32C = 0x03


class Header(NamedTuple):
    """A header: its size, and the client's address and port; "" where it names no client.

    Then the client is the peer itself, such as the balancer for a health check.
    """

    size: int
    address: str = ""
    port: int = 0


class BadHeader(ValueError):
    """The connection does not begin with a valid PROXY header."""


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with, None if more of it must arrive.  Raises BadHeader."""
    if data[: len(V2)] == V2[: len(data)]:
        return _read_v2(data) if len(data) >= 16 else None
    if data[: len(V1)] == V1[: len(data)]:
        return _read_v1(data)
    raise BadHeader("the connection does not begin with a PROXY header")


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, MOST_V1)
    if end < 0:
        if len(data) >= MOST_V1:
            raise BadHeader("the PROXY header has no end")
        return None
    line = data[: end + 1]
    if re.fullmatch(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n", line):
        return Header(len(line))
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadHeader("the PROXY header is malformed")
    family, source, destination, source_port, destination_port = match.groups()
    _port(destination_port)
    _address(family, destination)
    return Header(len(line), _address(family, source), _port(source_port))


def _address(family: bytes, text: bytes) -> str:
    word = text.decode()
    try:
        return str(IPv4Address(word) if family == b"TCP4" else IPv6Address(word))
    except ValueError as error:
        raise BadHeader(f"`{word}` in the PROXY header is not an address") from error


def _port(digits: bytes) -> int:
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise BadHeader("a port in the PROXY header is not valid")
    return int(digits)


def _read_v2(data: bytes) -> Header | None:
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    size = 16 + length
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("the PROXY header has an unknown version or command")
    if command == _PROXY and family not in _SIZES and family != _UNSPECIFIED:
        raise BadHeader("the PROXY header has an unknown family or transport")
    if size > MOST_V2:
        raise BadHeader("the PROXY header is too long")
    if len(data) < size:
        return None
    if command == _LOCAL or family == _UNSPECIFIED:
        return Header(size)
    begin = 16 + _SIZES[family]
    if size < begin:
        raise BadHeader("the PROXY header is too short for its addresses")
    _check_tlvs(data[:size], begin)
    if family == _UNIX:
        return Header(size)
    if family == _IPV4:
        source, _, port, _ = struct.unpack_from(">4s4sHH", data, 16)
        return Header(size, str(IPv4Address(source)), port)
    source, _, port, _ = struct.unpack_from(">16s16sHH", data, 16)
    return Header(size, str(IPv6Address(source)), port)


def _check_tlvs(header: bytes, place: int) -> None:
    """Check that the TLVs fill the header exactly, and the checksum if there is one."""
    while place < len(header):
        kind, length = header[place], int.from_bytes(header[place + 1 : place + 3], "big")
        value = place + 3
        place = value + length
        if place > len(header):
            raise BadHeader("the PROXY header ends inside a TLV")
        if kind == _CRC32C:
            zeroed = header[:value] + bytes(length) + header[place:]
            if header[value:place] != crc32c(zeroed).to_bytes(4, "big"):
                raise BadHeader("the checksum of the PROXY header is wrong")


def crc32c(data: bytes) -> int:
    """The CRC-32C of RFC 9260 appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_TABLE = _table()


def own_header(version: str) -> bytes:
    """The header, `v1` or `v2`, for a connection of our own, which serves no client.

    None if it is `off`: b"".
    """
    if version == "off":
        return b""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else V2 + bytes((_LOCAL, 0, 0, 0))


def write_header(version: str, client: tuple[str, int], here: tuple[str, int]) -> bytes:
    """The header, `v1` or `v2`, for a client and for where it has connected: addresses and ports.

    A client without an IP address is written as unknown.
    """
    try:
        source = ip_address(client[0].partition("%")[0])
    except ValueError:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else V2 + bytes((_PROXY, 0, 0, 0))
    four = isinstance(source, IPv4Address)
    try:
        destination = ip_address(unmapped(here[0]).partition("%")[0])
    except ValueError:
        destination = ip_address("0.0.0.0" if four else "::")
    if source.version != destination.version:  # a client that another header has named
        source, destination = _as_ipv6(source), _as_ipv6(destination)
    if version == "v1":
        family = f"TCP{source.version}"
        return f"PROXY {family} {source} {destination} {client[1]} {here[1]}\r\n".encode()
    addresses = source.packed + destination.packed + struct.pack(">HH", client[1], here[1])
    family_byte = _IPV4 if source.version == 4 else _IPV6
    return V2 + struct.pack(">BBH", _PROXY, family_byte, len(addresses)) + addresses


def _as_ipv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    if isinstance(address, IPv6Address):
        return address
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)

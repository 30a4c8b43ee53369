"""The protocols in a TLS ClientHello (ALPN, RFC 7301).

If no protocol is shared, OpenSSL completes the handshake, and does not say that the client has
offered some.
"""

from collections.abc import Iterator

_ALPN = 16
_TYPE = _ALPN.to_bytes(2, "big")


def offers_other(data: bytes, protocols: tuple[bytes, ...]) -> bool:
    """Whether the client offers protocols, but none of `protocols`.

    `data` are its records so far, with a complete ClientHello that OpenSSL has accepted.
    """
    if any(bytes([len(name)]) + name in data for name in protocols):
        return False  # the usual cases: it names one of ours, or none at all
    if _TYPE not in data and len(data) <= 5 + int.from_bytes(data[3:5], "big"):
        return False  # one record, without this extension
    hello = _hello(data)
    offered = list(_offered(hello)) if _TYPE in hello else []
    return bool(offered) and not any(name in protocols for name in offered)


def _hello(data: bytes) -> bytes:
    """The body of the first handshake message, without the records around it."""
    parts, place = [], 0
    while place + 5 <= len(data) and data[place] == 22:
        length = int.from_bytes(data[place + 3 : place + 5], "big")
        parts.append(data[place + 5 : place + 5 + length])
        place += 5 + length
    whole = b"".join(parts)
    return whole[4 : 4 + int.from_bytes(whole[1:4], "big")]


def _offered(hello: bytes) -> Iterator[bytes]:
    """The names in its ALPN extension; none if it is cut off."""
    place = 34  # version and random
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        place += size + int.from_bytes(hello[place : place + size], "big")
    place += 2  # the length of all extensions
    while place + 4 <= len(hello):
        kind = int.from_bytes(hello[place : place + 2], "big")
        length = int.from_bytes(hello[place + 2 : place + 4], "big")
        place += 4
        if kind == _ALPN:
            names = hello[place + 2 : place + length]
            while names:
                yield names[1 : 1 + names[0]]
                names = names[1 + names[0] :]
        place += length

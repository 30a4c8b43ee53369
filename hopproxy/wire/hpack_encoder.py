"""Encoding field lines for HTTP/2 (RFC 7541).

It has no state: it uses names of the static table, no dynamic table and no Huffman code.  So an
encoded line is right on every connection, and is cached.
"""

from collections.abc import Iterable

from hopproxy.wire.static_table import STATIC_LINES

#: Bounds of the cache of encoded lines: how many, and the bytes of each.
MEMO_LINES = 4096
MEMO_LINE_SIZE = 256

#: Must begin the first block after a peer has allowed less than 4096 bytes (RFC 7541 section 4.2).
NO_TABLE = b"\x20"

#: Fields that later hops must not put into their tables either (RFC 7541 section 7.1.3).
_SENSITIVE = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})

_NAMES: dict[bytes, int] = {}
_INDEXES: dict[tuple[bytes, bytes], bytes] = {}
for _index, (_name, _value) in enumerate(STATIC_LINES, 1):
    _NAMES.setdefault(_name, _index)
    if _value:
        _INDEXES[_name, _value] = bytes((0x80 | _index,))


def encode_integer(value: int, prefix: int, first: int) -> bytes:
    """An integer (RFC 7541 section 5.1); `first` has the other bits of its first byte."""
    if value < prefix:
        return bytes((first | value,))
    out = bytearray((first | prefix,))
    value -= prefix
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(name: bytes, value: bytes) -> bytes:
    """A field line; its name in lower case, as HTTP/2 needs it (RFC 9113 section 8.2.1)."""
    whole = _INDEXES.get((name, value))
    if whole is not None:
        return whole
    kind = 0x10 if name in _SENSITIVE else 0
    index = _NAMES.get(name, 0)
    start = encode_integer(index, 0x0F, kind)
    if not index:
        start += encode_integer(len(name), 0x7F, 0) + name
    return start + encode_integer(len(value), 0x7F, 0) + value


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """Lines `Name: value`, without their CRLF."""
    out = []
    for line in lines:
        coded = _coded.get(line)
        if coded is None:
            name, _, value = line.partition(b": ")
            coded = encode_field(name.lower(), value)
            if len(line) <= MEMO_LINE_SIZE:
                if len(_coded) >= MEMO_LINES:
                    _coded.clear()
                _coded[line] = coded
        out.append(coded)
    return b"".join(out)


_coded: dict[bytes, bytes] = {}

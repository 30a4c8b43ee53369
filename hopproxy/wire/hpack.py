"""HPACK, the header compression of HTTP/2 (RFC 7541).

Decoding is a function: (dynamic table, field block) -> (field lines, next dynamic table).  A table
is immutable, and the results for blocks are cached on it, so a cached result is always right.  All
connections begin with the same empty table and share the caches: if clients send the same requests
in the same order, each block costs one look-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from hopproxy.wire.huffman import decode_huffman
from hopproxy.wire.static_table import STATIC_LINES

#: The size of dynamic table that a decoder allows: the default, which we never change.
TABLE_SIZE = 4096
#: What each line counts in addition to its bytes (RFC 7541 section 4.1).
OVERHEAD = 32

#: Bounds of the cache: blocks, bytes of a block, size of its field section.
MEMO_BLOCKS = 1024
MEMO_BLOCK_SIZE = 1024
MEMO_SECTION_SIZE = 4096
#: Bytes of all sections; in memory they take up to eight times as much.
MEMO_BYTES = 1024 * 1024
#: Blocks that have been seen once.
MEMO_SEEN = 8192
#: Bounds of the cache of decoded strings: how many, and the bytes of each.
MEMO_STRINGS = 4096
MEMO_STRING_SIZE = 256

#: A section this many times larger than allowed ends the connection; a smaller one is only refused.
BOMB = 8


class CompressionError(Exception):
    """A field block that cannot be decoded.  The connection must end (RFC 9113 section 4.3).

    `section` is the rule's place, such as "7541 5.2".
    """

    def __init__(self, section: str, detail: str) -> None:
        super().__init__(f"{detail} ({section})")
        self.section = section
        self.detail = detail


class Bomb(CompressionError):
    """A small block for a huge field section; decoding stops."""


class FieldSectionTooLarge(Exception):
    """A field section above the limit.  It was decoded, so the connection may go on."""


class FieldLine:
    """One field line.  `size` is its size for HPACK (RFC 7541 section 4.1).

    `checked` is the result of the reader's checks, so a line of a table is checked once.
    """

    __slots__ = ("checked", "name", "size", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.size = OVERHEAD + len(name) + len(value)
        self.checked: object = None

    def __repr__(self) -> str:
        return f"<FieldLine {self.name!r} {self.value!r}>"


M = TypeVar("M")
#: A field block, or the parts before and after its :path.
Block = bytes | tuple[bytes, bytes]
#: Indexed lines, and the first byte of a :path that is not put into a table.
_PATH = re.compile(rb"[\x81-\xfe]*[\x04\x14]")

_STATIC = tuple(FieldLine(name, value) for name, value in STATIC_LINES)
_STATIC_COUNT = len(_STATIC)
#: The index of the newest line of the dynamic table.
_FIRST = _STATIC_COUNT + 1


class Table(Generic[M]):
    """One state of a dynamic table, newest line first; never changed.

    `known` caches blocks that were decoded with it: their meaning, the next table, and the size of
    their section.  With any :path a block is known by the two parts around it, and its size is
    without the path.
    """

    __slots__ = ("capacity", "known", "lines", "size")

    def __init__(
        self, lines: tuple[FieldLine, ...] = (), size: int = 0, capacity: int = TABLE_SIZE
    ) -> None:
        self.lines = lines
        self.size = size
        self.capacity = capacity
        self.known: dict[Block, tuple[M, Table[M], int]] | None = None


def decode(table: Table[M], block: bytes, limit: int) -> tuple[list[FieldLine], int, Table[M]]:
    """Decode a complete field block: its lines, their size, and the next table.

    Lines beyond `limit` bytes are left out; then the size is larger than `limit`.  Raises
    CompressionError.
    """
    found: list[FieldLine] = []
    dynamic, used, capacity = table.lines, table.size, table.capacity
    at, end, size = 0, len(block), 0
    try:
        while at < end:
            first = block[at]
            if first & 0x80:  # section 6.1: indexed
                if first == 0xFF:
                    index, at = _integer(block, at, 0x7F)
                else:
                    index, at = first & 0x7F, at + 1
                place = index - _FIRST
                line = dynamic[place] if 0 <= place < len(dynamic) else _line_at(index, dynamic)
            elif first & 0xE0 == 0x20:  # section 6.3: table size update
                capacity, at = _integer(block, at, 0x1F)
                if capacity > TABLE_SIZE:
                    raise CompressionError("7541 6.3", "a table size above the limit")
                if size:
                    raise CompressionError("7541 4.2", "a table size update after a field")
                dynamic, used = _fit(dynamic, used, capacity)
                continue
            else:  # section 6.2: literal, with indexing or without
                index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = _line_at(index, dynamic).name
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                line = FieldLine(name, value)
                if first & 0x40:
                    dynamic, used = _fit(dynamic, used, capacity - line.size)
                    if line.size <= capacity:
                        dynamic = (line, *dynamic)
                        used += line.size
            size += line.size
            if size <= limit:
                found.append(line)
            elif size > limit * BOMB:
                raise Bomb("9113 10.5.1", "a field section far above the limit")
    except IndexError:
        raise CompressionError("7541 6", "a block that ends inside a field") from None
    if dynamic is table.lines and capacity == table.capacity:
        return found, size, table
    return found, size, Table(dynamic, used, capacity)


def _line_at(index: int, dynamic: tuple[FieldLine, ...]) -> FieldLine:
    if 0 < index <= _STATIC_COUNT:
        return _STATIC[index - 1]
    if index == 0 or index > _STATIC_COUNT + len(dynamic):
        raise CompressionError("7541 2.3.3", f"no line has the index {index}")
    return dynamic[index - _STATIC_COUNT - 1]


def _fit(
    dynamic: tuple[FieldLine, ...], used: int, capacity: int
) -> tuple[tuple[FieldLine, ...], int]:
    """Evict the oldest lines until the table has at most `capacity` bytes (sections 4.3, 4.4)."""
    if used <= capacity:
        return dynamic, used
    kept = len(dynamic)
    while kept and used > capacity:
        kept -= 1
        used -= dynamic[kept].size
    return dynamic[:kept], used


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """An integer whose first byte has the bits of `prefix` for it, and where it ends."""
    value = block[at] & prefix
    at += 1
    if value < prefix:
        return value, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CompressionError("7541 5.1", "an integer of more than five bytes")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (RFC 7541 section 5.2), and where it ends."""
    coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise CompressionError("7541 5.2", "a string longer than its block")
    raw = block[at:end]
    if not coded:
        return raw, end
    text = _strings.get(raw)
    if text is None:
        text = decode_huffman(raw)
        if text is None:
            raise CompressionError("7541 5.2", "a string that is not Huffman-coded")
        if len(raw) <= MEMO_STRING_SIZE:
            if len(_strings) >= MEMO_STRINGS:
                _strings.clear()
            _strings[raw] = text
    return text, end


_strings: dict[bytes, bytes] = {}


def _around_path(block: bytes) -> tuple[tuple[bytes, bytes], bytes] | None:
    """The parts before and after the :path, and the path; None if it is not at its usual place."""
    if (match := _PATH.match(block)) is None:
        return None
    start = match.end()
    try:
        path, end = _string(block, start)
    except (IndexError, CompressionError):
        return None  # `decode` raises the error
    return (block[:start], block[end:]), path


class Meanings(Generic[M]):
    """The meanings of field blocks, for all connections of one kind; `read` makes them of lines.

    `limit` is the largest field section that is read, in bytes as HPACK counts them.  A block is
    remembered when it has been seen twice with the same table.  `read` must be pure; what it raises
    passes through, and is not remembered.

    `elsewhere` makes, of the meaning of a section, that of the same lines with another :path in a
    given place, so that blocks which differ in nothing else are decoded twice only.
    """

    def __init__(
        self,
        read: Callable[[list[FieldLine]], M],
        limit: int,
        elsewhere: Callable[[M, int, bytes], M] | None = None,
    ) -> None:
        self.read = read
        self.limit = limit
        self.elsewhere = elsewhere
        self.empty: Table[M] = Table()
        self._seen: set[int] = set()
        self._tables: list[Table[M]] = []  # those that remember anything
        self.count = self.size = 0

    def remember(self, table: Table[M], block: Block, found: tuple[M, Table[M], int]) -> None:
        """This block was decoded with this table: cache the result if it was seen twice."""
        if found[2] > MEMO_SECTION_SIZE:
            return
        sight = hash((id(table), block))
        if sight not in self._seen:
            if len(self._seen) >= MEMO_SEEN:
                self._seen.clear()
            self._seen.add(sight)
            return
        if self.count >= MEMO_BLOCKS or self.size >= MEMO_BYTES:
            for other in self._tables:
                other.known = None
            self._tables.clear()
            self.count = self.size = 0
        if table.known is None:
            table.known = {}
            self._tables.append(table)
        table.known[block] = found
        self.count += 1
        self.size += found[2]


class Decoder(Generic[M]):
    """The decoder of one connection."""

    __slots__ = ("_meanings", "table")

    def __init__(self, meanings: Meanings[M], table: Table[M] | None = None) -> None:
        """`table` is the state to go on from."""
        self._meanings = meanings
        self.table = table or meanings.empty

    def decode(self, block: bytes) -> M:
        """What a complete field block means.

        Raises CompressionError, FieldSectionTooLarge, and what `Meanings.read` raises.  After the
        latter two the connection may go on.
        """
        known = self.table.known
        if known is None or (found := known.get(block)) is None:
            return self.decode_anew(block)
        self.table = found[1]
        return found[0]

    def decode_anew(self, block: bytes) -> M:
        """As `decode`, for a block that is not cached."""
        table, meanings = self.table, self._meanings
        if len(block) > MEMO_BLOCK_SIZE:
            return self._read(block)[0]
        elsewhere = meanings.elsewhere
        if elsewhere is None or (parted := _around_path(block)) is None:
            meaning, size = self._read(block)
        else:
            around, path = parted
            found = table.known.get(around) if table.known is not None else None
            if found is None or found[2] + len(path) > min(meanings.limit, MEMO_SECTION_SIZE):
                meaning, size = self._read(block)
                meanings.remember(table, around, (meaning, self.table, size - len(path)))
            else:
                meaning = elsewhere(found[0], len(around[0]) - 1, path)
                self.table, size = found[1], found[2] + len(path)
        meanings.remember(table, block, (meaning, self.table, size))
        return meaning

    def _read(self, block: bytes) -> tuple[M, int]:
        """What a block means, and the size of its section."""
        meanings = self._meanings
        lines, size, self.table = decode(self.table, block, meanings.limit)
        if size > meanings.limit:
            raise FieldSectionTooLarge
        return meanings.read(lines), size

"""The chunked transfer coding, in pieces of any size (RFC 9112 section 7.1).

Strict where lenience has enabled attacks: CRLF only, at most 16 hex digits, no control bytes in
extensions.  Extensions are dropped; we write our own chunks.
"""

import re

from hopproxy.message import Kind, field, kind_of
from hopproxy.wire.unfinished import FIELD_PART

#: Most bytes of a chunk-size line with its extensions, and of all trailers together.
MAX_LINE = 4096
MAX_TRAILERS = 16384
#: Most bytes of chunk extensions beyond twice the data, so that endless small chunks with long
#: extensions are refused (RFC 9112 section 7.1.1).
MAX_EXTENSIONS = 65536

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*|[ \t]*)")

#: The beginning of a size line.
_SIZE_PART = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;[\t\x20-\x7e\x80-\xff]*|[ \t]*)\r?")

LAST_CHUNK = b"0\r\n\r\n"

#: Fields not allowed in trailers, besides framing, routing and hop-by-hop fields (RFC 9110
#: section 6.5.1).
_HEAD_ONLY_NAMES = frozenset(
    {
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"content-type",
        b"content-encoding",
        b"content-range",
        b"range",
        b"cache-control",
        b"age",
        b"expires",
        b"location",
        b"max-forwards",
        b"pragma",
        b"retry-after",
        b"trailer",
        b"vary",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
    }
)


def may_trail(name: bytes) -> bool:
    """Whether a field of this name (lower case) may be in trailers."""
    return kind_of(name) is Kind.ORDINARY and name not in _HEAD_ONLY_NAMES


class ChunkedError(ValueError):
    """The coding is malformed: the end of the body cannot be found."""


class ChunkedReader:
    """Decodes a chunked body.  `done` once the final empty line was read.

    `trailers` are checked lines without CRLF; fields not allowed in trailers are dropped.
    """

    __slots__ = ("_left", "_pending", "_spent", "_state", "done", "trailers")

    def __init__(self) -> None:
        self._pending = b""  # an unfinished line
        self._left = 0  # bytes of the current chunk still to come
        self._state = _SIZE
        self._spent = 0
        self.trailers: list[bytes] = []
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(body bytes found in `data`, bytes after the end of the body).  Raises ChunkedError."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, end = 0, len(data)
        parts: list[bytes] = []
        while at < end:
            if self._state is _DATA:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._state = _FOOTER
                continue
            line_end = data.find(b"\n", at)
            if line_end < 0:
                self._hold(data[at:])
                break
            if line_end == at or data[line_end - 1] != 13:
                raise ChunkedError("a bare LF in the chunked coding")
            self._line(data[at : line_end - 1])
            at = line_end + 1
            if self.done:
                return _joined(parts), data[at:]
        return _joined(parts), b""

    def _hold(self, pending: bytes) -> None:
        limit = MAX_TRAILERS if self._state is _TRAILER else MAX_LINE
        if len(pending) > limit + 1:  # its last byte may be CR
            raise ChunkedError("a line in the chunked coding that is too long")
        if self._state is _FOOTER and pending != b"\r":
            raise ChunkedError("a chunk that is longer than it said")
        if self._state is _SIZE and not _SIZE_PART.fullmatch(pending):
            raise ChunkedError("a chunk size that cannot be read")
        if self._state is _TRAILER and not FIELD_PART.fullmatch(pending):
            raise ChunkedError("a trailer that cannot be read")
        self._pending = pending

    def _line(self, line: bytes) -> None:
        if self._state is _SIZE:
            self._size_line(line)
        elif self._state is _FOOTER:
            if line:
                raise ChunkedError("a chunk that is longer than it said")
            self._state = _SIZE
        elif line:
            self._trailer(line)
        else:
            self.done = True

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE:
            raise ChunkedError("a chunk size that cannot be read")
        self._left = int(match[1], 16)
        self._spent = max(0, self._spent + len(match[2]) - 2 * self._left)
        if self._spent > MAX_EXTENSIONS:
            raise ChunkedError("too many bytes in chunk extensions")
        if self._left:
            self._state = _DATA
        else:
            self._state, self._spent = _TRAILER, 0

    def _trailer(self, line: bytes) -> None:
        self._spent += len(line)
        found = field(line)
        if found is None or self._spent > MAX_TRAILERS:
            raise ChunkedError("a trailer that cannot be read")
        if may_trail(found.name):
            self.trailers.append(found.line)


class _State:
    """A state of the decoder, compared by identity."""


_SIZE, _DATA, _FOOTER, _TRAILER = _State(), _State(), _State(), _State()


def _joined(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def chunk(data: bytes) -> bytes:
    """Encode one chunk; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"".join([line + b"\r\n" for line in trailers]) + b"\r\n"

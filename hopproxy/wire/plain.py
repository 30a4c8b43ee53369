"""The fast parser: reads nearly every head with a split and caches.

On a persistent connection the same lines come again and again, so each line is checked once and
then cached.  Only heads that can be read in one way are accepted: normal lines, `METHOD SP
origin-form SP HTTP/1.1`, no control bytes, no folding.  For others the result is None, and h11
parses them.

A property test checks: what this parser accepts, h11 accepts with the same meaning.
"""

import re

from hopproxy.message import Field, Kind, RequestHead, ResponseHead, binds_connection, kind_of
from hopproxy.rules.target import ORIGIN_FORM

#: Bounds of the caches: together a few megabytes.
MEMO_LINES = 4096
MEMO_LINE_SIZE = 256
MEMO_NAMES = 1024
MEMO_NAME_SIZE = 64
MEMO_STARTS = 512
#: One in this many heads with something new is cached, so frequent lines are cached soon, and rare
#: ones seldom.
TEACHING = 16

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Bytes allowed in a value: all but control bytes, and tab (RFC 9110 section 5.5).
_VALUE_BYTES = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (" + ORIGIN_FORM.pattern + rb") HTTP/1\.1"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


class Lines:
    """A cache of field lines: None for an ordinary one, its Field for a special one.

    Names are cached too, since most new lines have a known name: None for the name of an ordinary
    field, an empty Field for a special one.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Field | None] = {}
        self._names: dict[bytes, Field | None] = {}
        self._new = 0

    def read(self, lines: list[bytes]) -> list[Field] | None:
        """The special fields among `lines`; None if a line is not plain."""
        special: list[Field] = []
        values: list[bytes] = []
        get, names = self._known.get, self._names
        for line in lines:
            found = get(line, _MISSING)
            if found is None:
                continue
            if found is _MISSING:
                name, colon, value = line.partition(b": ")
                known = names.get(name, _MISSING)
                if known is _MISSING and (known := self._learn_name(name)) is _MISSING:
                    return None
                if not colon or value.strip() != value:
                    return None
                values.append(value)
                if known is None:
                    continue
                if known.kind is Kind.CREDENTIALS and not binds_connection(value):
                    continue
                found = Field(line, known.name, value, known.kind)
            special.append(found)
        if values:
            if b"".join(values).translate(None, _VALUE_BYTES):
                return None
            self._new += 1
            if self._new % TEACHING == 0:
                self._learn(lines, special)
        return special

    def _learn_name(self, name: bytes) -> Field | None:
        """The cache entry for a name in this spelling; _MISSING if it is not a valid name."""
        if _NAME.fullmatch(name) is None:
            return _MISSING
        lower = name.lower()
        kind = kind_of(lower)
        known = None if kind is Kind.ORDINARY else Field(b"", lower, b"", kind)
        if len(name) <= MEMO_NAME_SIZE:
            if len(self._names) >= MEMO_NAMES:
                self._names.clear()
            self._names[name] = known
        return known

    def _learn(self, lines: list[bytes], special: list[Field]) -> None:
        """Cache the lines of a head that was accepted."""
        fields = {field.line: field for field in special}
        for line in lines:
            if len(line) <= MEMO_LINE_SIZE and line not in self._known:
                if len(self._known) >= MEMO_LINES:
                    self._known.clear()
                self._known[line] = fields.get(line)


#: Marks a line or a name that is not cached.
_MISSING = Field(b"", b"", b"", Kind.ORDINARY)
_lines = Lines()
_starts: dict[bytes, tuple[bytes, bytes]] = {}


def read_request(raw: bytes) -> RequestHead | None:
    """The head in `raw` (without its final empty line); None if it is not plain."""
    lines = raw.split(b"\r\n")
    start = lines.pop(0)
    asked = _starts.get(start)
    if asked is None:
        match = _REQUEST_LINE.fullmatch(start)
        if match is None:
            return None
        asked = match[1], match[2]
        if len(start) <= MEMO_LINE_SIZE:
            if len(_starts) >= MEMO_STARTS:
                _starts.clear()
            _starts[start] = asked
    special = _lines.read(lines)
    if special is None:
        return None
    return RequestHead(asked[0], asked[1], 1, lines, special, raw)


def read_response(raw: bytes) -> ResponseHead | None:
    """The head in `raw` (without its final empty line); None if it is not plain."""
    lines = raw.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines.pop(0))
    if match is None:
        return None
    special = _lines.read(lines)
    if special is None:
        return None
    status, reason = match.groups()
    return ResponseHead(int(status), reason or b"", 1, lines, special)

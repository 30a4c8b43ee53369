"""The plain lane: nearly every head on a persistent connection, read by a split and a memo.

On a link that lives, the same lines come again and again, so each line is checked once and then
remembered.  The lane takes only what can be read in one way: normal lines, `METHOD SP origin-form
SP HTTP/1.1`, no control bytes, no folds.  For everything else it answers None: the h11 lane looks.
Law, held by a property test: what this lane accepts, h11 accepts and reads the same.
"""

import re

from hopproxy.message import Field, Kind, RequestHead, ResponseHead, binds_connection, kind_of
from hopproxy.rules.target import ORIGIN_FORM

#: How many lines are remembered, and how long each may be: bounds the memo to a few megabytes.
MEMO_LINES = 4096
MEMO_LINE_SIZE = 256
MEMO_NAMES = 1024
MEMO_NAME_SIZE = 64
MEMO_STARTS = 512
#: Every so many-th head with something new in it is remembered: what comes often soon is, and what
#: comes but once seldom costs more than to be read.
TEACHING = 16

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What a value is made of: all but control bytes, and the tab (RFC 9110 section 5.5).
_VALUE_BYTES = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (" + ORIGIN_FORM.pattern + rb") HTTP/1\.1"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


class Lines:
    """Remembered field lines: None for an ordinary one, its Field for a special one.

    Beside them the names, since of most lines that are new only the value is: None for the name of
    an ordinary field, an empty Field for that of a special one.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Field | None] = {}
        self._names: dict[bytes, Field | None] = {}
        self._new = 0

    def read(self, lines: list[bytes]) -> list[Field] | None:
        """The special fields among `lines`, None when one of the lines is not plain."""
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
        """What is known of fields of this name, as it is spelled; _MISSING when it is none."""
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
        """Remember the lines of a head that has been read."""
        fields = {field.line: field for field in special}
        for line in lines:
            if len(line) <= MEMO_LINE_SIZE and line not in self._known:
                if len(self._known) >= MEMO_LINES:
                    self._known.clear()
                self._known[line] = fields.get(line)


#: Neither a line nor a name that is known.
_MISSING = Field(b"", b"", b"", Kind.ORDINARY)
_lines = Lines()
_starts: dict[bytes, tuple[bytes, bytes]] = {}


def read_request(raw: bytes) -> RequestHead | None:
    """The head in `raw` (without its final empty line), None when it is not plain."""
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
    """The head in `raw` (without its final empty line), None when it is not plain."""
    lines = raw.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines.pop(0))
    if match is None:
        return None
    special = _lines.read(lines)
    if special is None:
        return None
    status, reason = match.groups()
    return ResponseHead(int(status), reason or b"", 1, lines, special)

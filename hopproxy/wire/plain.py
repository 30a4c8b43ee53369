"""The plain lane: nearly every head on a persistent connection, read by a split and a memo.

On a link that lives, the same lines come again and again, so each line is checked once and then
remembered.  The lane takes only what can be read in one way: normal lines, `METHOD SP origin-form
SP HTTP/1.1`, no control bytes, no folds.  For everything else it answers None: the h11 lane looks.
Law, held by a property test: what this lane accepts, h11 accepts and reads the same.
"""

import re

from hopproxy.message import Field, Kind, RequestHead, ResponseHead, field
from hopproxy.rules.target import ORIGIN_FORM

#: How many lines are remembered, and how long each may be: bounds the memo to about a megabyte.
MEMO_LINES = 4096
MEMO_LINE_SIZE = 256

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (" + ORIGIN_FORM.pattern + rb") HTTP/1\.1"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


class Lines:
    """Remembered field lines: None for an ordinary one, its Field for a special one."""

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        self._known: dict[bytes, Field | None] = {}
        self.get = self._known.get

    def learn(self, line: bytes) -> Field | None:
        """Check a line that is not remembered.  Raises ValueError when it is not plain."""
        found = field(line)
        if found is None or found.line != line:
            raise ValueError(line)
        kept = None if found.kind is Kind.ORDINARY else found
        if len(line) <= MEMO_LINE_SIZE:
            if len(self._known) >= MEMO_LINES:
                self._known.clear()
            self._known[line] = kept
        return kept


_MISSING = Field(b"", b"", b"", Kind.ORDINARY)
_lines = Lines()


def read_lines(lines: list[bytes]) -> list[Field] | None:
    """The special fields among `lines`, None when one of the lines is not plain."""
    special: list[Field] = []
    get = _lines.get
    for line in lines:
        found = get(line, _MISSING)
        if found is None:
            continue
        if found is _MISSING:
            try:
                found = _lines.learn(line)
            except ValueError:
                return None
            if found is None:
                continue
        special.append(found)
    return special


def read_request(raw: bytes) -> RequestHead | None:
    """The head in `raw` (without its final empty line), None when it is not plain."""
    lines = raw.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(lines.pop(0))
    if match is None:
        return None
    special = read_lines(lines)
    if special is None:
        return None
    method, target = match.groups()
    return RequestHead(method, target, 1, lines, special)


def read_response(raw: bytes) -> ResponseHead | None:
    """The head in `raw` (without its final empty line), None when it is not plain."""
    lines = raw.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines.pop(0))
    if match is None:
        return None
    special = read_lines(lines)
    if special is None:
        return None
    status, reason = match.groups()
    return ResponseHead(int(status), reason or b"", 1, lines, special)

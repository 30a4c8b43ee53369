"""Field lines of HTTP/2: their meaning for a gateway, and which are malformed (RFC 9113 8.2).

A line is checked once; the result stays with it while it is in a table of HPACK.
"""

import re

from hopproxy.errors import BadRequest
from hopproxy.message import Field, Kind, binds_connection, kind_of
from hopproxy.wire.chunked import may_trail
from hopproxy.wire.hpack import FieldLine

#: Classes of lines: passed on unchanged, read by a rule, and allowed only once in a head.
ORDINARY, SPECIAL, COOKIE, HOST, PSEUDO, MALFORMED = range(6)

#: A name is a token without upper case (section 8.2.1).
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
#: As in HTTP/1.1: no control bytes but tab, no white space around it (section 8.2.1).
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")

#: About a connection of HTTP/1.1 (section 8.2.2).
_OF_CONNECTIONS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


class Checked:
    """A checked field line.

    `line` is how HTTP/1.1 writes it.  `special` is its Field if a rule looks at it; that of
    `:authority` is the Host field it stands for.  `flaw` says why it is malformed.
    """

    __slots__ = ("flaw", "line", "role", "special")

    def __init__(self, role: int, line: bytes, special: Field | None = None) -> None:
        self.role = role
        self.line = line
        self.special = special
        self.flaw = ""


def checked(line: FieldLine) -> Checked:
    """What this line is; the result is kept in it."""
    found = line.checked
    if not isinstance(found, Checked):
        found = line.checked = _check(line.name, line.value)
    return found


def _check(name: bytes, value: bytes) -> Checked:
    flaw = _flaw(name, value)
    if flaw:
        found = Checked(MALFORMED, b"")
        found.flaw = flaw
        return found
    if name[:1] == b":":
        host = Field(b"host: " + value, b"host", value, Kind.HOST)
        return Checked(PSEUDO, host.line, host if name == b":authority" else None)
    line = name + b": " + value
    if name == b"cookie":
        return Checked(COOKIE, line)
    kind = kind_of(name)
    if kind is Kind.ORDINARY or (kind is Kind.CREDENTIALS and not binds_connection(value)):
        return Checked(ORDINARY, line)
    return Checked(HOST if kind is Kind.HOST else SPECIAL, line, Field(line, name, value, kind))


def _flaw(name: bytes, value: bytes) -> str:
    """Why this field line makes its message malformed, "" if it does not."""
    if not _NAME.fullmatch(name[1:] if name[:1] == b":" else name):
        return "a field name that is not a token in lower case (RFC 9113 section 8.2.1)"
    if not _VALUE.fullmatch(value):
        return "control bytes or white space around a field value (RFC 9113 section 8.2.1)"
    if name in _OF_CONNECTIONS:
        return f"{name.decode()}, a field of HTTP/1.1 connections (RFC 9113 section 8.2.2)"
    if name == b"te" and value.lower() != b"trailers":
        return "te other than trailers (RFC 9113 section 8.2.2)"
    return ""


class Malformed(BadRequest):
    """A request that is not valid HTTP/2: it is answered, and its stream reset (section 8.1.1)."""


def trailers_of(lines: list[FieldLine]) -> list[bytes]:
    """The lines of a trailer section; those that must not be in one are left out.

    Raises Malformed.
    """
    trailers = []
    for line in lines:
        found = checked(line)
        if found.role == MALFORMED:
            raise Malformed(found.flaw)
        if found.role == PSEUDO:
            raise Malformed("a pseudo-header field in trailers (RFC 9113 section 8.1)")
        if may_trail(line.name):
            trailers.append(found.line)
    return trailers

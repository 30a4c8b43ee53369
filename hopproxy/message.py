"""Fields, heads and body framing (RFC 9110, RFC 9112).

A head keeps its checked field lines, and separately the few *special* fields that a rule has to
look at.  All other lines are *ordinary*: they pass to the next hop unchanged and in order.  After
parsing a head is not changed; the head for the next hop is made from it.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from hopproxy.reasons import CloseReason


class Kind(Enum):
    """What a field is to a gateway."""

    __hash__ = object.__hash__  # faster than Enum's: kinds are looked up for every field

    ORDINARY = "ordinary"
    HOST = "host"
    LENGTH = "content-length"
    CODING = "transfer-encoding"
    CONNECTION = "connection"
    # Hop-by-hop, named in Connection or not (RFC 9110 section 7.6.1), or about the peer's
    # certificate, which no peer may send itself (RFC 9440 section 2.4).
    HOP = "hop"
    FORWARDING = "forwarding"  # about the client: believed from trusted peers only
    VIA = "via"
    EXPECT = "expect"
    DATE = "date"
    CREDENTIALS = "credentials"  # Authorization with a scheme that binds the connection (NTLM)
    SHADOW = "shadow"  # such as X_Forwarded_For: WSGI and CGI take it for the field that we write
    UNDERSCORE = "underscore"


_KINDS = {
    b"host": Kind.HOST,
    b"content-length": Kind.LENGTH,
    b"transfer-encoding": Kind.CODING,
    b"connection": Kind.CONNECTION,
    b"keep-alive": Kind.HOP,
    b"proxy-connection": Kind.HOP,
    b"te": Kind.HOP,
    b"upgrade": Kind.HOP,
    b"http2-settings": Kind.HOP,
    b"proxy-authenticate": Kind.HOP,
    b"proxy-authorization": Kind.HOP,
    b"proxy-authentication-info": Kind.HOP,
    b"client-cert": Kind.HOP,
    b"client-cert-chain": Kind.HOP,
    b"forwarded": Kind.FORWARDING,
    b"x-forwarded-for": Kind.FORWARDING,
    b"x-forwarded-host": Kind.FORWARDING,
    b"x-forwarded-proto": Kind.FORWARDING,
    b"x-forwarded-port": Kind.FORWARDING,
    b"x-forwarded-scheme": Kind.FORWARDING,
    b"x-forwarded-ssl": Kind.FORWARDING,
    b"x-forwarded-server": Kind.FORWARDING,
    b"x-forwarded-by": Kind.FORWARDING,
    b"x-forwarded-prefix": Kind.FORWARDING,
    b"x-real-ip": Kind.FORWARDING,
    b"via": Kind.VIA,
    b"expect": Kind.EXPECT,
    b"date": Kind.DATE,
    b"authorization": Kind.CREDENTIALS,
}

#: Fields that are not removed if Connection names them: framing, routing, identity, caching (RFC
#: 9110 section 7.6.1: a sender MUST NOT list a field intended for all recipients).
PROTECTED = frozenset(
    name
    for name, kind in _KINDS.items()
    if kind not in (Kind.HOP, Kind.CONNECTION, Kind.EXPECT, Kind.DATE)
) | frozenset(
    b"www-authenticate cookie set-cookie cache-control age expires vary origin content-type "
    b"content-encoding content-range range trailer max-forwards expect date proxy-status".split()
)

#: The prefix of the fields that tell the origin about a client's certificate.
_CERTIFICATE = b"x-client-cert-"
#: Names for which the spelling with `_` is dropped: those we write and those nobody may forge.
_SHADOWED = PROTECTED | _KINDS.keys()

#: Kinds of which the rules need only the presence, not the value.
_SILENT = frozenset(
    {Kind.FORWARDING, Kind.VIA, Kind.DATE, Kind.CREDENTIALS, Kind.SHADOW, Kind.UNDERSCORE}
)

_SOUND_LENGTH = re.compile(rb"[1-9][0-9]{0,17}")


class Field:
    """One field line: as sent, its name in lower case, its value, its kind.

    Fields of equal `form` have the same effect in all rules, except for the number in a valid
    Content-Length.
    """

    __slots__ = ("form", "kind", "line", "name", "value")

    def __init__(self, line: bytes, name: bytes, value: bytes, kind: Kind) -> None:
        self.line = line
        self.name = name
        self.value = value
        self.kind = kind
        silent = kind in _SILENT or (kind is Kind.LENGTH and _SOUND_LENGTH.fullmatch(value))
        self.form: bytes | Kind = kind if silent else line

    def __repr__(self) -> str:
        return f"<Field {self.line!r}>"


#: Token, colon, then anything but control bytes; obs-text is allowed (RFC 9110 5.1, 5.5, 5.6.2).
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")


def field(line: bytes) -> Field | None:
    """Parse a line without its CRLF; None if it is malformed.

    The field's `line` is normalized: one space after the colon, none at the end.
    """
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        return None
    raw, value = match[1], match[2].strip(b" \t")
    name = raw.lower()
    kind = kind_of(name)
    if kind is Kind.CREDENTIALS and not binds_connection(value):
        kind = Kind.ORDINARY
    return Field(raw + b": " + value, name, value, kind)


#: Schemes that authenticate a connection, not a request.
_BINDING = re.compile(rb"(?i:ntlm|negotiate)(?:[ \t]|\Z)")


def binds_connection(authorization: bytes) -> bool:
    """Whether this Authorization may authenticate the whole connection to the origin.

    Then no other client may use that connection (RFC 9110 section 3.3).
    """
    return _BINDING.match(authorization) is not None


def kind_of(name: bytes) -> Kind:
    """The kind of a field with this name (in lower case)."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    if name.startswith(_CERTIFICATE):
        return Kind.HOP
    if b"_" in name:
        meant = name.replace(b"_", b"-")
        shadow = meant in _SHADOWED or meant.startswith(_CERTIFICATE)
        return Kind.SHADOW if shadow else Kind.UNDERSCORE
    return Kind.ORDINARY


def name_of(line: bytes) -> bytes:
    """The name, in lower case, of a well-formed line."""
    return line[: line.index(b":")].lower()


def list_of(value: bytes) -> Iterator[bytes]:
    """The members of a comma-separated list without empty ones (RFC 9110 section 5.6.1)."""
    for member in value.split(b","):
        member = member.strip(b" \t")
        if member:
            yield member


#: The only expectation there is (RFC 9110 section 10.1.1).
CONTINUE_EXPECTED = b"100-continue"


class Body(Enum):
    """How the end of a body is found (RFC 9112 section 6.3)."""

    NONE = "none"
    SIZED = "sized"
    CHUNKED = "chunked"  # in HTTP/2: the length is unknown
    UNTIL_CLOSE = "until close"


#: For every message: in Python 3.11 a global is much faster than an attribute of an Enum.
NO_BODY, SIZED, CHUNKED, UNTIL_CLOSE = Body

#: `Head.minor` of a message of HTTP/2; and the version in Via by `minor` (RFC 9110 section 7.6.3).
HTTP_2 = 2
VERSIONS = (b"1.0", b"1.1", b"2.0")


class Head:
    """What requests and responses share: checked lines, special fields, the body's framing.

    `options` are the members of Connection in lower case, `minor` the x of HTTP/1.x, or HTTP_2.
    """

    __slots__ = ("body", "length", "lines", "minor", "options", "special")

    minor: int
    lines: list[bytes]
    special: list[Field]
    options: frozenset[bytes]
    body: Body
    length: int

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field of this name (lower case), special or not."""
        return [
            line[line.index(b":") + 1 :].strip(b" \t")
            for line in self.lines
            if name_of(line) == name
        ]

    def special_value(self, name: bytes) -> bytes | None:
        """The values of a special field, joined as a list; None if it is absent."""
        values = [field.value for field in self.special if field.name == name]
        return b", ".join(values) if values else None


NO_OPTIONS: frozenset[bytes] = frozenset()


class RequestHead(Head):
    """A request's start line and fields.

    `target` is in origin-form, or `*`.  `host` is the authority, empty only in HTTP/1.0.  `expects`
    if the client waits for a 100 before it sends the body.  `upgrade` are the protocols offered for
    an upgrade, None if there is none.  `passed` if it came through other proxies, `binds` if it has
    credentials for its connection (NTLM).  `simple` if it is a GET or HEAD, not HTTP/1.0, without
    body, options and credentials; most are.  `raw` are its bytes if the fast parser has read it,
    `model` is an earlier head of the same forms.
    """

    __slots__ = (
        "binds", "cut", "edited", "expects", "host", "method", "model", "passed", "raw",
        "rewritten", "simple", "target", "upgrade",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        lines: list[bytes],
        special: list[Field],
        raw: bytes = b"",
    ) -> None:
        self.raw = raw
        self.method = method
        self.target = target
        self.minor = minor
        self.lines = lines
        self.special = special
        self.options = NO_OPTIONS
        self.body = NO_BODY
        self.length = 0
        self.host = b""
        self.expects = self.passed = self.binds = self.simple = False
        self.upgrade: bytes | None = None
        self.model: RequestHead | None = None
        #: Cache of `rules.hop` in a model: the `Underscores`, the places of the special fields to
        #: remove (None: look at each head), and the lines to add.
        self.cut: tuple[Enum, tuple[int, ...] | None, bytes] | None = None
        #: Cache of `rules.hop`: the added lines, the `Underscores`, and the head made with them.
        self.rewritten: tuple[bytes, bytes, Enum, bytes] | None = None
        self.edited: tuple[object, RequestHead | None] | None = None  # cache of `routing.plan`

    def settle_as(self, model: "RequestHead") -> None:
        """Copy the results of the rules from a head with the same method and forms."""
        self.model = model
        self.options = model.options
        self.body = model.body
        self.host = model.host
        self.expects = model.expects
        self.passed = model.passed
        self.binds = model.binds
        self.simple = model.simple
        self.upgrade = model.upgrade
        if model.body is SIZED:
            self.length = int(self.special_value(b"content-length") or b"")

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} {self.body.name}>"


class KeepAliveHint(NamedTuple):
    """What a Keep-Alive field announces: `timeout` in seconds, `max` more requests."""

    timeout: int | None
    max: int | None


class ResponseHead(Head):
    """A response's status line and fields.  `reason` may be empty.

    Set when it is parsed: `ending` is why the upstream connection must close, None if it may
    persist; `hint` is its Keep-Alive field; `dated` if it has a Date; `doubtful` if it has no body
    although its fields announce one.  `encoded` caches what clients of HTTP/2 are sent.
    """

    __slots__ = (
        "dated", "doubtful", "edited", "encoded", "ending", "hint", "reason", "rewritten", "status",
    )  # fmt: skip

    def __init__(
        self, status: int, reason: bytes, minor: int, lines: list[bytes], special: list[Field]
    ) -> None:
        self.status = status
        self.reason = reason
        self.dated = self.doubtful = False
        self.ending: CloseReason | None = None
        self.hint: KeepAliveHint | None = None
        self.minor = minor
        self.lines = lines
        self.special = special
        self.options = NO_OPTIONS
        self.body = NO_BODY
        self.length = 0
        #: Cache of `wire.http1`: the added lines, the head made with them, its part before them.
        self.rewritten: tuple[bytes, bytes, bytes] | None = None
        #: Cache of `routing.plan`: its key, the head (None: this one); lines added before, after.
        self.edited: tuple[object, ResponseHead | None, bytes | None, bytes] | None = None
        self.encoded: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.body.name}>"

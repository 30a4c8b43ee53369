"""Fields, heads and body framing: the words in which both hops are spoken of (RFC 9110, RFC 9112).

A head keeps its field lines as they came, each one checked, and beside them the few *special*
fields that some rule has to look at.  All other lines are *ordinary*: they pass to the next hop
untouched and in their order, so no rule ever needs their names.  A head is never changed once
read; what the next hop receives is written anew from it.
"""

import re
from collections.abc import Iterator
from enum import Enum

from hopproxy.record import CloseReason


class Kind(Enum):
    """What a field is to a gateway."""

    __hash__ = object.__hash__  # of the identity: kinds are looked up for every field

    ORDINARY = "ordinary"
    HOST = "host"
    LENGTH = "content-length"
    CODING = "transfer-encoding"
    CONNECTION = "connection"
    HOP = "hop"  # of one hop only, named in Connection or not (RFC 9110 section 7.6.1)
    FORWARDING = "forwarding"  # who is asking: believed from trusted peers only
    VIA = "via"
    EXPECT = "expect"
    DATE = "date"
    CREDENTIALS = "credentials"  # Authorization of a scheme that binds the connection (NTLM)
    SHADOW = "shadow"  # X_Forwarded_For: WSGI and CGI read it as the field that we write
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

#: Fields that no peer may take away by naming them in Connection: framing, routing, identity and
#: what caches decide by (RFC 9110 section 7.6.1: a sender MUST NOT list a field intended for all
#: recipients).
PROTECTED = frozenset(
    name
    for name, kind in _KINDS.items()
    if kind not in (Kind.HOP, Kind.CONNECTION, Kind.EXPECT, Kind.DATE)
) | {
    b"www-authenticate",
    b"cookie",
    b"set-cookie",
    b"cache-control",
    b"age",
    b"expires",
    b"vary",
    b"origin",
    b"content-type",
    b"content-encoding",
    b"content-range",
    b"range",
    b"trailer",
    b"max-forwards",
    b"expect",
    b"date",
    b"proxy-status",
}

#: Names whose `_` twin is dropped: those we write and those nobody may forge.
_SHADOWED = PROTECTED | _KINDS.keys()


#: Kinds of which only the presence counts when a head is settled, not what they say.
_SILENT = frozenset(
    {Kind.FORWARDING, Kind.VIA, Kind.DATE, Kind.CREDENTIALS, Kind.SHADOW, Kind.UNDERSCORE}
)

_SOUND_LENGTH = re.compile(rb"[1-9][0-9]{0,17}")


class Field:
    """One field line: as it goes on the wire, its name in lower case, its value, its kind.

    Fields of the same `form` settle a head alike, but for the number in a sound Content-Length.
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


#: Token, colon, then anything but control bytes; obs-text stays (RFC 9110 5.1, 5.5, 5.6.2).
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")


def field(line: bytes) -> Field | None:
    """The field of one line without its CRLF, None when it is not well-formed.

    The field's own `line` is normal: one space after the colon, none at the end.
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


#: Schemes that authenticate a connection and not a request.
_BINDING = re.compile(rb"(?i:ntlm|negotiate)(?:[ \t]|\Z)")


def binds_connection(authorization: bytes) -> bool:
    """Whether an origin may take the whole connection for authenticated by this Authorization.

    Then no other client's request may come by it (RFC 9110 section 3.3).
    """
    return _BINDING.match(authorization) is not None


def kind_of(name: bytes) -> Kind:
    """What a field of this name (in lower case) is to a gateway."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    if b"_" in name:
        return Kind.SHADOW if name.replace(b"_", b"-") in _SHADOWED else Kind.UNDERSCORE
    return Kind.ORDINARY


def name_of(line: bytes) -> bytes:
    """The name, in lower case, of a line that is known to be well-formed."""
    return line[: line.index(b":")].lower()


def list_of(value: bytes) -> Iterator[bytes]:
    """The members of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1)."""
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
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


#: Asked of every message: in Python 3.11 a global costs a fraction of a look into an Enum.
NO_BODY, SIZED, CHUNKED, UNTIL_CLOSE = Body


class Head:
    """What requests and responses share: checked lines, the special fields, the body's framing.

    `options` are the members of all Connection fields, in lower case; `minor` is the x of HTTP/1.x.
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
        """The values of a special field, joined as a list; None when it is absent."""
        values = [field.value for field in self.special if field.name == name]
        return b", ".join(values) if values else None


NO_OPTIONS: frozenset[bytes] = frozenset()


class RequestHead(Head):
    """A request's start line and fields.

    `target` is in origin-form, or `*`.  `host` is the authority it is for, empty only in HTTP/1.0.
    `expects` tells that the client holds its body back for a 100; `upgrade` names the protocol of
    an upgrade that may be honoured, None otherwise.  `passed` tells that it came by way of others,
    `binds` that it carries credentials for its connection (NTLM).
    `raw` are its bytes if the plain lane has read it, `model` an earlier head of the same forms.
    """

    __slots__ = (
        "binds", "cut", "expects", "host", "method", "model", "passed", "raw", "rewritten",
        "target", "upgrade",
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
        self.expects = False
        self.passed = False
        self.binds = False
        self.upgrade: bytes | None = None
        self.model: RequestHead | None = None
        #: Memo of `rules.hop` in a model: for a choice, the places of the special fields that stay
        #: behind (None: look at each head) and the lines that come in their stead.
        self.cut: tuple[Enum, tuple[int, ...] | None, bytes] | None = None
        #: Memo of `rules.hop`: the lines last added, the choice last taken, what was written so.
        self.rewritten: tuple[bytes, Enum, bytes] | None = None

    def settle_as(self, model: "RequestHead") -> None:
        """Take over what was settled for a head of the same method and forms."""
        self.model = model
        self.options = model.options
        self.body = model.body
        self.host = model.host
        self.expects = model.expects
        self.passed = model.passed
        self.binds = model.binds
        self.upgrade = model.upgrade
        if model.body is SIZED:
            self.length = int(self.special_value(b"content-length") or b"")

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} {self.body.name}>"


class KeepAliveHint:
    """What a Keep-Alive field announces: `timeout` in seconds, `max` more requests."""

    __slots__ = ("max", "timeout")

    def __init__(self, timeout: int | None, more: int | None) -> None:
        self.timeout = timeout
        self.max = more


class ResponseHead(Head):
    """A response's status line and fields.  `reason` may be empty.

    What it says of the upstream connection is settled once, with its framing (`rules.persistence`):
    `ending` is why that must close, None if it may stay; `hint` is its Keep-Alive field.  `dated`
    tells that it has a Date, `doubtful` that it has no body although its fields announce one.
    """

    __slots__ = ("dated", "doubtful", "ending", "hint", "reason", "rewritten", "status")

    def __init__(
        self, status: int, reason: bytes, minor: int, lines: list[bytes], special: list[Field]
    ) -> None:
        self.status = status
        self.reason = reason
        self.dated = False
        self.doubtful = False
        self.ending: CloseReason | None = None
        self.hint: KeepAliveHint | None = None
        self.minor = minor
        self.lines = lines
        self.special = special
        self.options = NO_OPTIONS
        self.body = NO_BODY
        self.length = 0
        self.rewritten: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.body.name}>"

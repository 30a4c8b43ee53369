"""Writing a head for the next hop (RFC 9110 section 7.6.1).

Hop-by-hop fields are removed: Connection, the fields that it names, and fields that are never
end-to-end.  All other fields pass unchanged and in order.  Fields about the connection of the next
hop are added here.
"""

from enum import Enum

from hopproxy.errors import BadRequest
from hopproxy.message import (
    CHUNKED,
    CONTINUE_EXPECTED,
    PROTECTED,
    Head,
    Kind,
    RequestHead,
    ResponseHead,
    list_of,
    name_of,
)
from hopproxy.rules.forwarding import hops_left
from hopproxy.rules.framing import CONNECTION_WORDS

#: Kinds that are not passed on: hop-by-hop, or written by us.
_REQUEST_OWN = frozenset(
    {Kind.CONNECTION, Kind.HOP, Kind.CODING, Kind.FORWARDING, Kind.VIA, Kind.SHADOW}
)
_RESPONSE_OWN = frozenset({Kind.CONNECTION, Kind.HOP, Kind.CODING})


class Underscores(Enum):
    """What to do with field names that contain `_`, which is the same as `-` for WSGI and CGI."""

    SHADOW = "shadow"  # drop those that look like a field which we write or protect
    DROP = "drop"
    REJECT = "reject"
    KEEP = "keep"


def reject_underscores(head: RequestHead) -> None:
    """Raise BadRequest if a field name contains `_`."""
    for field in head.special:
        if field.kind is Kind.SHADOW or field.kind is Kind.UNDERSCORE:
            raise BadRequest("a field name with an underscore")


def request_for_upstream(
    head: RequestHead,
    forwarding: bytes,
    via: bytes,
    underscores: Underscores,
    authority: bytes = b"",
) -> bytes:
    """The request's head for the upstream hop, with its empty line.

    `head` is not changed, for a retry.

    `forwarding` and `via` are whole lines.  `authority` is the origin's, for an HTTP/1.0 request
    without Host: upstream there must be one (RFC 9112 section 3.2).  We send HTTP/1.1, whatever the
    client's version (section 2.3).  No Connection field means that the connection may persist.
    """
    memo = head.rewritten
    if memo is not None and memo[0] == forwarding and memo[1] == via and memo[2] is underscores:
        return memo[3]
    added = forwarding + via + b"\r\n"
    written = _by_its_bytes(head, added, underscores) if head.raw else None
    if written is None:
        written = _by_its_lines(head, added, underscores, authority)
    head.rewritten = (forwarding, via, underscores, written)
    return written


def _by_its_bytes(head: RequestHead, added: bytes, underscores: Underscores) -> bytes | None:
    """The received bytes without the fields to remove; None if the lines must be looked at."""
    model = head.model or head
    cut = model.cut
    if cut is None or cut[0] is not underscores:
        cut = model.cut = (underscores, *_cut(head, underscores))
    _, places, instead = cut
    if places is None:
        return None
    if not places:
        return head.raw + instead + b"\r\n" + added
    dropped = [head.special[place].line for place in places]
    lines = [line for line in head.lines if line not in dropped]
    start = b"%b %b HTTP/1.1\r\n" % (head.method, head.target)
    return start + b"\r\n".join(lines) + instead + b"\r\n" + added


def _cut(head: RequestHead, underscores: Underscores) -> tuple[tuple[int, ...] | None, bytes]:
    """The places of the fields to remove, and the lines to add, in all heads of the same forms."""
    if head.options - CONNECTION_WORDS or head.method in (b"OPTIONS", b"TRACE"):
        return None, b""
    own = _own(head, underscores)
    places = [place for place, field in enumerate(head.special) if field.kind in own]
    return tuple(places), b"".join([b"\r\n" + line for line in _next_connection(head)])


def _by_its_lines(
    head: RequestHead, added: bytes, underscores: Underscores, authority: bytes
) -> bytes:
    """The head made from its lines, whatever they are."""
    lines = end_to_end(head, _own(head, underscores))
    left = hops_left(head)
    if left is not None:
        lines = [line for line in lines if name_of(line) != b"max-forwards"]
        lines.append(b"Max-Forwards: %d" % (left - 1))
    start = b"%b %b HTTP/1.1\r\n" % (head.method, head.target)
    if head.special_value(b"host") is None:
        start += b"Host: %b\r\n" % (head.host or authority)
    lines += _next_connection(head)
    lines.append(added)
    return start + b"\r\n".join(lines)


def _own(head: RequestHead, underscores: Underscores) -> frozenset[Kind]:
    """The kinds of field to remove."""
    own = _REQUEST_OWN
    if underscores is Underscores.DROP:
        own = own | {Kind.UNDERSCORE}
    elif underscores is Underscores.KEEP:
        own = own - {Kind.SHADOW}
    if _expect_anew(head) is not None:
        own = own | {Kind.EXPECT}
    return own


def _expect_anew(head: RequestHead) -> bytes | None:
    """What replaces the Expect fields: b"" to remove them, None to pass them on unchanged.

    An empty list expects nothing, and HTTP/1.0 has no expectations (RFC 9110 section 10.1.1).
    """
    value = head.special_value(b"expect")
    if value is None or (head.minor and value.lower() == CONTINUE_EXPECTED):
        return None
    return b"Expect: " + CONTINUE_EXPECTED if head.minor and value.strip(b" \t,") else b""


def _next_connection(head: RequestHead) -> list[bytes]:
    """The lines about the upstream connection and the body's framing on it."""
    lines = []
    if head.body is CHUNKED:
        lines.append(b"Transfer-Encoding: chunked")
    if expect := _expect_anew(head):
        lines.append(expect)
    if head.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    elif _takes_trailers(head):
        lines.append(b"Connection: TE\r\nTE: trailers")
    return lines


def response_lines(head: ResponseHead) -> list[bytes]:
    """The fields of a response to pass to the client, whatever protocol the client speaks.

    The client stream adds framing and persistence (`link.stream`).
    """
    lines = end_to_end(head, _RESPONSE_OWN)
    if head.status < 200 or head.status == 204:
        lines = without_length(lines)
    return lines


def end_to_end(head: Head, own: frozenset[Kind]) -> list[bytes]:
    """The lines of `head` to pass to the next hop, in their order.

    The kinds in `own` are removed, and every field that Connection names, unless it is protected
    (a response may name one by mistake).
    """
    dropped = [field.line for field in head.special if field.kind in own]
    lines = [line for line in head.lines if line not in dropped] if dropped else head.lines[:]
    if head.options:
        named = head.options - CONNECTION_WORDS - PROTECTED
        if named:
            lines = [line for line in lines if name_of(line) not in named]
    return lines


def end_to_end_trailers(lines: list[bytes], options: frozenset[bytes]) -> list[bytes]:
    """Trailers without those named by Connection (RFC 9110 section 7.6.1)."""
    return [line for line in lines if name_of(line) not in options] if lines else lines


def without_length(lines: list[bytes]) -> list[bytes]:
    """`lines` without Content-Length, for a message that cannot have a body (1xx, 204)."""
    return [line for line in lines if name_of(line) != b"content-length"]


def _takes_trailers(head: RequestHead) -> bool:
    """Whether the client accepts trailers, so that we say so upstream (RFC 9110 section 10.1.4)."""
    value = head.special_value(b"te")
    return value is not None and b"trailers" in [member.lower() for member in list_of(value)]

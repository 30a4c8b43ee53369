"""What must arrive of a message that was accepted, computed a second time in another way.

Nothing here asks `rules/`: a fault there must not excuse itself.  Only the words of a head (its
checked lines and its framing) are taken from the product, for they are what "understood" means.
"""

from __future__ import annotations

from hopproxy.message import HTTP_2, Body, Head, RequestHead, ResponseHead
from tests.fuzz.h11_reader import Disagreement, Fields, Seen

OURS = b"hopproxy"

#: Of one hop, named in Connection or not (RFC 9110 section 7.6.1, and Transfer-Encoding).
OF_ONE_HOP = frozenset(
    b"connection keep-alive proxy-connection te upgrade http2-settings proxy-authenticate "
    b"proxy-authorization proxy-authentication-info transfer-encoding".split()
)
#: Believed from nobody in these runs, written by us.
FORWARDING = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port "
    b"x-forwarded-scheme x-forwarded-ssl x-forwarded-server x-forwarded-by x-forwarded-prefix "
    b"x-real-ip via".split()
)
#: What no Connection field may take away (RULES.md part C).
KEPT = FORWARDING | frozenset(
    b"host content-length transfer-encoding authorization cookie set-cookie cache-control age "
    b"expires vary origin content-type content-encoding content-range range trailer max-forwards "
    b"expect date proxy-status www-authenticate".split()
)
#: What an application behind CGI would take for one that we write or protect.
TWINS = KEPT | OF_ONE_HOP


def _pairs(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    split = [line.partition(b":") for line in lines]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in split]


def _named(pairs: list[tuple[bytes, bytes]]) -> set[bytes]:
    """What the Connection fields name."""
    joined = b",".join(value for name, value in pairs if name == b"connection")
    return {member.strip(b" \t").lower() for member in joined.split(b",")}


def check_request(head: RequestHead, seen: Seen) -> None:
    """A reader's view of a forwarded request against what we understood.  Raises Disagreement."""
    pairs = _pairs(head.lines)
    twins = {name for name, _ in pairs if b"_" in name and name.replace(b"_", b"-") in TWINS}
    dropped = OF_ONE_HOP | FORWARDING | twins | (_named(pairs) - KEPT)
    counted = head.method in (b"OPTIONS", b"TRACE") and any(n == b"max-forwards" for n, _ in pairs)
    ours = OF_ONE_HOP | FORWARDING
    if counted:
        dropped |= {b"max-forwards"}
        ours |= {b"max-forwards"}
    if not any(name == b"host" for name, _ in pairs):
        ours |= {b"host"}
    meant = [pair for pair in pairs if pair[0] not in dropped]
    expected = b", ".join(value for name, value in pairs if name == b"expect")
    if head.minor == 0 or expected.lower() != b"100-continue":
        # Empty, or of HTTP/1.0: no expectation (RFC 9110 section 10.1.1).  Else it is said once.
        meant = [pair for pair in meant if pair[0] != b"expect"]
        if head.minor and expected.strip(b" \t,"):
            meant.append((b"expect", b"100-continue"))
    came = [pair for pair in seen.fields if pair[0] not in ours]
    _same("start", (head.method, head.target), seen.start)
    _same("fields", meant, came)
    _exactly(seen.fields, b"host", 1)
    _exactly(seen.fields, b"via", 1)
    via = dict(seen.fields)[b"via"]
    if not via.endswith(b" " + OURS):
        raise Disagreement(f"the Via {via!r} does not end with us")
    _check_framing(head, seen.fields)
    options = _named(list(seen.fields)) - {b""}
    if not options <= {b"upgrade", b"te"} or len(options) > 1:
        raise Disagreement(f"the options {options!r} in a request upstream")


def check_response(head: ResponseHead, seen: Seen) -> None:
    """A reader's view of a forwarded response against what we understood.  Raises Disagreement."""
    pairs = _pairs(head.lines)
    dropped = OF_ONE_HOP | (_named(pairs) - KEPT)
    if head.status < 200 or head.status == 204:
        dropped |= {b"content-length"}
    meant = [pair for pair in pairs if pair[0] not in dropped]
    came = [pair for pair in seen.fields if pair[0] not in OF_ONE_HOP]
    if came and came[-1][0] == b"date" and not any(name == b"date" for name, _ in meant):
        came.pop()
    if head.status >= 200 or head.status == 101:
        versions = (b"2.0 ",) if head.minor == HTTP_2 else (b"1.0 ", b"1.1 ")
        if not came or came[-1] not in [(b"via", version + OURS) for version in versions]:
            raise Disagreement(f"no Via of ours in {seen!r}")
        came.pop()
    lengths = [value for name, value in came if name == b"content-length"]
    if len(lengths) > 1 or any(value != b"%d" % int(value) for value in lengths):
        raise Disagreement(f"the lengths {lengths!r} could be read in two ways")
    _same("status", (b"%d" % head.status, head.reason.strip(b" \t")), _status(seen))
    _same("fields", meant, came)


def _status(seen: Seen) -> tuple[bytes, bytes]:
    return seen.start[0], seen.start[1].strip(b" \t")


def _check_framing(head: Head, fields: Fields) -> None:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if head.body is Body.CHUNKED:
        _same("framing", ([], [b"chunked"]), (lengths, codings))
    elif head.body is Body.SIZED:
        _same("framing", ([b"%d" % head.length], []), (lengths, codings))
    elif codings or lengths not in ([], [b"0"]):
        raise Disagreement(f"a length where there is no body: {fields!r}")


def _exactly(fields: Fields, name: bytes, count: int) -> None:
    _same(name.decode(), count, sum(found == name for found, _ in fields))


def _same(what: str, meant: object, came: object) -> None:
    if meant != came:
        raise Disagreement(f"{what}: meant {meant!r}, a reader sees {came!r}")

"""Where a message ends, and what is refused because it could be read in two ways.

RFC 9112 section 6.3, strictly: a message states its length at most once.  Whatever another parser
might read differently is refused, never repaired.
"""

import re

from hopproxy.errors import BadRequest, BadResponse
from hopproxy.message import (
    CHUNKED,
    CONTINUE_EXPECTED,
    NO_BODY,
    PROTECTED,
    SIZED,
    UNTIL_CLOSE,
    Field,
    Head,
    Kind,
    RequestHead,
    ResponseHead,
    list_of,
)

#: Most options in Connection fields; more cost too much to remove.
MAX_OPTIONS = 32

#: Options about the connection itself; any other option names a field.
CONNECTION_WORDS = frozenset(
    {b"close", b"keep-alive", b"upgrade", b"te", b"proxy-connection", b"http2-settings"}
)

#: A length that is passed on unchanged.
_PLAIN_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CODING = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+(?:[ \t]*;.*)?")


def read_hop_fields(head: RequestHead) -> None:
    """Read what a request says to the next hop alone: Connection, the body's framing, Expect.

    Raises BadRequest if no further field can put these right.
    """
    _read_request_options(head)
    frame_request(head)
    _read_expectation(head)


def frame_request(head: RequestHead) -> None:
    """Find out how the body of a request ends (RFC 9112 section 6.3).

    Raises BadRequest: 400 if that is ambiguous, 501 for a coding before the final chunked.
    """
    lengths, codings = _framing_values(head)
    if codings:
        if lengths:
            raise BadRequest("Content-Length beside Transfer-Encoding")
        if head.minor == 0:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
        if codings != [b"chunked"]:
            raise _refused_codings(codings)
        head.body = CHUNKED
    elif lengths:
        if len(lengths) > 1 or b"," in lengths[0]:
            raise BadRequest("more than one Content-Length")
        if _PLAIN_LENGTH.fullmatch(lengths[0]):
            head.length = int(lengths[0])
        else:
            head.length = _length_anew(head, lengths, BadRequest)
            head.raw = b""  # the received bytes no longer match its lines
        head.body = SIZED if head.length else NO_BODY


def frame_response(head: ResponseHead, method: bytes) -> None:
    """Find out how the body of the response to a `method` request ends (RFC 9112 section 6.3).

    Raises BadResponse if that is ambiguous.  A response that cannot have a body is never refused,
    but contradictory lengths are dropped.
    """
    lengths, codings = _framing_values(head)
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        if lengths or codings:
            _settle_without_body(head, lengths, codings)
    elif codings:
        if lengths:
            raise BadResponse("Content-Length beside Transfer-Encoding")
        if head.minor == 0:
            raise BadResponse("Transfer-Encoding in an HTTP/1.0 response")
        if codings != [b"chunked"]:
            raise BadResponse("a transfer coding other than exactly 'chunked'")
        head.body = CHUNKED
    elif lengths:
        if len(lengths) == 1 and _PLAIN_LENGTH.fullmatch(lengths[0]):
            head.length = int(lengths[0])
        else:
            head.length = _length_anew(head, lengths, BadResponse)
        head.body = SIZED if head.length else NO_BODY
    else:
        head.body = UNTIL_CLOSE


def _settle_without_body(head: ResponseHead, lengths: list[bytes], codings: list[bytes]) -> None:
    """Check the framing fields of a response that has no body.

    In a response to HEAD and in a 304 they describe the body of a GET.  If they contradict each
    other, they are dropped, and the connection is not reused, since a body may follow.
    """
    may_tell = head.status >= 200 and head.status != 204
    length = None
    if codings:
        sound = may_tell and head.minor == 1 and not lengths and codings == [b"chunked"]
    else:
        length = _agreed(lengths)
        sound = length == 0 or (may_tell and length is not None)
    head.doubtful = not sound
    if lengths:
        _say_length(head, length)


def check_size(size: int, limit: int) -> None:
    """Refuse a body larger than `limit`, if that is not 0.  Raises BadRequest (413)."""
    if limit and size > limit:
        raise BadRequest("the body is larger than max_body_size", 413, limit="max_body_size")


def read_options(head: Head, refusal: type[BadRequest] | type[BadResponse]) -> None:
    """Collect the options of all Connection fields, in lower case (RFC 9110 section 7.6.1).

    Empty members are ignored.  Raises `refusal` if there are more than MAX_OPTIONS.
    """
    options: list[bytes] = []
    for field in head.special:
        if field.kind is Kind.CONNECTION:
            options.extend(list_of(field.value.lower()))
    if len(options) > MAX_OPTIONS:
        raise refusal(f"more than {MAX_OPTIONS} options in Connection")
    head.options = frozenset(options)


def _read_request_options(head: RequestHead) -> None:
    """As `read_options`; also raises BadRequest if Connection would remove an end-to-end field."""
    read_options(head, BadRequest)
    named = head.options & PROTECTED
    if named:
        name = min(named).decode("ascii", "replace")
        raise BadRequest(f"Connection names {name}, an end-to-end field")


def _read_expectation(head: RequestHead) -> None:
    """Find out whether the client waits for a 100 (RFC 9110 section 10.1.1).

    An empty list expects nothing, and HTTP/1.0 has no expectations.  Raises BadRequest (417).
    """
    expected = head.special_value(b"expect")
    if expected is not None and head.minor:
        asked = set(list_of(expected.lower()))
        if asked - {CONTINUE_EXPECTED}:
            raise BadRequest("an expectation that cannot be met", 417)
        head.expects = bool(asked) and head.body is not NO_BODY


def _framing_values(head: Head) -> tuple[list[bytes], list[bytes]]:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for field in head.special:
        if field.kind is Kind.LENGTH:
            lengths.append(field.value)
        elif field.kind is Kind.CODING:
            codings.append(field.value.lower())
    return lengths, codings


def _length_anew(
    head: Head, values: list[bytes], refusal: type[BadRequest] | type[BadResponse]
) -> int:
    """The length that these fields agree on; the head then has it once, in plain form.

    Raises `refusal` if they do not agree.
    """
    length = _agreed(values)
    if length is None:
        raise refusal("a Content-Length that is not one plain number")
    _say_length(head, length)
    return length


def _agreed(values: list[bytes]) -> int | None:
    """The number that all values repeat, None if there is none (RFC 9112 section 6.3)."""
    members = {member.strip(b" \t") for value in values for member in value.split(b",")}
    digits = members.pop()
    return int(digits) if not members and _DIGITS.fullmatch(digits) else None


def _say_length(head: Head, length: int | None) -> None:
    """Replace the head's Content-Length fields by a plain one, or (None) by none.

    A parser that takes `010` for an octal number would find another end than we do.
    """
    said = [] if length is None else [_length_field(length)]
    told = [field for field in head.special if field.kind is Kind.LENGTH]
    at = head.special.index(told[0])
    head.special = [field for field in head.special if field.kind is not Kind.LENGTH]
    head.special[at:at] = said
    dropped = {field.line for field in told}
    at = head.lines.index(told[0].line)
    head.lines = [line for line in head.lines if line not in dropped]
    head.lines[at:at] = [field.line for field in said]


def _length_field(length: int) -> Field:
    value = b"%d" % length
    return Field(b"Content-Length: " + value, b"content-length", value, Kind.LENGTH)


def _refused_codings(codings: list[bytes]) -> BadRequest:
    """The error for codings (in lower case) other than one `chunked`.

    400 if the syntax is wrong or the end of the body cannot be found, 501 for an unknown coding
    before the final chunked (RFC 9112 sections 6.1 and 6.3).
    """
    members = list(list_of(b",".join(codings)))
    if members[-1:] != [b"chunked"]:
        return BadRequest("a request whose final transfer coding is not chunked")
    below = members[:-1]
    unknown = below and b"chunked" not in below and all(map(_CODING.fullmatch, below))
    detail = "a transfer coding other than exactly 'chunked'"
    return BadRequest(detail, 501 if unknown else 400)

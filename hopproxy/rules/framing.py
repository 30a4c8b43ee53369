"""Where a message ends, and what is refused because it could be read in two ways.

RFC 9112 section 6.3, strictly: each message has at most one sign of its length.  What a lenient
peer might read differently is refused, never repaired, since a repair is a guess about the peer.
"""

import re

from hopproxy.errors import BadRequest, BadResponse
from hopproxy.message import (
    CHUNKED,
    NO_BODY,
    SIZED,
    UNTIL_CLOSE,
    Head,
    Kind,
    RequestHead,
    ResponseHead,
    list_of,
)

#: More options than this in Connection fields is an attack on whoever strips them.
MAX_OPTIONS = 32

_DIGITS = re.compile(rb"[0-9]{1,18}")


def frame_request(head: RequestHead) -> None:
    """Find how the body of a request ends (RFC 9112 section 6.3).

    Raises BadRequest: 400 for what is ambiguous, 501 for a transfer coding other than chunked.
    """
    lengths, codings = _framing_values(head)
    if codings:
        if lengths:
            raise BadRequest("Content-Length beside Transfer-Encoding")
        if head.minor == 0:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
        if codings != [b"chunked"]:
            raise refused_codings(codings)
        head.body = CHUNKED
    elif lengths:
        head.length = _length(lengths, BadRequest)
        head.body = SIZED if head.length else NO_BODY


def frame_response(head: ResponseHead, method: bytes) -> None:
    """Find how the body of the response to a `method` request ends (RFC 9112 section 6.3).

    Raises BadResponse for what is ambiguous: the bytes that follow cannot be believed.
    """
    lengths, codings = _framing_values(head)
    if codings:
        if lengths:
            raise BadResponse("Content-Length beside Transfer-Encoding")
        if head.minor == 0:
            raise BadResponse("Transfer-Encoding in an HTTP/1.0 response")
        if codings != [b"chunked"]:
            raise BadResponse("a transfer coding other than exactly 'chunked'")
    length = _length(lengths, BadResponse) if lengths else 0
    status = head.status
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return
    if codings:
        head.body = CHUNKED
    elif lengths:
        head.length = length
        head.body = SIZED if length else NO_BODY
    else:
        head.body = UNTIL_CLOSE


def read_options(head: Head, refusal: type[BadRequest] | type[BadResponse]) -> None:
    """Gather the options of all Connection fields, in lower case (RFC 9110 section 7.6.1).

    Empty members are tolerated.  Raises `refusal` when there are more than MAX_OPTIONS.
    """
    options: list[bytes] = []
    for field in head.special:
        if field.kind is Kind.CONNECTION:
            options.extend(list_of(field.value.lower()))
    if len(options) > MAX_OPTIONS:
        raise refusal(f"more than {MAX_OPTIONS} options in Connection")
    head.options = frozenset(options)


def _framing_values(head: Head) -> tuple[list[bytes], list[bytes]]:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for field in head.special:
        if field.kind is Kind.LENGTH:
            lengths.append(field.value)
        elif field.kind is Kind.CODING:
            codings.append(field.value.lower())
    return lengths, codings


def _length(values: list[bytes], refusal: type[BadRequest] | type[BadResponse]) -> int:
    """One number of plain digits, said once (RFC 9110 section 8.6 lets us refuse `5, 5`)."""
    if len(values) > 1:
        raise refusal("more than one Content-Length")
    if not _DIGITS.fullmatch(values[0]):
        raise refusal("a Content-Length that is not a plain number")
    return int(values[0])


def refused_codings(codings: list[bytes]) -> BadRequest:
    """Why codings (in lower case) other than one `chunked` are refused.

    501 where one is not known here, 400 where the syntax is at fault (RFC 9112 section 6.1).
    """
    known = all(_is_chunked_list(coding) for coding in codings)
    return BadRequest("a transfer coding other than exactly 'chunked'", 400 if known else 501)


def _is_chunked_list(value: bytes) -> bool:
    """Whether a refused coding is at least made of `chunked` alone: then the syntax is at fault."""
    members = list(list_of(value))
    return all(member == b"chunked" for member in members)

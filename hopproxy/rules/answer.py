"""The proxy's own responses, with the cause in Proxy-Status (RFC 9209)."""

from http import HTTPStatus

from hopproxy.errors import Denied, HopError
from hopproxy.message import NO_BODY, SIZED, VERSIONS, RequestHead, ResponseHead, name_of
from hopproxy.rules.forwarding import hops_left

#: Seconds after which a client may try again (503).
RETRY_AFTER = 1

#: Methods that we pass on; the origin may allow fewer.
ALLOWED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})

#: Sent to a client if the origin does not send it (RFC 9110 section 10.1.1).
CONTINUE = ResponseHead(100, b"Continue", 1, [], [])


def reason_phrase(status: int) -> bytes:
    """The phrase of RFC 9110 section 15; empty for an unknown status."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def answer_to(error: HopError, pseudonym: bytes) -> tuple[ResponseHead, bytes]:
    """(head, body) of the response to a failed exchange."""
    text = f"{error.status} {reason_phrase(error.status).decode()}\n\n{error.detail}\n"
    lines = [proxy_status(error, pseudonym)]
    if error.status in (429, 503):
        lines.append(b"Retry-After: %d" % (error.retry_after or RETRY_AFTER))
    if error.status == 405:
        lines.append(b"Allow: " + ALLOWED)
    return plain_answer(error.status, text.encode(), lines)


def plain_answer(
    status: int, body: bytes, lines: list[bytes], media_type: bytes = b"text/plain; charset=utf-8"
) -> tuple[ResponseHead, bytes]:
    """(head, body) of one of our own responses."""
    lines = [
        b"Content-Type: " + media_type,
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        *lines,
    ]
    head = ResponseHead(status, reason_phrase(status), 1, lines, [])
    head.body = SIZED
    head.length = len(body)
    return head, body


def fixed_answer(status: int, body: bytes, media_type: bytes) -> tuple[ResponseHead, bytes]:
    """(head, body) of a response that a route's settings give."""
    lines = [] if status in (204, 304) else [b"Content-Length: %d" % len(body)]
    if body:
        lines.insert(0, b"Content-Type: " + media_type)
    head = ResponseHead(status, reason_phrase(status), 1, lines, [])
    head.body = SIZED if body else NO_BODY
    head.length = len(body)
    return head, body


def redirect_answer(status: int, url: bytes) -> tuple[ResponseHead, bytes]:
    """(head, body) of a redirect (RFC 9110 section 15.4)."""
    head, body = fixed_answer(status, url + b"\n", b"text/plain; charset=utf-8")
    head.lines.insert(0, b"Location: " + url)
    return head, body


def last_hop(head: RequestHead, *, traces: bool) -> tuple[ResponseHead, bytes] | None:
    """Our own answer to a TRACE or OPTIONS that goes no further.  Raises Denied (405)."""
    if head.method == b"TRACE" and not traces:
        raise Denied("TRACE is not served here", 405)
    return last_hop_answer(head) if hops_left(head) == 0 else None


def last_hop_answer(head: RequestHead) -> tuple[ResponseHead, bytes]:
    """The response to a TRACE or OPTIONS with Max-Forwards 0 (RFC 9110 sections 7.6.2, 9.3.8).

    TRACE returns the request as received, without credentials and cookies.
    """
    if head.method == b"OPTIONS":
        return plain_answer(200, b"", [b"Allow: " + ALLOWED])
    lines = [line for line in head.lines if name_of(line) not in _SECRET]
    text = b"%b %b HTTP/%b\r\n" % (head.method, head.target, VERSIONS[head.minor])
    text += b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return plain_answer(200, text, [], b"message/http")


def proxy_status(error: HopError, pseudonym: bytes) -> bytes:
    """The Proxy-Status line (RFC 9209 section 2): our pseudonym, the error type, the details."""
    detail = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in error.detail)
    return b'Proxy-Status: %s; error=%s; details="%s"' % (
        pseudonym,
        (error.error_type or error.cause).encode(),
        detail.encode(),
    )

"""The proxy's own responses: short, whole, and with the cause in Proxy-Status (RFC 9209)."""

from http import HTTPStatus

from hopproxy.errors import HopError
from hopproxy.message import Body, ResponseHead

#: Seconds after which a client may try again when the pool was exhausted.
RETRY_AFTER = 1

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def reason_phrase(status: int) -> bytes:
    """The phrase of RFC 9110 section 15, or an empty one for a status without."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def answer_to(error: HopError, pseudonym: bytes) -> tuple[ResponseHead, bytes]:
    """(head, body) of the response to a failed exchange."""
    text = f"{error.status} {reason_phrase(error.status).decode()}\n\n{error.detail}\n"
    lines = [proxy_status(error, pseudonym)]
    if error.status == 503:
        lines.append(b"Retry-After: %d" % RETRY_AFTER)
    if error.status == 405:
        lines.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    return plain_answer(error.status, text.encode(), lines)


def plain_answer(
    status: int, body: bytes, lines: list[bytes], media_type: bytes = b"text/plain; charset=utf-8"
) -> tuple[ResponseHead, bytes]:
    """(head, body) of a response of our own making."""
    lines = [
        b"Content-Type: " + media_type,
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        *lines,
    ]
    head = ResponseHead(status, reason_phrase(status), 1, lines, [])
    head.body = Body.SIZED
    head.length = len(body)
    return head, body


def proxy_status(error: HopError, pseudonym: bytes) -> bytes:
    """The Proxy-Status line (RFC 9209 section 2): who speaks, the error type, the details."""
    detail = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in error.detail)
    return b'Proxy-Status: %s; error=%s; details="%s"' % (
        pseudonym,
        error.cause.encode(),
        detail.encode(),
    )

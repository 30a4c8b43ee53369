"""The proxy's own errors for gRPC, whose clients read `grpc-status` instead of the HTTP status.

A response that consists of HEADERS alone has the status there ("Trailers-Only").
"""

from hopproxy.errors import HopError
from hopproxy.message import HTTP_2, RequestHead, ResponseHead
from hopproxy.rules.answer import proxy_status

_MEDIA_TYPE = b"application/grpc"

UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 2, 4, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16

#: The gRPC status by HTTP status, as gRPC's clients map it, and for sizes.
_STATUSES = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    405: UNIMPLEMENTED,
    413: RESOURCE_EXHAUSTED,
    429: UNAVAILABLE,
    431: RESOURCE_EXHAUSTED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}

#: A call that failed with 504 for these causes may have been executed, so it is not UNAVAILABLE.
_LATE = frozenset({"http_response_timeout", "connection_read_timeout", "connection_write_timeout"})


def asks_grpc(head: RequestHead) -> bool:
    """Whether this is a call of gRPC, or of gRPC-Web, over HTTP/2."""
    if head.minor != HTTP_2 or head.simple:
        return False
    for value in head.values(b"content-type"):
        name, rest = value[: len(_MEDIA_TYPE)].lower(), value[len(_MEDIA_TYPE) :]
        return name == _MEDIA_TYPE and rest[:1] in (b"", b"+", b";", b" ", b"-")
    return False


def grpc_answer(head: RequestHead, error: HopError, pseudonym: bytes) -> tuple[ResponseHead, bytes]:
    """(head, body) of the response to a call that failed."""
    [media_type, *_] = head.values(b"content-type")
    lines = [
        b"content-type: " + media_type,
        b"grpc-status: %d" % grpc_status(error),
        b"grpc-message: " + _encoded(error.detail),
        proxy_status(error, pseudonym),
    ]
    return ResponseHead(200, b"OK", HTTP_2, lines, []), b""


def grpc_status(error: HopError) -> int:
    """The status of gRPC for an error of ours."""
    if error.status == 504 and error.cause in _LATE:
        return DEADLINE_EXCEEDED
    return _STATUSES.get(error.status, UNKNOWN)


def _encoded(text: str) -> bytes:
    """The percent-encoding of `grpc-message`: all but printable ASCII without `%`."""
    return b"".join(
        bytes((byte,)) if 32 <= byte < 127 and byte != 37 else b"%%%02X" % byte
        for byte in text.encode()
    )

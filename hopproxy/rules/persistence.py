"""Whether a connection persists after an exchange, for each hop alone (RFC 9112 section 9.3).

The result is None to keep the connection, or the reason to close it.  No function takes both heads,
since one hop must not influence the other.
"""

from hopproxy.message import (
    CHUNKED,
    UNTIL_CLOSE,
    Body,
    KeepAliveHint,
    Kind,
    RequestHead,
    ResponseHead,
    list_of,
)
from hopproxy.reasons import CloseReason


def client_asks(head: RequestHead) -> CloseReason | None:
    """What the request says about the client's connection: `close` wins over `keep-alive`."""
    if b"close" in head.options:
        return CloseReason.PEER_ASKED
    if head.minor == 0 and b"keep-alive" not in head.options:
        return CloseReason.PEER_HTTP10
    return None


def client_can_keep(head: RequestHead, body: Body) -> CloseReason | None:
    """Whether a response with this body can be delimited without closing the connection."""
    if head.minor == 0 and body in (CHUNKED, UNTIL_CLOSE):
        return CloseReason.NO_LENGTH
    return None


#: The Connection field for the client; HTTP/1.1 needs none to persist.
CLOSE, KEEP_ALIVE = b"Connection: close\r\n", b"Connection: keep-alive\r\n"


def client_ends(head: RequestHead, body: Body) -> CloseReason | None:
    """Why the client's connection ends after a response with this body, by the request alone."""
    if not head.options and head.minor:
        return None
    return client_asks(head) or client_can_keep(head, body)


def upstream_allows(head: ResponseHead) -> CloseReason | None:
    """What the response and its framing say about the upstream connection."""
    if head.body is UNTIL_CLOSE:
        return CloseReason.CLOSE_DELIMITED
    if head.minor and not head.options:
        return None
    if b"close" in head.options:
        return CloseReason.PEER_ASKED
    if head.minor == 0 and b"keep-alive" not in head.options:
        return CloseReason.PEER_HTTP10
    return None


def settle_persistence(head: ResponseHead) -> None:
    """Note in the head what it says about its connection: a cached head is used many times."""
    head.ending = upstream_allows(head)
    if head.doubtful:
        head.ending = CloseReason.BAD_RESPONSE  # the body it announces may still come
    for field in head.special:
        if field.kind is Kind.DATE:
            head.dated = True
        elif field.name == b"keep-alive":
            head.hint = keep_alive_hint(head)


def keep_alive_hint(head: ResponseHead) -> KeepAliveHint | None:
    """The origin's Keep-Alive hint.  Each malformed parameter is ignored."""
    value = head.special_value(b"keep-alive")
    if value is None:
        return None
    found: dict[bytes, int] = {}
    for member in list_of(value):
        name, _, number = member.partition(b"=")
        number = number.strip(b' \t"')
        if number.isdigit() and len(number) < 10:
            found.setdefault(name.strip().lower(), int(number))
    return KeepAliveHint(found.get(b"timeout"), found.get(b"max"))

"""A field section of HTTP/2 as a response (RFC 9113 section 8.3.2).

The head means the same as one of HTTP/1.1, and goes through the same rules.
"""

from __future__ import annotations

from http import HTTPStatus

from hopproxy.errors import BadResponse
from hopproxy.message import CHUNKED, HTTP_2, SIZED, UNTIL_CLOSE, Field, Kind, ResponseHead, name_of
from hopproxy.rules.framing import frame_response
from hopproxy.rules.persistence import settle_persistence
from hopproxy.wire.h2_fields import MALFORMED, PSEUDO, Malformed, checked, trailers_of
from hopproxy.wire.hpack import FieldLine

#: HTTP/2 has no reason phrase; an HTTP/1.1 client gets the usual one.
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class ResponseSection:
    """A decoded field section.  Many connections may share one: it is never changed.

    `status` is 0 if it is no response's head.  `is_interim` if the head of the final response is
    still to come.  `too_large` if it was above the limit, and its lines
    are not known.
    """

    __slots__ = ("_bare", "_head", "is_interim", "lines", "status", "too_large")

    def __init__(self, lines: list[FieldLine], *, too_large: bool = False) -> None:
        self.lines = lines
        self.too_large = too_large
        self.status = _status(lines)
        self.is_interim = 100 <= self.status < 200
        self._head: ResponseHead | None = None
        self._bare: ResponseHead | None = None  # of a response to HEAD

    def response(self, method: bytes) -> ResponseHead:
        """The head of the response to a `method` request.  Raises BadResponse."""
        head = self._bare if method == b"HEAD" else self._head
        if head is None:
            if self.too_large:
                raise BadResponse(
                    "the response's head is larger than max_head_size", limit="max_head_size"
                )
            head = _head_of(self.lines, self.status, method)
            if method == b"HEAD":
                self._bare = head
            else:
                self._head = head
        return head

    def trailers(self) -> list[bytes]:
        """The lines of a trailer section.  Raises BadResponse."""
        if self.too_large:
            raise BadResponse("trailers larger than max_head_size", limit="max_head_size")
        try:
            return trailers_of(self.lines)
        except Malformed as error:
            raise BadResponse(error.detail) from None


def _status(lines: list[FieldLine]) -> int:
    if not lines or lines[0].name != b":status":
        return 0
    value = lines[0].value
    return int(value) if len(value) == 3 and value.isdigit() else 0


def _head_of(lines: list[FieldLine], status: int, method: bytes) -> ResponseHead:
    if not 100 <= status < 600:
        raise BadResponse("no valid :status (RFC 9113 section 8.3.2)")
    if status == 101:
        raise BadResponse("101, which HTTP/2 does not have (RFC 9113 section 8.6)")
    found = [checked(line) for line in lines[1:]]
    for one in found:
        if one.role == MALFORMED:
            raise BadResponse(one.flaw)
        if one.role == PSEUDO:
            raise BadResponse("a pseudo-header field that a response does not have")
    special = [one.special for one in found if one.special is not None]
    head = ResponseHead(
        status, _REASONS.get(status, b""), HTTP_2, [one.line for one in found], special
    )
    frame_response(head, method)
    if head.body is UNTIL_CLOSE:
        head.body = CHUNKED  # END_STREAM ends it
    settle_persistence(head)
    head.ending = None
    return head


#: Fields that say nothing to the other side of a handshake: the other protocol has none of them.
_HANDSHAKE = frozenset({b"content-length", b"sec-websocket-accept"})


def switched(head: ResponseHead, accept: bytes) -> ResponseHead:
    """The 101 that means the same as a good answer to an extended CONNECT (RFC 8441 section 5).

    `accept` is the Sec-WebSocket-Accept for the client's key.
    """
    lines = [line for line in head.lines if name_of(line) not in _HANDSHAKE]
    special = [field for field in head.special if field.name not in _HANDSHAKE]
    upgrade = b"upgrade: websocket"
    lines += [b"Sec-WebSocket-Accept: " + accept, upgrade]
    special.append(Field(upgrade, b"upgrade", b"websocket", Kind.HOP))
    made = ResponseHead(101, b"Switching Protocols", HTTP_2, lines, special)
    made.options = frozenset({b"upgrade"})
    made.dated = head.dated
    return made


def adds_up(head: ResponseHead, arrived: int, ended: bool) -> bool:
    """Whether so many bytes of DATA fit the head's body (RFC 9113 section 8.1.1)."""
    if head.body is CHUNKED:
        return True
    expected = head.length if head.body is SIZED else 0
    return arrived == expected if ended else arrived <= expected

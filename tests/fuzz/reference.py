"""What there is to understand in the bytes that a far end sent, read at leisure and in one piece.

The heads are read by `wire/`, which the pure layer holds against other readers; everything above it
(links, lanes, pieces, events) has no part in this reading, so a fault there shows as a difference.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from hopproxy.errors import HopError
from hopproxy.message import Body, RequestHead, ResponseHead
from hopproxy.settings.client import ClientSettings
from hopproxy.wire import http1
from hopproxy.wire.chunked import ChunkedError, ChunkedReader

LIMITS = ClientSettings()

H = TypeVar("H", RequestHead, ResponseHead)


class Meant(NamedTuple, Generic[H]):
    """One message; `whole` tells that its end has come, `rest` is what follows it."""

    head: H
    body: bytes
    whole: bool
    rest: bytes
    trailers: tuple[bytes, ...] = ()


def requests(data: bytes) -> list[Meant[RequestHead]]:
    """The requests on a client's connection, up to the first that is refused."""
    found: list[Meant[RequestHead]] = []
    while True:
        for _ in range(8):
            data = data.removeprefix(b"\r\n")
        raw, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return found
        try:
            head = http1.read_request(raw, LIMITS)
        except HopError:
            return found
        found.append(_with_body(head, rest, ended=False))
        if not found[-1].whole:
            return found
        data = found[-1].rest


def responses(data: bytes, method: bytes, *, ended: bool) -> list[Meant[ResponseHead]]:
    """The response to one request, interim ones first, as far as it can be read."""
    found: list[Meant[ResponseHead]] = []
    while True:
        raw, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return found
        try:
            head = http1.read_response(raw, method)
        except HopError:
            return found
        found.append(_with_body(head, rest, ended=ended))
        if head.status == 101 or head.status >= 200:
            return found
        data = rest


def _with_body(head: H, rest: bytes, *, ended: bool) -> Meant[H]:
    if head.body is Body.NONE:
        return Meant(head, b"", True, rest)
    if head.body is Body.SIZED:
        return Meant(head, rest[: head.length], len(rest) >= head.length, rest[head.length :])
    if head.body is Body.UNTIL_CLOSE:
        return Meant(head, rest, ended, b"")
    return _chunked(head, rest)


def _chunked(head: H, rest: bytes) -> Meant[H]:
    """What can be believed of a chunked body: everything before the byte that breaks it."""
    whole = ChunkedReader()
    try:
        body, behind = whole.feed(rest)
    except ChunkedError:
        careful, body = ChunkedReader(), b""
        for at in range(len(rest)):
            try:
                body += careful.feed(rest[at : at + 1])[0]
            except ChunkedError:
                break
        return Meant(head, body, False, b"")
    return Meant(head, body, whole.done, behind, tuple(whole.trailers))

"""Bytes through the pure floors, without sockets: read, decided, written again, judged."""

from __future__ import annotations

import random
from typing import NamedTuple

from hopproxy.errors import HopError
from hopproxy.message import Body, Head, RequestHead, ResponseHead
from hopproxy.rules.forwarding import Sender, via_line
from hopproxy.rules.hop import Underscores, request_for_upstream
from hopproxy.wire import http1
from hopproxy.wire.chunked import ChunkedError, ChunkedReader, chunk, last_chunk
from hopproxy.wire.unfinished import UnfinishedHead, UnfinishedRequest, UnfinishedResponse
from tests.fuzz import judges, meant
from tests.fuzz.corpus import CLIENT, ORIGIN
from tests.fuzz.h11_reader import Disagreement
from tests.fuzz.mutate import stroke
from tests.pure.search import LIMITS

_VIA = b"Via: 1.0 hopproxy\r\n", b"Via: 1.1 hopproxy\r\n"
_AUTHORITY = b"origin:80"
_SENDER = Sender("192.0.2.7", b"http", ())

#: One input: which side it comes from, and its bytes.
Input = tuple[bool, bytes]


def seeds() -> list[Input]:
    """Requests and responses."""
    return [(True, raw) for raw in CLIENT] + [(False, raw) for raw in ORIGIN]


def mutated(chance: random.Random, one: Input, others: list[Input]) -> Input:
    """Near `one`."""
    return one[0], stroke(chance, one[1], chance.choice(others)[1])


class Written(NamedTuple):
    """What was made of one message: as understood, as it would be sent."""

    head: RequestHead | ResponseHead
    body: bytes
    out: bytes
    chunks: bytes


def understand(one: Input) -> list[Written]:
    """Read and write again every complete message.  Raises whatever hopproxy should not raise."""
    is_request, raw = one
    found: list[Written] = []
    while raw:
        head, marker, rest = raw.partition(b"\r\n\r\n")
        if not marker:
            break
        try:
            written, raw = _request(head, rest) if is_request else _response(head, rest)
        except (HopError, ChunkedError):
            break
        if written is None:
            break
        found.append(written)
    return found


def judge(written: Written) -> None:
    """Ask the readers.  Raises Disagreement."""
    head, body, out, raw_chunks = written
    if isinstance(head, RequestHead):
        reading = judges.requests(out)
    else:
        reading = judges.responses(out, [b"GET"], ended=False)
    if len(reading.messages) != 1 or reading.rest or reading.messages[0].body != body:
        raise Disagreement(f"one message meant, seen {reading!r}, in {out!r}")
    if isinstance(head, RequestHead):
        meant.check_request(head, reading.messages[0])
    else:
        meant.check_response(head, reading.messages[0])
    if raw_chunks:
        cut = ChunkedReader()
        pieces = [cut.feed(raw_chunks[at : at + 1])[0] for at in range(len(raw_chunks))]
        if b"".join(pieces) != body or not cut.done:
            raise Disagreement(f"chunks read otherwise when cut: {raw_chunks!r}")


def _request(raw: bytes, rest: bytes) -> tuple[Written | None, bytes]:
    """One request, and what follows it; None when its end has not come."""
    head = http1.read_request(raw, LIMITS)
    _judge_beginnings(raw, UnfinishedRequest(LIMITS))
    via = via_line(head, _VIA, b"hopproxy")
    block = _SENDER.block(head)
    out = request_for_upstream(head, block, via, Underscores.SHADOW, _AUTHORITY)
    if out != request_for_upstream(head, block, via, Underscores.SHADOW, _AUTHORITY):
        raise Disagreement(f"written twice, two heads: {out!r}")
    body, end, behind = _body(head, rest)
    if behind is None:
        return None, b""
    chunks = rest[: len(rest) - len(behind)] if head.body is Body.CHUNKED else b""
    framed = chunk(body) if chunks and body else body
    return Written(head, body, out + framed + end, chunks), behind


def _response(raw: bytes, rest: bytes) -> tuple[Written | None, bytes]:
    """One response to a GET, and what follows it; None for a switch, or without its end."""
    head = http1.read_response(raw, b"GET")
    _judge_beginnings(raw, UnfinishedResponse(b"GET"))
    added = b"Via: 1.1 hopproxy\r\n" if head.status >= 200 else b""
    chunked = head.body in (Body.CHUNKED, Body.UNTIL_CLOSE)
    if chunked:
        added += b"Transfer-Encoding: chunked\r\n"
    out = http1.write_response(head, added)
    body, end, behind = _body(head, rest)
    if behind is None or head.status == 101:
        return None, b""
    chunks = rest[: len(rest) - len(behind)] if head.body is Body.CHUNKED else b""
    framed = chunk(body) if chunked and body else body
    if head.status >= 200:
        return Written(head, body, out + framed + (end or last_chunk([]) * chunked), chunks), behind
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"  # no reader stops at an interim one
    judge_interim(head, out + final)
    return None, behind


def _judge_beginnings(raw: bytes, unfinished: UnfinishedHead) -> None:
    """What was accepted whole must be waited for while it comes."""
    try:
        for cut in range(1, len(raw) + 1):
            unfinished.check(raw[:cut])
    except HopError as error:
        raise Disagreement(f"{error.detail}, but only in pieces: {raw[:cut]!r}") from error


def judge_interim(head: ResponseHead, out: bytes) -> None:
    """An interim response must leave the final one behind it as it is."""
    reading = judges.responses(out, [b"GET"], ended=False)
    if len(reading.messages) != 2 or reading.rest:
        raise Disagreement(f"an interim and a final response meant, seen {reading!r}")
    meant.check_response(head, reading.messages[0])


def _body(head: Head, rest: bytes) -> tuple[bytes, bytes, bytes | None]:
    """(body, its end in chunked coding, what follows: None when the end has not come)."""
    if head.body is Body.NONE:
        return b"", b"", rest
    if head.body is Body.SIZED:
        whole = len(rest) >= head.length
        return rest[: head.length], b"", rest[head.length :] if whole else None
    if head.body is Body.UNTIL_CLOSE:
        return rest, b"", b""
    reader = ChunkedReader()
    body, behind = reader.feed(rest)
    return body, last_chunk(reader.trailers), behind if reader.done else None

"""Strokes that turn the frames of one connection into others."""

from __future__ import annotations

import random
from collections.abc import Callable

import hpack

from tests.fuzz import mutate
from tests.h2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Fields,
    frame,
    frames_of,
)

#: Input is cut to this many bytes, so that it stays quick.
LONGEST = 4096
MOST_FRAMES = 24

PAIRS: Fields = [
    (b":method", b"GET"), (b":method", b"POST"), (b":method", b"HEAD"), (b":method", b"CONNECT"),
    (b":method", b"OPTIONS"), (b":path", b"*"), (b":path", b"/a?b"), (b":path", b""),
    (b":path", b"http://b/"), (b":path", b"/a b"), (b":scheme", b"https"), (b":scheme", b"HTTP"),
    (b":authority", b"b"), (b":authority", b"a:80"), (b":authority", b"u@a"), (b":authority", b""),
    (b":protocol", b"websocket"), (b":status", b"200"), (b":status", b"204"), (b":status", b"304"),
    (b":status", b"103"), (b":status", b"101"), (b":status", b"0200"), (b":status", b"2 0"),
    (b":x", b"y"), (b"host", b"a"), (b"host", b"b"), (b"host", b""), (b"Host", b"a"),
    (b"content-length", b"5"), (b"content-length", b"0"), (b"content-length", b"5, 5"),
    (b"content-length", b"+5"), (b"content-length", b"05"), (b"content-length", b""),
    (b"content_length", b"5"), (b"transfer-encoding", b"chunked"), (b"te", b"trailers"),
    (b"te", b"gzip"), (b"te", b"Trailers"), (b"connection", b"close"), (b"keep-alive", b"x"),
    (b"upgrade", b"h2c"), (b"proxy-connection", b"x"), (b"cookie", b"a=1"), (b"cookie", b"b=2"),
    (b"cookie", b""), (b"set-cookie", b"c=3"), (b"x", b" y"), (b"x", b"y "), (b"x", b"\ty"),
    (b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x", b"a\0b"), (b"x", b"\xe9"), (b"x", b"\x7f"),
    (b"x", b""), (b"", b"y"), (b"x y", b"z"), (b"x:", b"y"), (b"x\r\ny", b"z"), (b"\xe9", b"y"),
    (b"expect", b"100-continue"), (b"expect", b"x"), (b"via", b"2.0 hopproxy"), (b"trailer", b"x"),
    (b"x-forwarded-for", b"9.9.9.9"), (b"authorization", b"Basic eA=="), (b"max-forwards", b"0"),
    (b"authorization", b"NTLM x"), (b"http2-settings", b"AA"), (b"proxy-authorization", b"x"),
    (b"date", b"now"), (b"grpc-status", b"0"), (b"x-sum", b"1"), (b"a", b"b" * 300),
]  # fmt: skip


def _head(chance: random.Random, fields: Fields | None = None) -> bytes:
    """HEADERS that begin well, and go on with anything."""
    start: Fields = PAIRS[:1] if chance.random() < 0.6 else []
    if start:
        start = [(b":method", chance.choice((b"GET", b"POST", b"HEAD")))]
        start += [(b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    elif chance.random() < 0.7:
        start = [(b":status", chance.choice((b"200", b"204", b"103", b"404", b"304")))]
    more = chance.choices(PAIRS, k=chance.choice((0, 1, 1, 2, 4)))
    if chance.random() < 0.7:
        more = [pair for pair in more if pair[0][:1] != b":"]
    fields = [*start, *more]
    if chance.random() < 0.1:
        chance.shuffle(fields)
    encoder = hpack.Encoder()
    if chance.random() < 0.1:
        encoder.header_table_size = chance.choice((0, 100, 4096, 4097))
    block = encoder.encode(fields, huffman=chance.random() < 0.5)
    stream = chance.choice((1, 1, 1, 3, 5, 7))
    return frame(HEADERS, END_HEADERS | chance.choice((0, END_STREAM)), stream, block)


def _insert_head(chance: random.Random, frames: list[bytes]) -> None:
    frames.insert(chance.randint(1, len(frames)), _head(chance))


def _insert_data(chance: random.Random, frames: list[bytes]) -> None:
    data = chance.choice((b"", b"x", b"hello"))
    stream = chance.choice((0, 1, 1, 1, 3, 5))
    made = frame(DATA, chance.choice((0, END_STREAM, 8)), stream, data)
    frames.insert(chance.randint(1, len(frames)), made)


def _any(chance: random.Random, frames: list[bytes]) -> None:
    size = chance.choice((0, 4, 4, 5, 6, 8))
    kind, flags, stream = chance.randrange(11), chance.choice((0, 1, 4, 255)), chance.randrange(8)
    frames.insert(
        chance.randint(0, len(frames)), frame(kind, flags, stream, chance.randbytes(size))
    )


def _payload(chance: random.Random, frames: list[bytes]) -> None:
    at = chance.randrange(len(frames))
    payload = frames[at][9:]
    if payload:
        payload = chance.choice(mutate.STROKES)(chance, payload)
        frames[at] = len(payload).to_bytes(3, "big") + frames[at][3:9] + payload


def _header(chance: random.Random, frames: list[bytes]) -> None:
    at = chance.randrange(len(frames))
    place = chance.choice((3, 4, 4, 8, 8, 5))
    value = frames[at][place] ^ (1 << chance.randrange(8))
    frames[at] = frames[at][:place] + bytes([value]) + frames[at][place + 1 :]


def _split(chance: random.Random, frames: list[bytes]) -> None:
    """A field block in two frames."""
    at = chance.randrange(len(frames))
    one = frames[at]
    if one[3] == HEADERS and one[4] & END_HEADERS and not one[4] & 0x28 and len(one) > 10:
        cut = chance.randrange(9, len(one))
        stream = int.from_bytes(one[5:9], "big")
        rest = frame(CONTINUATION, END_HEADERS, stream, one[cut:])
        frames[at] = frame(HEADERS, one[4] & ~END_HEADERS, stream, one[9:cut])
        frames.insert(at + 1, rest)


def _double(chance: random.Random, frames: list[bytes]) -> None:
    frames.insert(chance.randint(0, len(frames)), chance.choice(frames))


def _drop(chance: random.Random, frames: list[bytes]) -> None:
    del frames[chance.randrange(len(frames))]


def _swap(chance: random.Random, frames: list[bytes]) -> None:
    frames.insert(chance.randrange(len(frames)), frames.pop(chance.randrange(len(frames))))


STROKES: tuple[Callable[[random.Random, list[bytes]], None], ...] = (
    _insert_head, _insert_head, _insert_head, _insert_data, _any, _payload, _payload, _header,
    _split, _double, _drop, _swap,
)  # fmt: skip


def stroke(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """`data` after a few strokes; now and then it ends as `other` does."""
    frames = frames_of(data)
    if chance.random() < 0.15:
        theirs = frames_of(other)
        frames = frames[: chance.randint(1, len(frames) or 1)] + theirs[1:]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        if frames:
            chance.choice(STROKES)(chance, frames)
    whole = b""
    for one in frames[:MOST_FRAMES]:
        if len(whole) + len(one) <= LONGEST:
            whole += one
    return whole

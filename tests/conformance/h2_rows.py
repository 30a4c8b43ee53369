"""The rules of HTTP/2 for what a client sends, each with the bytes that break or keep it.

A row is one connection: frames, then what must come back on it, and the requests that the origin
must have seen.  The client is raw; `hpack` reads what comes back; a strict reader reads what the
origin gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import hpack

from tests.h2_peer import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Fields,
    H2Peer,
    frame,
    get,
    number,
    setting,
)
from tests.pure.test_h2_request import MALFORMED
from tests.raw_peers import Message

#: What a rule may leave to a proxy: to serve a request that hopproxy refuses; what it changes in
#: one that it serves; how much it bears of what is useless or large.
MAY_SERVE, MAY_KEEP, LIMIT = "may serve", "may keep", "own limit"
#: SETTINGS_MAX_FRAME_SIZE.
LARGER_FRAMES = (5, 16384)


class Row(NamedTuple):
    """What is sent (bytes, made for this connection), and what must be seen.

    `goaway` and `reset` are error codes, None for none; `statuses` are those of stream 1; `asked`
    how many requests the origin has seen.  `choice` is what a rule leaves to a proxy, so that
    another than hopproxy may choose otherwise; `setting` a value of its SETTINGS above which a
    proxy allows what is sent.
    """

    send: Callable[[H2Peer], bytes]
    goaway: int | None = None
    reset: int | None = None
    statuses: tuple[int, ...] = (200,)
    asked: int = 1
    check: Callable[[H2Peer, list[Message]], bool] | None = None
    choice: str = ""
    setting: tuple[int, int] | None = None


def one(fields: Fields = GET) -> Callable[[H2Peer], bytes]:
    return lambda h2: h2.head(fields)


def then(*frames: bytes, fields: Fields = GET, end: bool = True) -> Callable[[H2Peer], bytes]:
    """A request on stream 1, and frames after it."""
    return lambda h2: h2.head(fields, end=end) + b"".join(frames)


def first(*frames: bytes) -> Callable[[H2Peer], bytes]:
    """Frames, and a request on stream 1 after them."""
    return lambda h2: b"".join(frames) + h2.head(GET)


def raw(block: bytes, flags: int = END_HEADERS | END_STREAM) -> Callable[[H2Peer], bytes]:
    return lambda h2: frame(HEADERS, flags, 1, block)


def block(fields: Fields = GET) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


def wrong(code: int, send: Callable[[H2Peer], bytes], asked: int = 0, **more: object) -> Row:
    """A connection error: GOAWAY with this code, and the end of the connection."""
    return Row(send, goaway=code, statuses=(), asked=asked, **more)  # type: ignore[arg-type]


def cut(code: int, send: Callable[[H2Peer], bytes], asked: int = 0, **more: object) -> Row:
    """A stream error: RST_STREAM with this code; the connection lives."""
    return Row(send, reset=code, statuses=(), asked=asked, **more)  # type: ignore[arg-type]


def fine(send: Callable[[H2Peer], bytes], asked: int = 1, **more: object) -> Row:
    return Row(send, asked=asked, **more)  # type: ignore[arg-type]


def field(h2: H2Peer, seen: list[Message], name: bytes) -> list[bytes]:
    return seen[0].values(name)


ROWS: dict[str, Row] = {
    # -- 3.4: the preface
    "3.4 SETTINGS twice": fine(first(frame(SETTINGS, 0, 0), frame(SETTINGS, 0, 0))),
    # -- 4.1, 4.2: frames
    "4.1 unknown type is ignored": fine(first(frame(0xBE, 0, 0, b"x"))),
    "4.1 unknown type on a stream": fine(then(frame(0xBE, 0xFF, 1, b"x"))),
    "4.1 unknown flags are ignored": fine(raw(block(), END_HEADERS | END_STREAM | 0xC2)),
    "4.1 reserved bit is ignored": fine(
        lambda h2: frame(HEADERS, END_HEADERS | END_STREAM, 1 | 0x80000000, block())
    ),
    "4.2 frame above the limit": wrong(
        FRAME_SIZE_ERROR,
        then(frame(DATA, 0, 1, b"x" * 16385), fields=POST, end=False),
        setting=LARGER_FRAMES,
    ),
    "4.2 HEADERS above the limit": wrong(
        FRAME_SIZE_ERROR,
        lambda h2: frame(HEADERS, END_HEADERS, 1, b"\x82" * 16385),
        setting=LARGER_FRAMES,
    ),
    "4.2 SETTINGS above the limit": wrong(
        FRAME_SIZE_ERROR,
        lambda h2: frame(SETTINGS, 0, 0, setting(3, 1) * 2731),
        setting=LARGER_FRAMES,
    ),
    "4.2 frame of the largest size": fine(
        lambda h2: (
            h2.head([*POST, (b"content-length", b"16384")], end=False)
            + frame(DATA, END_STREAM, 1, b"x" * 16384)
        ),
        check=lambda h2, seen: seen[0].body == b"x" * 16384,
    ),
    # -- 4.3: field blocks
    "4.3 DATA inside a block": wrong(
        PROTOCOL_ERROR, lambda h2: frame(HEADERS, 0, 1, block()) + frame(DATA, 0, 1, b"x")
    ),
    "4.3 HEADERS inside a block": wrong(
        PROTOCOL_ERROR, lambda h2: frame(HEADERS, 0, 1, block()) + h2.head(GET, stream=3)
    ),
    "4.3 PING inside a block": wrong(
        PROTOCOL_ERROR, lambda h2: frame(HEADERS, 0, 1, block()) + frame(PING, 0, 0, b"12345678")
    ),
    "4.3 CONTINUATION of another stream": wrong(
        PROTOCOL_ERROR,
        lambda h2: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 3, b""),
    ),
    "4.3 unknown frame inside a block": wrong(
        PROTOCOL_ERROR, lambda h2: frame(HEADERS, 0, 1, block()) + frame(0xBE, 0, 1, b"")
    ),
    "4.3 block in two frames": fine(
        lambda h2: (
            frame(HEADERS, END_STREAM, 1, block()[:3])
            + frame(CONTINUATION, END_HEADERS, 1, block()[3:])
        )
    ),
    "4.3 block in frames of a byte": fine(
        lambda h2: (
            frame(HEADERS, END_STREAM, 1)
            + b"".join(
                frame(CONTINUATION, END_HEADERS if at + 1 == len(block()) else 0, 1, bytes([byte]))
                for at, byte in enumerate(block())
            )
        )
    ),
    "4.3.1 smaller table of ours is used": fine(raw(b"\x3f\xe1\x1f" + block())),
    # -- 5.1: states
    "5.1 DATA on an idle stream": wrong(PROTOCOL_ERROR, lambda h2: frame(DATA, 0, 1, b"x")),
    "5.1 RST_STREAM on an idle stream": wrong(
        PROTOCOL_ERROR, lambda h2: frame(RST_STREAM, 0, 1, number(CANCEL))
    ),
    "5.1 WINDOW_UPDATE on an idle stream": wrong(
        PROTOCOL_ERROR, lambda h2: frame(WINDOW_UPDATE, 0, 1, number(1))
    ),
    "5.1 CONTINUATION alone": wrong(
        PROTOCOL_ERROR, lambda h2: frame(CONTINUATION, END_HEADERS, 1, block())
    ),
    "5.1 DATA after END_STREAM": cut(STREAM_CLOSED, then(frame(DATA, END_STREAM, 1, b"x"))),
    "5.1 HEADERS after END_STREAM": cut(
        STREAM_CLOSED, lambda h2: h2.head(GET) + h2.head(GET, stream=1)
    ),
    "5.1 PRIORITY on an idle stream": fine(first(frame(PRIORITY, 0, 7, b"\0\0\0\0\x10"))),
    "5.1 WINDOW_UPDATE after END_STREAM": fine(then(frame(WINDOW_UPDATE, 0, 1, number(9)))),
    "5.1.1 stream of even number": wrong(PROTOCOL_ERROR, lambda h2: h2.head(GET, stream=2)),
    "5.1.1 stream 0": wrong(PROTOCOL_ERROR, lambda h2: frame(HEADERS, 5, 0, block())),
    "5.1.1 number that is lower than before": wrong(
        STREAM_CLOSED, lambda h2: h2.head(GET, stream=5) + h2.head(GET, stream=3)
    ),
    "5.1.1 numbers may be left out": fine(
        lambda h2: h2.head(GET, stream=9), statuses=(), check=lambda h2, s: h2.answers[9].ended
    ),
    # -- 6.1: DATA
    "6.1 DATA on stream 0": wrong(PROTOCOL_ERROR, lambda h2: frame(DATA, 0, 0, b"x")),
    "6.1 padded DATA": fine(
        then(
            frame(DATA, PADDED | END_STREAM, 1, b"\x03abc\0\0\0"),
            fields=[*POST, (b"content-length", b"3")],
            end=False,
        ),
        check=lambda h2, seen: seen[0].body == b"abc",
    ),
    "6.1 DATA of padding alone": fine(
        then(
            frame(DATA, PADDED, 1, b"\x04\0\0\0\0"),
            frame(DATA, END_STREAM, 1, b"x"),
            fields=[*POST, (b"content-length", b"1")],
            end=False,
        )
    ),
    "6.1 padding longer than DATA": wrong(
        PROTOCOL_ERROR, then(frame(DATA, PADDED, 1, b"\x05abc"), fields=POST, end=False)
    ),
    "6.1 padding without a length": wrong(
        FRAME_SIZE_ERROR, then(frame(DATA, PADDED, 1, b""), fields=POST, end=False)
    ),
    # -- 6.2: HEADERS
    "6.2 padded HEADERS": fine(
        raw(b"\x04" + block() + b"\0\0\0\0", END_HEADERS | END_STREAM | PADDED)
    ),
    "6.2 HEADERS with priority": fine(
        raw(b"\0\0\0\0\x10" + block(), END_HEADERS | END_STREAM | PRIORITIZED)
    ),
    "6.2 HEADERS with padding and priority": fine(
        raw(b"\x02\0\0\0\0\x10" + block() + b"\0\0", 0x2D)
    ),
    "6.2 padding longer than HEADERS": wrong(PROTOCOL_ERROR, raw(b"\xff" + block(), 0xD)),
    "6.2 priority without room": wrong(FRAME_SIZE_ERROR, raw(b"\0\0", 0x25)),
    # -- 6.3: PRIORITY
    "6.3 PRIORITY on stream 0": wrong(
        PROTOCOL_ERROR, lambda h2: frame(PRIORITY, 0, 0, b"\0\0\0\0\x10")
    ),
    "RFC 7540 5.3.1 PRIORITY of a stream that depends on itself": wrong(
        PROTOCOL_ERROR, lambda h2: frame(PRIORITY, 0, 1, number(1) + b"\x10"), choice=LIMIT
    ),
    "RFC 7540 5.3.1 HEADERS of a stream that depends on itself": wrong(
        PROTOCOL_ERROR,
        raw(number(0x80000001) + b"\x10" + block(), END_HEADERS | END_STREAM | PRIORITIZED),
        choice=LIMIT,
    ),
    "6.3 PRIORITY of a wrong length": cut(
        FRAME_SIZE_ERROR, then(frame(PRIORITY, 0, 1, b"\0\0\0\0"), fields=POST, end=False)
    ),
    # -- 6.4: RST_STREAM
    "6.4 RST_STREAM on stream 0": wrong(
        PROTOCOL_ERROR, lambda h2: frame(RST_STREAM, 0, 0, number(CANCEL))
    ),
    "6.4 RST_STREAM of a wrong length": wrong(
        FRAME_SIZE_ERROR, then(frame(RST_STREAM, 0, 1, b"\0\0\0"))
    ),
    "6.4 RST_STREAM at once": fine(
        then(frame(RST_STREAM, 0, 1, number(CANCEL))), asked=0, statuses=()
    ),
    "6.4 RST_STREAM with an unknown code": fine(
        then(frame(RST_STREAM, 0, 1, number(0xFFFF))), asked=0, statuses=()
    ),
    # -- 6.5: SETTINGS
    "6.5 SETTINGS on a stream": wrong(PROTOCOL_ERROR, lambda h2: frame(SETTINGS, 0, 1)),
    "6.5 SETTINGS of a wrong length": wrong(
        FRAME_SIZE_ERROR, lambda h2: frame(SETTINGS, 0, 0, b"12345")
    ),
    "6.5 acknowledgment with values": wrong(
        FRAME_SIZE_ERROR, lambda h2: frame(SETTINGS, ACK, 0, setting(3, 1))
    ),
    "6.5.2 unknown value": fine(first(frame(SETTINGS, 0, 0, setting(0xF0F0, 9)))),
    "6.5.2 ENABLE_PUSH of 2": wrong(
        PROTOCOL_ERROR, lambda h2: frame(SETTINGS, 0, 0, setting(2, 2))
    ),
    "6.5.2 INITIAL_WINDOW_SIZE too large": wrong(
        FLOW_CONTROL_ERROR, lambda h2: frame(SETTINGS, 0, 0, setting(4, 1 << 31))
    ),
    "6.5.2 MAX_FRAME_SIZE too small": wrong(
        PROTOCOL_ERROR, lambda h2: frame(SETTINGS, 0, 0, setting(5, 16383))
    ),
    "6.5.2 MAX_FRAME_SIZE too large": wrong(
        PROTOCOL_ERROR, lambda h2: frame(SETTINGS, 0, 0, setting(5, 1 << 24))
    ),
    "6.5.3 SETTINGS are acknowledged": fine(
        first(frame(SETTINGS, 0, 0, setting(3, 1))),
        check=lambda h2, seen: sum(f.kind == SETTINGS and f.flags == ACK for f in h2.frames) == 2,
    ),
    # -- 6.6: PUSH_PROMISE
    "6.6 PUSH_PROMISE from a client": wrong(
        PROTOCOL_ERROR, lambda h2: frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + block())
    ),
    # -- 6.7: PING
    "6.7 PING is answered with its bytes": fine(
        first(frame(PING, 0, 0, b"ABCDEFGH")),
        check=lambda h2, seen: (
            [f.payload for f in h2.frames if f.kind == PING and f.flags == ACK][:1] == [b"ABCDEFGH"]
        ),
    ),
    "6.7 PING on a stream": wrong(PROTOCOL_ERROR, lambda h2: frame(PING, 0, 1, b"12345678")),
    "6.7 PING of a wrong length": wrong(FRAME_SIZE_ERROR, lambda h2: frame(PING, 0, 0, b"1234567")),
    "6.7 answer to no PING": fine(first(frame(PING, ACK, 0, b"12345678"))),
    # -- 6.8: GOAWAY
    "6.8 GOAWAY of the client is no end": fine(first(frame(GOAWAY, 0, 0, number(0) + number(0)))),
    "6.8 GOAWAY on a stream": wrong(
        PROTOCOL_ERROR, lambda h2: frame(GOAWAY, 0, 1, number(0) + number(0))
    ),
    "6.8 GOAWAY of a wrong length": wrong(
        FRAME_SIZE_ERROR, lambda h2: frame(GOAWAY, 0, 0, number(0))
    ),
    # -- 6.9: flow control
    "6.9 WINDOW_UPDATE of a wrong length": wrong(
        FRAME_SIZE_ERROR, lambda h2: frame(WINDOW_UPDATE, 0, 0, b"\0\0\1")
    ),
    "6.9 WINDOW_UPDATE by 0 of the connection": wrong(
        PROTOCOL_ERROR, lambda h2: frame(WINDOW_UPDATE, 0, 0, number(0))
    ),
    "6.9 WINDOW_UPDATE by 0 of a stream": cut(
        PROTOCOL_ERROR, then(frame(WINDOW_UPDATE, 0, 1, number(0)))
    ),
    "6.9 reserved bit of WINDOW_UPDATE": fine(
        first(frame(WINDOW_UPDATE, 0, 0, number(0x80000001)))
    ),
    "6.9.1 window of the connection too large": wrong(
        FLOW_CONTROL_ERROR, lambda h2: frame(WINDOW_UPDATE, 0, 0, number(0x7FFFFFFF))
    ),
    "6.9.1 window of a stream too large": cut(
        FLOW_CONTROL_ERROR, then(frame(WINDOW_UPDATE, 0, 1, number(0x7FFFFFFF)))
    ),
    "6.9.1 DATA beyond the window of its stream": cut(
        FLOW_CONTROL_ERROR,
        then(*[frame(DATA, 0, 1, b"x" * 16384)] * 5, fields=POST, end=False),
        setting=(4, 81919),
    ),
    "6.9.2 window that becomes too large by SETTINGS": wrong(
        FLOW_CONTROL_ERROR,
        then(
            frame(WINDOW_UPDATE, 0, 1, number(0x7FFF0000)),
            frame(SETTINGS, 0, 0, setting(4, 0x7FFFFFFF)),
        ),
    ),
    # -- 6.10: CONTINUATION
    "6.10 CONTINUATION after END_HEADERS": wrong(
        PROTOCOL_ERROR, then(frame(CONTINUATION, END_HEADERS, 1, b""), end=False)
    ),
    "6.10 CONTINUATION on stream 0": wrong(
        PROTOCOL_ERROR, lambda h2: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 4, 0, b"")
    ),
    # -- 8.1: messages
    "8.1 trailers without END_STREAM": cut(
        PROTOCOL_ERROR,
        lambda h2: h2.head(POST, end=False) + h2.head([(b"x", b"y")], stream=1, end=False),
    ),
    "8.1 trailers are passed on": fine(
        lambda h2: h2.head(POST, end=False) + h2.head([(b"x-sum", b"9")], stream=1)
    ),
    "8.1.1 DATA beyond Content-Length": Row(
        then(
            frame(DATA, END_STREAM, 1, b"abcd"),
            fields=[*POST, (b"content-length", b"3")],
            end=False,
        ),
        reset=PROTOCOL_ERROR,
        statuses=(400,),
        asked=0,
    ),
    "8.1.1 DATA short of Content-Length": Row(
        then(
            frame(DATA, END_STREAM, 1, b"ab"), fields=[*POST, (b"content-length", b"3")], end=False
        ),
        reset=PROTOCOL_ERROR,
        statuses=(400,),
        asked=0,
    ),
    "8.1.1 Content-Length that fits": fine(
        then(
            frame(DATA, 0, 1, b"ab"),
            frame(DATA, END_STREAM, 1, b"c"),
            fields=[*POST, (b"content-length", b"3")],
            end=False,
        ),
        check=lambda h2, seen: (
            seen[0].body == b"abc" and field(h2, seen, b"content-length") == [b"3"]
        ),
    ),
    "8.1.1 Content-Length of 0 with an empty end": fine(
        then(frame(DATA, END_STREAM, 1), fields=[*POST, (b"content-length", b"0")], end=False)
    ),
    "8.2.2 te: trailers": fine(
        one([*GET, (b"te", b"trailers")]),
        check=lambda h2, seen: field(h2, seen, b"te") == [b"trailers"],
        choice=MAY_KEEP,
    ),
    "8.2.3 cookie crumbs are joined": fine(
        one([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2; c=3")]),
        check=lambda h2, seen: field(h2, seen, b"cookie") == [b"a=1; b=2; c=3"],
    ),
    "8.3.1 authority is Host": fine(
        one(), check=lambda h2, seen: field(h2, seen, b"host") == [b"a"]
    ),
    "8.3.1 Host alone": fine(
        one([*GET[:2], GET[3], (b"host", b"h")]),
        check=lambda h2, seen: field(h2, seen, b"host") == [b"h"],
    ),
    "8.3.1 Host and authority agree": fine(
        one([*GET, (b"host", b"a")]), check=lambda h2, seen: field(h2, seen, b"host") == [b"a"]
    ),
    "8.3.1 OPTIONS for all": fine(
        one([(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")]),
        check=lambda h2, seen: seen[0].start == b"OPTIONS * HTTP/1.1",
    ),
    "8.3.1 path with a query, untouched": fine(
        one(get(b"/%2F//a;b?c=%zz&d")),
        check=lambda h2, seen: seen[0].start == b"GET /%2F//a;b?c=%zz&d HTTP/1.1",
    ),
    "8.5 CONNECT is not served": Row(
        one([(b":method", b"CONNECT"), (b":authority", b"a:1")]),
        statuses=(405,),
        asked=0,
        choice=MAY_SERVE,
    ),
    # -- RFC 8441
    "RFC 8441 4 another protocol": Row(
        one([(b":method", b"CONNECT"), (b":protocol", b"foo"), *GET[1:]]),
        statuses=(501,),
        asked=0,
        choice=MAY_SERVE,
    ),
    # -- RFC 7541: blocks that cannot be decoded
    "RFC 7541 2.3.3 index beyond the tables": wrong(COMPRESSION_ERROR, raw(b"\xbe")),
    "RFC 7541 4.2 size update after a field": wrong(COMPRESSION_ERROR, raw(b"\x82\x20")),
    "RFC 7541 5.1 integer too long": wrong(COMPRESSION_ERROR, raw(b"\xff\xff\xff\xff\xff\x0f")),
    "RFC 7541 5.1 integer cut": wrong(COMPRESSION_ERROR, raw(b"\x7f")),
    "RFC 7541 5.2 string cut": wrong(COMPRESSION_ERROR, raw(b"\x00\x05ab")),
    "RFC 7541 5.2 EOS": wrong(COMPRESSION_ERROR, raw(b"\x04\x84\xff\xff\xff\xfc")),
    "RFC 7541 5.2 padding": wrong(COMPRESSION_ERROR, raw(b"\x04\x82\xff\xff")),
    "RFC 7541 6.1 index 0": wrong(COMPRESSION_ERROR, raw(b"\x80")),
    "RFC 7541 6.3 size above the limit": wrong(COMPRESSION_ERROR, raw(b"\x3f\xe2\x1f")),
    "RFC 7541 6.3 in a block of a closed stream too": wrong(
        COMPRESSION_ERROR,
        lambda h2: (
            h2.head(GET)
            + frame(RST_STREAM, 0, 1, number(CANCEL))
            + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\x0f")
        ),
    ),
    # -- limits
    "10.5.1 a large head": Row(
        lambda h2: head_in_pieces(h2, [*GET, *[(b"x-%d" % n, b"v" * 900) for n in range(40)]]),
        statuses=(431,),
        asked=0,
        choice=MAY_SERVE,
    ),
    "10.5.1 many fields": Row(
        one([*GET, *[(b"x-%d" % n, b"v") for n in range(128)]]),
        statuses=(431,),
        asked=0,
        choice=MAY_SERVE,
    ),
    "RFC 9110 15.5.15 a long target": Row(
        one(get(b"/" + b"a" * 9000)), statuses=(414,), asked=0, choice=MAY_SERVE
    ),
    "RFC 9110 10.1.1 another expectation": Row(
        one([*POST, (b"expect", b"x")]), statuses=(417,), asked=0, choice=MAY_SERVE
    ),
    "RFC 9110 7.6.3 a loop": Row(
        one([*GET, (b"via", b", ".join([b"2.0 hopproxy"] * 5))]),
        statuses=(508,),
        asked=0,
        choice=MAY_SERVE,
    ),
    "RFC 9110 7.6.2 OPTIONS that goes no further": Row(
        one([(b":method", b"OPTIONS"), *GET[1:], (b"max-forwards", b"0")]), asked=0
    ),
    "RFC 9110 9.3.8 TRACE is not served": Row(
        one([(b":method", b"TRACE"), *GET[1:]]), statuses=(405,), asked=0, choice=MAY_SERVE
    ),
    "RFC 9110 7.6.3 Via says 2.0": fine(
        one(),
        check=lambda h2, seen: [v[:4] for v in field(h2, seen, b"via")] in ([b"2.0 "], [b"2 "]),
    ),
    "RFC 9110 7.6.1 proxy-authorization ends here": fine(
        one([*GET, (b"proxy-authorization", b"x")]),
        check=lambda h2, seen: field(h2, seen, b"proxy-authorization") == [],
        choice=MAY_KEEP,
    ),
    "RFC 7239 what a client claims is replaced": fine(
        one([*GET, (b"x-forwarded-for", b"9.9.9.9")]),
        check=lambda h2, seen: b"9.9.9.9" not in b"".join(field(h2, seen, b"x-forwarded-for")),
        choice=MAY_KEEP,
    ),
    "RFC 9110 9.3.2 HEAD has no body": fine(
        one([(b":method", b"HEAD"), *GET[1:]]),
        check=lambda h2, seen: h2.answers[1].body == b"" and h2.answers[1].ended,
    ),
    # -- floods (section 10.5)
    "10.5 PING flood": wrong(
        ENHANCE_YOUR_CALM, lambda h2: frame(PING, 0, 0, b"12345678") * 1100, choice=LIMIT
    ),
    "10.5 SETTINGS flood": wrong(
        ENHANCE_YOUR_CALM, lambda h2: frame(SETTINGS, 0, 0) * 600, choice=LIMIT
    ),
    "10.5 PRIORITY flood": wrong(
        ENHANCE_YOUR_CALM, lambda h2: frame(PRIORITY, 0, 9, b"\0\0\0\0\x10") * 1100, choice=LIMIT
    ),
    "10.5 CONTINUATION flood": wrong(
        ENHANCE_YOUR_CALM,
        lambda h2: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1, b"") * 1100,
        choice=LIMIT,
    ),
    "10.5 empty DATA flood": wrong(
        ENHANCE_YOUR_CALM, then(frame(DATA, 0, 1) * 1100, fields=POST, end=False), choice=LIMIT
    ),
    "10.5 unknown frames": wrong(
        ENHANCE_YOUR_CALM, lambda h2: frame(0xBE, 0, 0) * 1100, choice=LIMIT
    ),
    "10.5 small WINDOW_UPDATEs": wrong(
        ENHANCE_YOUR_CALM, lambda h2: frame(WINDOW_UPDATE, 0, 0, number(1)) * 1100, choice=LIMIT
    ),
    "CVE-2023-44487 rapid reset": wrong(
        ENHANCE_YOUR_CALM,
        lambda h2: b"".join(
            h2.head(GET) + frame(RST_STREAM, 0, h2.next - 2, number(CANCEL)) for _ in range(300)
        ),
        choice=LIMIT,
    ),
    "CVE-2025-8671 made you reset": wrong(
        ENHANCE_YOUR_CALM,
        lambda h2: b"".join(
            h2.head(GET) + frame(WINDOW_UPDATE, 0, h2.next - 2, number(0)) for _ in range(120)
        ),
        choice=LIMIT,
    ),
    "CVE-2016-6581 HPACK bomb": wrong(
        ENHANCE_YOUR_CALM,
        lambda h2: (
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                block() + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000,
            )
            + frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\xbe" * 100)
        ),
        asked=0,
        choice=LIMIT,
    ),
    "6.5.2 more streams than are allowed": fine(
        lambda h2: b"".join(h2.head(GET) for _ in range(103)),
        asked=100,
        check=lambda h2, seen: (
            [h2.answers[stream].reset for stream in (201, 203, 205)] == [REFUSED_STREAM] * 3
        ),
        choice=LIMIT,
    ),
}


def head_in_pieces(h2: H2Peer, fields: Fields) -> bytes:
    """HEADERS and as many CONTINUATION as they need."""
    whole = bytes(h2.encoder.encode(fields, huffman=False))
    stream, pieces = (
        h2.take_number(),
        [whole[at : at + 16000] for at in range(0, len(whole), 16000)],
    )
    out = frame(HEADERS, END_STREAM, stream, pieces[0])
    for piece in pieces[1:]:
        out += frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, stream, piece)
    return out


def malformed() -> Iterator[tuple[str, Row]]:
    """Each request that is malformed by its fields: 400, a reset, and nothing upstream (8.1.1)."""
    for param in MALFORMED:
        pairs = cast("Fields", param.values[0])
        choice = MAY_SERVE if param.id in ("8.3.1 another scheme", "8.3.1 port") else ""
        send = raw(block(pairs))
        row = Row(send, reset=PROTOCOL_ERROR, statuses=(400,), asked=0, choice=choice)
        yield f"malformed {param.id}", row


TABLE = {**ROWS, **dict(malformed())}

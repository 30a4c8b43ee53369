"""What the searches share: their profile, heads as people send them, ways to damage a head."""

from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hopproxy.errors import HopError
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.wire.http1 import read_request, read_response

#: The same examples in every run, so that a red test is red for everybody.
search = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class Limits(NamedTuple):
    """The limits of a client hop."""

    max_head_size: int = 32768
    max_fields: int = 100
    max_target_size: int = 8192


LIMITS = Limits()

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a",
    b"GET /static/app.js?v=3&x=%2F HTTP/1.1\r\nHost: shop.example:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nCookie: id=7; theme=dark\r\n"
    b"Connection: keep-alive",
    b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5",
    b"POST /orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum",
    b"PUT /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-Hop\r\nUpgrade: websocket\r\n"
    b"X-Hop: 1\r\nSec-WebSocket-Version: 13",
    b"GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive",
    b"GET http://a/abs?q HTTP/1.1\r\nHost: a\r\nTE: trailers, gzip",
    b"GET http://a:80/abs?q HTTP/1.1\r\nHost: a\r\nExpect: ,",
    b"PUT /octal HTTP/1.1\r\nHost: a\r\nContent-Length: 005",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nVia: 1.0 front, 1.1 mid",
    b"DELETE /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX_Forwarded_For: 8.8.8.8\r\n"
    b"Forwarded: for=9.9.9.9\r\nX_Custom: 1\r\nKeep-Alive: timeout=9",
]

RESPONSES = [
    b"HTTP/1.1 200 OK\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: 5",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=9\r\n"
    b"Connection: keep-alive",
    b"HTTP/1.1 404 Not Found\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nServer: o",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive",
    b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5",
    b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0',
    b"HTTP/1.1 200\r\nContent-Length: 5",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
]

#: Pieces that have made two parsers disagree before.
_PIECES = st.sampled_from(
    [b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\x0b", b"\x7f", b"\x85", b"\xff", b":", b",",
     b";", b"0", b"5", b"+", b"_", b"-", b"chunked", b"close", b"#", b"*", b"@", b"http://b/",
     b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/1.1 "]
) | st.binary(min_size=1, max_size=3)  # fmt: skip

_LINES = st.sampled_from(
    [b"Content-Length: 5", b"content-length: 6", b"Content-Length: 5, 5", b"Content-Length:",
     b"Content-Length: +5", b"Content-Length: 00005", b"Transfer-Encoding: chunked",
     b"Content-Length: 010", b"Content-Length: 00", b"Transfer-Encoding: chunked, gzip",
     b"Transfer-Encoding: identity", b"Expect:", b"Expect: ,", b"Host: a:80",
     b"transfer-encoding: Chunked", b"Transfer-Encoding: gzip, chunked",
     b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:", b"Transfer_Encoding: chunked",
     b"Transfer-Encoding : chunked", b"Host: b", b"host: a", b"Host:", b"Connection: close",
     b"Connection: Host", b"Connection: X-Hop,,keep-alive", b"Connection:", b"Upgrade: h2c",
     b" folded", b"\tfolded", b"X: \xe9", b"X:y", b"X:  y \t", b"X", b": x", b"X: a\x01b",
     b"Expect: 100-continue", b"Expect: other", b"TE: trailers", b"Via: 1.1 x"]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """One of the `whole` heads after up to four strokes, cut where its empty line would be."""
    raw = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        stroke = draw(st.sampled_from(["insert", "delete", "replace", "line", "double", "swap"]))
        if stroke == "insert":
            raw = raw[:at] + draw(_PIECES) + raw[at:]
        elif stroke == "delete":
            raw = raw[:at] + raw[at + draw(st.integers(1, 4)) :]
        elif stroke == "replace":
            raw = raw[:at] + draw(_PIECES) + raw[at + 1 :]
        else:
            lines = raw.split(b"\r\n")
            where = draw(st.integers(1, len(lines)))
            if stroke == "line":
                lines.insert(where, draw(_LINES))
            elif stroke == "double":
                lines.insert(where, lines[draw(st.integers(0, len(lines) - 1))])
            else:
                lines.append(lines.pop(where - 1))
            raw = b"\r\n".join(lines)
    return raw.partition(b"\r\n\r\n")[0]


def request(raw: bytes, limits: Limits = LIMITS) -> RequestHead | HopError:
    """What is understood of a request's head, or why it is refused."""
    try:
        return read_request(raw, limits)
    except HopError as refusal:
        return refusal


def response(raw: bytes, method: bytes = b"GET") -> ResponseHead | HopError:
    """What is understood of a response's head, or why it is refused."""
    try:
        return read_response(raw, method)
    except HopError as refusal:
        return refusal


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a") -> RequestHead:
    """The head of a request with these field lines besides Host; it must be a sound one."""
    first = [start] if host is None else [start, b"Host: " + host]
    return read_request(b"\r\n".join([*first, *lines]), LIMITS)


def answer(
    *lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET"
) -> ResponseHead:
    """The head of a response with these field lines; it must be a sound one."""
    return read_response(b"\r\n".join([start, *lines]), method)

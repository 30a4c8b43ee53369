"""What the mutator starts from: real traffic, known attacks, and the words they are made of.

A case is what both far ends say: the client's bytes in pieces, and a reply of the origin for each
request, also in pieces.  `!` as the last piece is a FIN; a client without one waits a long time.
Before each piece of a reply but a FIN the gateway acts on what came before: an empty piece lets it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from tests.pure.search import REQUESTS, RESPONSES

FIN = b"!"


class Case(NamedTuple):
    """The two scripts of one run."""

    client: tuple[bytes, ...]
    replies: tuple[tuple[bytes, ...], ...]

    def to_json(self) -> str:
        """As kept in a file."""
        return json.dumps(
            {
                "client": [piece.decode("latin-1") for piece in self.client],
                "replies": [[piece.decode("latin-1") for piece in r] for r in self.replies],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Case:
        """From a file."""
        read = json.loads(text)
        return cls(
            tuple(piece.encode("latin-1") for piece in read["client"]),
            tuple(tuple(piece.encode("latin-1") for piece in reply) for reply in read["replies"]),
        )


END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"5;a=b\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n"
)

#: Requests with their bodies.
CLIENT = [
    *(head + END + (b"hello" if b"Content-Length" in head else b"") for head in REQUESTS[:3]),
    REQUESTS[3] + END + b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    *(head + END for head in REQUESTS[5:]),
    REQUESTS[4] + END + b"hello",
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\n"
    b"HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /n HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /cl.te HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /te.te HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n"
    b"5c\r\nGPOST / HTTP/1.1\r\nContent-Length: 15\r\n\r\nx=1\r\n0\r\n\r\n",
    b"POST /ext HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\nContent-Length: 30\r\n\r\n"
    b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    b"\x81\x05hello",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /octal HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
    b"PUT /none HTTP/1.1\r\nHost: a\r\nExpect: ,\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tfold\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
]

#: Replies, whole; each has been trouble for some proxy.
ORIGIN = [
    OK,
    CHUNKED,
    *(head + END + (b"hello" if b"Content-Length: 5" in head else b"") for head in RESPONSES),
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    b"HTTP/1.1 200 POISON\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + CHUNKED,
    b"HTTP/1.1 200 OK\r\n\r\nuntil the close",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the close",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\nContent-Length: 3\n\nhey",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    b"\x82\x02ok",
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=1\r\nContent-Length: 0\r\n\r\n",
]

#: Words on which two parsers have disagreed before.
WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b"\t", b" ", b"\x0b", b"\x0c", b"\x7f",
    b"\x80", b"\x85", b"\xff", b":", b",", b";", b"=", b'"', b"\\", b"#", b"*", b"?", b"//", b"@",
    b"0", b"1", b"5", b"00", b"+5", b"-1", b"0x5", b"5_0", b"ffffffffffffffff",
    b"10000000000000000",
    b"18446744073709551616", b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked",
    b"identity", b"close", b"keep-alive", b"upgrade", b"Upgrade", b"websocket", b"h2c", b"trailers",
    b"100-continue", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.9", b"HTTP/1.1 200 OK\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST", b"HEAD", b"CONNECT", b"TRACE", b"OPTIONS",
    b"http://b/", b"https://a:99999/", b"0\r\n\r\n", b"5\r\nhello\r\n", b"HTTP/1.1 100 \r\n\r\n",
    b"HTTP/1.1 101 \r\n", b" 204 ", b" 304 ", b" 205 ", b" 199 ", b" 999 ",
]  # fmt: skip

#: Whole lines, to be put between two others.
LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 5, 5", b"Content-Length: 6",
    b"content-length:5", b"Content-Length : 5", b"Content-Length: 005", b"Content-Length: 05, 05",
    b"Content_Length: 9", b"Content-Length:",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: chunked, x",
    b"Transfer-Encoding: identity", b"Transfer_Encoding: chunked", b"Transfer-Encoding:",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Connection: TE",
    b"Connection: X-A, Content-Length", b"Connection: x-a,,", b"Connection: transfer-encoding",
    b"X-A: 1", b"Upgrade: websocket", b"Upgrade: h2c", b"Upgrade: websocket, other",
    b"TE: trailers",
    b"Expect: 100-continue", b"Expect: x", b"Expect:", b"Expect: ,", b"Host: a:80",
    b"Host: a", b"Host: b", b"Host: [::1]:8", b"Host:",
    b"Via: 1.1 hopproxy", b"Via: 1.0 x, 1.1 y", b"Via:", b"X-Forwarded-For: 9.9.9.9",
    b"Forwarded: for=x", b"Max-Forwards: 0", b"Max-Forwards: 2", b"Trailer: X-Sum", b" fold",
    b"\tfold", b"X: \xe9", b"X:y", b"X:  y \t", b"X", b": x", b"X: a\x01b", b"Date: now", b"Date:",
    b"Keep-Alive: timeout=0", b"Keep-Alive: timeout=9, max=0", b"WWW-Authenticate: Negotiate",
    b"WWW-Authenticate: ,", b"Proxy-Connection: close", b"Set-Cookie: a=b", b"Set-Cookie: a=c",
    b"Authorization: Basic eA==", b"Connection: authorization", b"HTTP2-Settings: AA",
    b"Proxy-Authorization: x", b"Proxy-Authenticate: x", b"Idempotency-Key: 1",
]  # fmt: skip


def seeds() -> list[Case]:
    """Each request with plain replies, each reply to a plain request, some of both in pieces."""
    plain = (OK,), (CHUNKED,), (OK, FIN)
    found = [Case((sent,), plain) for sent in CLIENT]
    ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    found += [Case((ask, ask), ((reply,), (OK,))) for reply in ORIGIN]
    found += [Case((ask,), ((reply, FIN), (OK,))) for reply in ORIGIN]
    upgrade = next(sent for sent in CLIENT if b"\x81\x05" in sent)
    switch = next(reply for reply in ORIGIN if b" 101 " in reply)
    found.append(Case((upgrade, b"more"), ((switch, b"and more", FIN),)))
    post = b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    found += [Case((post, b"he", b"llo"), ((OK[:20], OK[20:]),)), Case((post, b"he"), ((OK,),))]
    found.append(Case((b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", ask), ((OK[:-5],), (OK,))))
    return found + _on_old_links(ask)


def _on_old_links(ask: bytes) -> list[Case]:
    """What happens on links that have served before: repetitions, deaths, hints, early leavers."""
    put = b"PUT /r HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    post = put.replace(b"PUT", b"POST", 1)
    slow = post[:-5], b"he", b"llo"
    expects = b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    chunks = CLIENT[3]
    again = [
        (ask, ask),
        (ask, put),
        (ask, post),
        (ask, *slow),
        (ask, chunks),
        (ask, expects, b"hello"),
    ]
    found = [Case(client, ((OK,), (FIN,), (OK,), (OK,))) for client in again]
    found += [Case(client, ((OK,), (OK[:4], FIN), (OK,), (OK,))) for client in again]
    found += [Case((*client, FIN), ((OK,), (OK[:30],), (OK,))) for client in again]
    found += [Case((ask, ask, ask, ask), ((OK,), (reply,), (OK,), (OK,))) for reply in ORIGIN]
    found.append(Case((ask, ask), ((OK, OK), (OK,), (OK,))))
    found.append(Case((expects, b"hello"), ((ORIGIN[-1],), (OK,))))
    found.append(Case((expects, b"hello", ask), ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), (OK,))))
    late = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"
    idle_ends = (OK, b"", FIN), (OK, late, FIN), (CHUNKED, b"", FIN), (OK, b"x")
    found += [Case((ask, ask), (reply, (OK,))) for reply in idle_ends]
    return found

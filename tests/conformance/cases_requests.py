"""Rules 100-105, 122 and 123: the length of a request can be read in one way only."""

from __future__ import annotations

import re

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def quoted(*values: bytes) -> dict[str, bytes]:
    """Name each row of a table by its own bytes."""
    return {repr(value)[2:-1][:40] or "empty": value for value in values}


def post(s: Stage, *lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """Write a POST with these field lines and this body, whatever they are."""
    host = b"Host: " + s.host.encode()
    return b"\r\n".join((b"POST / " + version, host, *lines, b"", body))


def get(s: Stage, *lines: bytes, target: bytes = b"/") -> bytes:
    """Write a GET with these field lines, whatever they are."""
    host = b"Host: " + s.host.encode()
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", host, *lines, b"", b""))


@rule(100, "RFC 9112 6.1, 6.3", only_http1=only_http1.FRAMING)
def length_beside_chunked_is_refused_or_loses_and_closes(s: Stage) -> None:
    body = b"2\r\nok\r\n0\r\n\r\n"
    lines = (b"Content-Length: 6", b"Transfer-Encoding: chunked")
    client = s.client()
    client.send(post(s, *lines, body=body) + SMUGGLED)
    if s.ours or s.origin.answers_first(client):
        s.refused(client, 400)
        return
    link = s.origin.request()
    assert not link.last.has("content-length")
    assert link.last.body == b"ok"
    link.answer()
    assert "close" in client.response().options()
    assert client.end() == "FIN"
    assert s.origin.hears_nothing(0.01)


@rule(101, "RFC 9112 6.1", only_http1=only_http1.VERSION)
def chunked_request_of_http10_is_refused_or_closed(s: Stage) -> None:
    client = s.client()
    line = b"Transfer-Encoding: chunked"
    keep = b"Connection: keep-alive"
    body = b"2\r\nok\r\n0\r\n\r\n"
    client.send(post(s, line, keep, body=body, version=b"HTTP/1.0") + SMUGGLED)
    if s.ours or s.origin.answers_first(client):
        s.refused(client, 400)
        return
    s.origin.request().answer()
    client.response()
    assert client.end() == "FIN"
    assert s.origin.hears_nothing(0.01)


@each(
    102,
    "RFC 9112 6.1, 6.3",
    quoted(
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b",chunked",
        b"identity",
        b"\x0bchunked",
        b'"chunked"',
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: identity",
        b"xchunked",
        b"chunked;a=b",
    ),
)
def other_transfer_coding_is_refused(s: Stage, value: bytes) -> None:
    s.sent_and_refused(post(s, b"Transfer-Encoding: " + value, body=b"0\r\n\r\n"), 400, 501)


@each(
    103,
    "RFC 9110 8.6",
    quoted(
        b"+5",
        b"-1",
        b"0x10",
        b"1_0",
        b"",
        b"5,6",
        b"5\r\nContent-Length: 6",
        b"5 5",
        b"99999999999999999999999",
        b"5;a",
    ),
)
def invalid_length_is_refused(s: Stage, value: bytes) -> None:
    statuses = (400, 413) if value.startswith(b"9999") else (400,)
    s.sent_and_refused(post(s, b"Content-Length: " + value, body=b"hello"), *statuses)


@each(103, "RFC 9110 8.6", quoted(b"5, 5", b"5\r\nContent-Length: 5"))
def repeated_equal_length_is_refused_or_becomes_one(s: Stage, value: bytes) -> None:
    client = s.client()
    client.send(post(s, b"Content-Length: " + value, body=b"hello"))
    if s.origin.answers_first(client):
        s.refused(client, 400)
        return
    link = s.origin.request()
    assert link.last.values("content-length") == ["5"]
    link.answer()
    assert client.response().status == 200


@each(103, "RFC 9110 8.6; http-garden", quoted(b"005", b"0000000005"))
def length_with_leading_zeros_is_refused_or_written_anew(s: Stage, value: bytes) -> None:
    client = s.client()
    client.send(post(s, b"Content-Length: " + value, body=b"hello"))
    if not s.ours and s.origin.answers_first(client):
        s.refused(client, 400)
        return
    link = s.origin.request()
    assert link.last.values("content-length") == ["5"]
    link.answer()
    assert client.response().status == 200


@each(102, "RFC 9112 6.3", quoted(b"gzip", b"chunked, gzip", b"identity"))
def request_whose_final_coding_is_not_chunked_is_400(s: Stage, value: bytes) -> None:
    data = post(s, b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
    s.sent_and_refused(data, 400, *(() if s.ours else (501,)))


@each(
    104,
    "RFC 9112 7.1; GHSA-vqfr-h8mv-ghfj",
    quoted(
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"0_5\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"0000000000000000000005\r\nhello\r\n",
        b"10000000000000005\r\nhello\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n",
        b"5\nhello\r\n",
        b"g\r\nhello\r\n",
    ),
    only_http1=only_http1.CHUNKS,
)
def invalid_chunk_is_refused(s: Stage, chunk: bytes) -> None:
    client = s.client()
    client.send(post(s, b"Transfer-Encoding: chunked", body=chunk + b"0\r\n\r\n"))
    s.let_in(client)
    response = client.response(within=2)
    assert response.status == 400, f"status {response.status}"
    client.fin()
    client.end()
    for link in s.origin.links:
        assert b"0\r\n\r\n" not in link.everything(), "the body was ended cleanly upstream"


@each(
    105,
    "RFC 9112 7.1.1",
    quoted(b";\rx=1", b";a=\x00", b";a=\x01", b";a\n", b";" + b"x" * 70000),
    only_http1=only_http1.CHUNKS,
)
def broken_chunk_extension_is_refused(s: Stage, extension: bytes) -> None:
    client = s.client()
    body = b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"
    client.send(post(s, b"Transfer-Encoding: chunked", body=body))
    s.let_in(client)
    assert client.response(within=2).status in (400, 413)


@rule(105, "RFC 9112 7.1.1", only_http1=only_http1.CHUNKS)
def chunk_extension_is_not_passed_on(s: Stage) -> None:
    client = s.client()
    body = b'005;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n'
    client.send(post(s, b"Transfer-Encoding: chunked", body=body))
    link = s.origin.request()
    assert link.last.body == b"hello"
    link.answer()
    assert client.response().status == 200


@each(122, "trophy 21", quoted(b"GET", b"DELETE", b"OPTIONS"))
def unusual_body_is_forwarded_with_its_length(s: Stage, method: bytes) -> None:
    client = s.client()
    client.head(f"{method.decode()} / HTTP/1.1", "Content-Length: 4")
    client.send(b"body")
    link = s.origin.request()
    assert link.last.body == b"body"
    link.answer()
    assert client.response().status == 200


@rule(123, "pingora#674; http-garden")
def what_goes_upstream_is_written_anew(s: Stage) -> None:
    client = s.client()
    head = f"POST /x HTTP/1.1\r\nhost:{s.host}\r\nX-Tab:\t a \t b\t \r\nX-None:\r\n"
    client.send(head.encode() + b"transfer-encoding: Chunked\r\n\r\n005\r\nhello\r\n00\r\n\r\n")
    link = s.origin.request()
    assert link.last.body == b"hello"
    assert link.last.values("x-tab") == ["a \t b"]
    for line in link.last.raw_head.split(b"\r\n")[1:-2]:
        assert re.fullmatch(rb"[!-9;-~]+:(?: [^ \t\r\n](?:.*[^ \t\r\n])?| ?)", line), line
    link.answer()
    assert client.response().status == 200

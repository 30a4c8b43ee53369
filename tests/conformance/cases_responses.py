"""Rules 101, 110 and 117-121 towards the client: what a response must be, or else is a 502."""

from __future__ import annotations

import contextlib
import time

from tests.conformance.case import SERVER_ERRORS, Stage, each, rule
from tests.conformance.cases_pool import serves_on_another
from tests.conformance.cases_requests import quoted
from tests.conformance.origin import OriginLink
from tests.conformance.strict import Malformed
from tests.conformance.wire import Client, CutShort

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 2\r\n"


def answered(s: Stage, answer: bytes) -> tuple[Client, OriginLink]:
    """Let the origin give this answer to a GET."""
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(answer)
    return client, link


def bad_or_clean(s: Stage, answer: bytes) -> None:
    """Expect 502 and a closed link; of another proxy also a response the strict reader takes."""
    client, link = answered(s, answer)
    response = client.response()
    if s.ours or response.status != 200:
        assert response.status == 502, f"status {response.status}"
        assert link.end() in ("FIN", "RST")
    serves_on_another(s, link) if link.ending else None


@rule(101, "RFC 9112 6.1")
def chunked_response_of_http10_is_refused_or_closes(s: Stage) -> None:
    head = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
    client, link = answered(s, head + b"2\r\nok\r\n0\r\n\r\n")
    if not s.ours:
        link.fin()
    assert client.response().status == 502 or not s.ours
    serves_on_another(s, link)


@each(110, "RFC 9112 5.2", quoted(b"X-A: 1\r\n 2", b"X-A:\r\n\t2"))
def folded_line_of_the_origin_never_passes(s: Stage, lines: bytes) -> None:
    bad_or_clean(s, SIZED + lines + b"\r\n\r\nok")


@each(
    106,
    "RFC 9112 2.2",
    {
        "in a field": SIZED + b"X-A: 1\nX-B: 2\r\n\r\nok",
        "after the status line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    },
)
def bare_line_feed_of_the_origin_never_passes(s: Stage, answer: bytes) -> None:
    bad_or_clean(s, answer)


@each(107, "RFC 9112 2.2, 4", quoted(b"O\rK", b"O\x00K"))
def bare_cr_or_nul_in_a_reason_phrase_never_passes(s: Stage, reason: bytes) -> None:
    bad_or_clean(s, b"HTTP/1.1 200 " + reason + b"\r\nContent-Length: 2\r\n\r\nok")


@each(107, "RFC 9110 5.5 MUST", quoted(b"a\x00b", b"a\rb"))
def bare_cr_or_nul_of_the_origin_never_passes(s: Stage, value: bytes) -> None:
    bad_or_clean(s, SIZED + b"X-A: " + value + b"\r\n\r\nok")


@each(108, "RFC 9112 4", quoted(b"O\x01K", b"O\x7fK"))
def control_byte_in_a_reason_phrase_is_refused(s: Stage, reason: bytes) -> None:
    try:
        bad_or_clean(s, b"HTTP/1.1 200 " + reason + b"\r\nContent-Length: 2\r\n\r\nok")
    except Malformed:
        assert not s.ours  # kept, as in a field's value


@each(108, "RFC 9110 5.5", quoted(b"a\x01b", b"a\x7fb"))
def control_byte_of_the_origin_is_refused(s: Stage, value: bytes) -> None:
    try:
        bad_or_clean(s, SIZED + b"X-A: " + value + b"\r\n\r\nok")
    except Malformed:
        assert not s.ours  # kept, which the RFC leaves to a recipient's choice


@each(
    117,
    "RFC 9112 6.3 MUST; proxy_duplicate_headers.t",
    quoted(b"+2", b"-1", b"0x2", b"2, 3", b"2\r\nContent-Length: 3", b"", b"2 2", b"9" * 30),
)
def invalid_length_of_the_origin_is_502(s: Stage, value: bytes) -> None:
    client, link = answered(s, OK + b"Content-Length: " + value + b"\r\n\r\nok")
    s.bad_gateway(client)
    assert link.end() in ("FIN", "RST")


@each(
    118,
    "RFC 9112 6.3",
    quoted(
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
    ),
)
def framing_of_a_response_without_a_body_does_not_fail_it(s: Stage, lines: bytes) -> None:
    for start, method in ((b"200 OK", "HEAD"), (b"304 Not Modified", "GET")):
        client = s.client()
        client.head(f"{method} / HTTP/1.1")
        s.origin.request().send(b"HTTP/1.1 " + start + b"\r\n" + lines + b"\r\n\r\n")
        response = client.response(method)
        assert response.status == int(start[:3]) or not s.ours
        assert len(response.values("content-length")) < 2 or not s.ours


@each(117, "RFC 9112 6.3", quoted(b"2\r\nContent-Length: 2", b"2, 2", b"02"))
def repeated_equal_length_of_the_origin_becomes_one(s: Stage, value: bytes) -> None:
    client, _ = answered(s, OK + b"Content-Length: " + value + b"\r\n\r\nok")
    response = client.response()
    assert response.status == 200 or (not s.ours and response.status == 502)
    if s.ours:
        assert response.values("content-length") == ["2"]


@each(
    121,
    "RFC 9112 2.2, 4",
    quoted(
        b"HTTP/1.1 200 OK\nContent-Length: 3\n\nhey",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"<html>",
    ),
)
def answer_that_can_never_become_a_response_is_502_at_once(s: Stage, answer: bytes) -> None:
    client, link = answered(s, answer)
    if not s.ours:  # where it is waited for until a timeout, its end is waited for instead
        link.fin()
        assert client.response().status in (200, 502)
        return
    s.bad_gateway(client, within=2.0)
    assert link.end() in ("FIN", "RST")


@rule(118, "RFC 9112 6.3")
def length_beside_chunked_of_the_origin_is_502_or_loses(s: Stage) -> None:
    head = OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    client, link = answered(s, head + b"2\r\nok\r\n0\r\n\r\n")
    response = client.response()
    if s.ours or response.status != 200:
        assert response.status == 502
    else:
        assert response.body == b"ok"
    assert link.end() in ("FIN", "RST")


@each(
    119,
    "RFC 9112 8; proxy_unfinished.t",
    {
        "sized": OK + b"Content-Length: 5\r\n\r\nhe",
        "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "in a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "before the trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    },
)
def unfinished_response_is_cut(s: Stage, answer: bytes) -> None:
    client, link = answered(s, answer)
    link.fin()
    with contextlib.suppress(CutShort):
        assert client.response().status == 502, "ended cleanly"


@rule(119, "RFC 9112 8")
def broken_chunk_of_the_origin_cuts_the_client(s: Stage) -> None:
    client, link = answered(s, OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    with contextlib.suppress(CutShort):
        assert client.response().status == 502
    assert link.end() in ("FIN", "RST")


@each(
    120,
    "RFC 9112 6.1",
    quoted(
        b"gzip, chunked", b"gzip", b"chunked, chunked", b"chunked, gzip", b"identity", b",chunked"
    ),
)
def other_transfer_coding_of_the_origin_is_502(s: Stage, coding: bytes) -> None:
    head = OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n"
    client, link = answered(s, head + b"2\r\nok\r\n0\r\n\r\n")
    if not s.ours:
        link.fin()
    response = client.response()
    if s.ours or response.status != 200:
        assert response.status == 502, f"status {response.status}"
        assert link.end() in ("FIN", "RST")


@each(
    117,
    "RFC 9112 4; RFC 9110 15",
    quoted(
        b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"hello\r\n\r\n",
    ),
)
def malformed_status_line_is_502(s: Stage, answer: bytes) -> None:
    client, link = answered(s, answer)
    if not s.ours:
        link.fin()
    s.bad_gateway(client)
    assert link.end() in ("FIN", "RST")


@rule(121, "nginx proxy_buffer_size")
def response_head_over_the_limit_is_502(s: Stage) -> None:
    lines = b"".join(b"X-%d: " % number + b"x" * 1000 + b"\r\n" for number in range(70))
    client, link = answered(s, SIZED + lines + b"\r\nok")
    s.bad_gateway(client)
    assert link.end() in ("FIN", "RST")


@rule(121, "HAProxy timeout server", group="impatient")
def dripping_response_head_is_504(s: Stage) -> None:
    client, link = answered(s, OK + b"X-Drip: ")
    started = time.monotonic()
    while time.monotonic() - started < 2.5 and client.stays_open_or_speaks(0.1):
        if client.buffer:
            break
        link.send(b"x")
    assert client.response().status == 504
    assert time.monotonic() - started < 2.0


@rule(128, "RFC 9110 15.6.3")
def refused_connect_is_502(s: Stage) -> None:
    s.origin.refuse()
    client = s.client()
    client.get()
    s.named(s.bad_gateway(client), "connection_refused")


@rule(128, "RFC 9110 15.6.5", group="impatient")
def connect_timeout_is_504(s: Stage) -> None:
    filler = s.origin.stall()
    client = s.client()
    client.get()
    s.named(s.bad_gateway(client, 504), "connection_timeout")
    s.origin.resume(filler)


@rule(128, "RFC 9110 15.6.5", group="impatient")
def response_timeout_is_504(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    s.named(s.bad_gateway(client, 504), "http_response_timeout")
    assert link.end() in ("FIN", "RST")


@rule(128, "RFC 9112 8", group="impatient")
def stalled_response_body_is_cut(s: Stage) -> None:
    client, link = answered(s, OK + b"Content-Length: 9\r\n\r\nhalf")
    client.begun()
    assert client.everything(2) == b"half"
    assert link.end() in ("FIN", "RST")
    s.named(None, "connection_read_timeout")


@rule(128, "RFC 9110 15.5.9", group="impatient")
def stalled_request_body_is_cut(s: Stage) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", "Content-Length: 9")
    client.send(b"half")
    link = s.origin.head()
    with contextlib.suppress(CutShort):
        assert client.response(within=2.5).status in (408, 504, 502)
    client.upload_ends(within=2.5)
    assert link.everything() == b"half"


@rule(129, "haproxy#889")
def own_error_has_a_length_and_keeps_the_client(s: Stage) -> None:
    s.origin.refuse()
    client = s.client()
    client.get()
    response = client.response()
    assert response.status in SERVER_ERRORS
    assert response.has("content-length")
    assert client.stays_open()
    s.origin.listen()
    assert s.exchange(client)[0].status == 200


@rule(130, "RFC 9110 9.3.2")
def own_error_to_head_has_no_body(s: Stage) -> None:
    s.origin.refuse()
    client = s.client()
    client.head("HEAD / HTTP/1.1")
    assert client.response("HEAD").status in SERVER_ERRORS
    client.fin()
    assert client.everything() == b""

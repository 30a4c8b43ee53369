"""Rules 65, 74, 76-79, 123 again: equal bytes mean the same only if everything else is equal.

A proxy that remembers what it has parsed or written before must not carry it over to another
client, another method, another version or another second. And bytes that come one by one mean
what they mean together.
"""

from __future__ import annotations

import email.utils
import time

from tests import drivers
from tests.conformance import only_http1
from tests.conformance.case import Stage, rule
from tests.conformance.cases_fields import answer, chunked
from tests.conformance.cases_pool import settle
from tests.conformance.strict import Message

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@rule(65, "RFC 7239 5.2")
def each_client_is_named_by_its_own_address(s: Stage) -> None:
    for source in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        client = s.client(source)
        client.get()
        link = s.origin.request()
        link.answer()
        client.response()
        settle()
        assert link.last.values("x-forwarded-for") == [source]


FORWARDED = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: a.test",
    "Forwarded: for=6.6.6.6",
)


def forwarded_from(s: Stage, source: str) -> Message:
    """Send forwarding fields from that address; return the request as the origin saw it."""
    client = s.client(source)
    client.get("/", *FORWARDED)
    link = s.origin.request()
    link.answer()
    client.response()
    return link.last


@rule(65, "hopproxy trusted_proxies", group="other_choices")
def forwarding_fields_of_a_trusted_proxy_are_appended_to(s: Stage) -> None:
    trusted = forwarded_from(s, "127.0.0.1")
    assert trusted.values("x-forwarded-for") == ["6.6.6.6, 127.0.0.1"]
    assert trusted.values("x-forwarded-proto") == ["https"]
    assert trusted.values("x-forwarded-host") == ["a.test"]
    assert trusted.value("forwarded") == "for=6.6.6.6, for=127.0.0.1;host=a.test;proto=https"


@rule(65, "hopproxy trusted_proxies", group="other_choices")
def forwarding_fields_of_anybody_else_are_replaced(s: Stage) -> None:
    unknown = forwarded_from(s, "127.0.0.2")
    assert unknown.values("x-forwarded-for") == ["127.0.0.2"]
    scheme = "https" if drivers.TLS in ("clients", "both") else "http"
    assert unknown.values("x-forwarded-proto") == [scheme]
    assert unknown.values("x-forwarded-host") == [s.host]
    assert unknown.value("forwarded").startswith("for=127.0.0.2;")


@rule(74, "RFC 9110 7.6.3", group="other_choices")
def via_in_requests_alone_is_silent_towards_the_client(s: Stage) -> None:
    client = s.client()
    response, _ = s.exchange(client)
    assert not response.has("via")
    assert s.origin.links[-1].last.values("via") == [f"{s.via} hopproxy"]


@rule(74, "RFC 9110 7.6.3", only_http1=only_http1.VERSION)
def via_names_the_version_that_was_received(s: Stage) -> None:
    old = s.seen_upstream(start="GET / HTTP/1.0")
    new = s.seen_upstream()
    assert [seen.values("via") for seen in (old, new)] == [["1.0 hopproxy"], ["1.1 hopproxy"]] or (
        not s.ours
    )


@rule(76, "RFC 9110 9.3.8")
def trace_is_405_unless_switched_on(s: Stage) -> None:
    client = s.client()
    client.head("TRACE / HTTP/1.1")
    if s.origin.answers_first(client):
        assert client.response().status == 405
    else:
        assert not s.ours
        s.origin.request().answer()
        assert client.response().status == 200


@rule(20, "RFC 9112 6.3")
def equal_heads_to_head_and_get_have_their_own_bodies(s: Stage) -> None:
    client = s.client()
    for method in ("GET", "HEAD", "HEAD", "GET"):
        client.head(f"{method} / HTTP/1.1")
        link = s.origin.request()
        link.send(SIZED + (b"hello" if method == "GET" else b""))
        assert client.response(method).body == (b"hello" if method == "GET" else b"")
    assert len(s.origin.links) == 1


@rule(42, "RFC 9112 2.3, 9.3", only_http1=only_http1.VERSION)
def equal_answers_end_as_each_client_needs(s: Stage) -> None:
    for start, fields, closes in (
        ("GET / HTTP/1.1", (), False),
        ("GET / HTTP/1.0", (), True),
        ("GET / HTTP/1.1", ("Connection: close",), True),
        ("GET / HTTP/1.1", (), False),
    ):
        client = s.client()
        client.head(start, *fields)
        s.origin.request().send(SIZED + b"hello")
        response = client.response()
        assert response.body == b"hello"
        assert ("close" in response.options()) == closes or start.endswith("1.0")
        assert client.end() == "FIN" if closes else client.stays_open()


@rule(79, "RFC 9110 6.6.1")
def added_date_is_of_now(s: Stage) -> None:
    dates = []
    for _ in range(2):
        value = s.seen_downstream(answer()).value("date")
        dates.append(email.utils.parsedate_to_datetime(value).timestamp())
        assert abs(dates[-1] - time.time()) < 2.0
        time.sleep(1.1)
    assert dates[0] < dates[1]


@rule(123, "RFC 9112 2.2")
def request_in_single_bytes_is_the_same_request(s: Stage) -> None:
    client = s.client()
    head = f"POST /slow HTTP/1.1\r\nHost: {s.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send_in_single_bytes(head.encode() + chunked())
    link = s.origin.request()
    assert (link.last.target, link.last.body) == ("/slow", b"ok")
    link.answer()
    assert client.response().status == 200


@rule(123, "RFC 9112 2.2")
def response_in_single_bytes_is_the_same_response(s: Stage) -> None:
    client = s.client()
    for data in (
        answer("X-A: 1"),
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(),
    ):
        client.get()
        link = s.origin.request()
        link.send_in_single_bytes(data)
        response = client.response()
        assert (response.body, response.values("x-a")) == (b"ok", ["1"])
    assert len(s.origin.links) == 1


@rule(44, "RFC 9112 9.3.2")
def pipelined_bodies_stay_with_their_requests(s: Stage) -> None:
    client = s.client()
    head = f"POST /%s HTTP/1.1\r\nHost: {s.host}\r\n"
    sized = (head % "1" + "Content-Length: 5\r\n\r\nfirst").encode()
    coded = (head % "2" + "Transfer-Encoding: chunked\r\n\r\n").encode()
    client.send(sized + coded + b"6\r\nsecond\r\n0\r\n\r\n" + sized.replace(b"first", b"third"))
    for _ in range(3):
        link = s.origin.request()
        link.answer(link.last.target.encode() + link.last.body)
    bodies = [client.response().body for _ in range(3)]
    assert bodies == [b"/1first", b"/2second", b"/1third"]
    assert client.stays_open()

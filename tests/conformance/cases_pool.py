"""Rules 1-10 and 20-22: a socket goes back to the pool, or not."""

from __future__ import annotations

import time

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.origin import OriginLink
from tests.conformance.wire import Client

POISON = b"HTTP/1.1 200 POISON\r\nContent-Length: 6\r\n\r\nPOISON"


def pooled(s: Stage, *fields: str) -> tuple[Client, OriginLink]:
    """Leave one link idle behind a response with these fields, and the client that used it."""
    client = s.client()
    client.get()
    link = s.origin.request()
    link.answer(b"ok", *fields)
    assert client.response().body == b"ok"
    settle()
    return client, link


def settle() -> None:
    """Give the proxy its moment to put away a link whose response the client has already read."""
    time.sleep(0.02)


def serves_on_another(s: Stage, used: OriginLink) -> None:
    """Expect that the next client is served, and not on that link."""
    other = s.client()
    other.get("/next")
    link = s.origin.request()
    assert link is not used, f"{used.name} was used again"
    link.answer(b"fresh")
    assert other.response().body == b"fresh"


def serves_on_same(s: Stage, used: OriginLink) -> None:
    """Expect that the next client is served on that link."""
    other = s.client()
    other.get("/next")
    link = s.origin.request()
    assert link is used, f"{link.name}, not {used.name}"
    link.answer(b"again")
    assert other.response().body == b"again"


@rule(1, "RFC 9112 9.3")
def two_clients_share_one_upstream_socket(s: Stage) -> None:
    _, link = pooled(s)
    serves_on_same(s, link)
    assert [seen.target for seen in link.seen] == ["/", "/next"]


@rule(2, "RFC 9110 7.6.1; pingora#706", only_http1=only_http1.CONNECTION)
def client_close_leaves_the_upstream_socket_pooled(s: Stage) -> None:
    client = s.client()
    client.get("/", "Connection: close")
    link = s.origin.request()
    assert "close" not in link.last.options()
    link.answer()
    assert "close" in client.response().options()
    assert client.end() == "FIN"
    settle()
    serves_on_same(s, link)


@rule(3, "RFC 9110 7.6.1; RFC 9112 9.6")
def origin_close_leaves_the_client_link_open(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.answer(b"ok", "Connection: close")
    assert "close" not in client.response().options()
    assert link.end() in ("FIN", "RST")
    client.get("/2")
    second = s.origin.request()
    assert second is not link
    second.answer(b"two")
    assert client.response().body == b"two"


@rule(4, "RFC 9112 9.3")
def http10_origin_is_not_pooled_and_the_client_is_kept(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.response().body == b"ok"
    settle()
    serves_on_another(s, link)
    assert client.stays_open()


@rule(5, "RFC 9112 6.3, 9.3")
def body_until_close_becomes_chunked_and_the_client_is_kept(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
    link.fin()
    response = client.response()
    assert response.body == b"until the end"
    assert client.delimits(response)
    assert client.stays_open()
    serves_on_another(s, link)


@rule(6, "RFC 9112 9.2; proxy_extra_data.t")
def bytes_after_a_response_never_answer_the_next_request(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON)
    assert client.response().body == b"ok"
    assert link.end() in ("FIN", "RST")
    serves_on_another(s, link)


@rule(7, "RFC 9112 9.2, 2.2")
def line_end_after_a_response_harms_nobody(s: Stage) -> None:
    client = s.client()
    client.get()
    s.origin.request().send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n")
    assert client.response().body == b"ok"
    settle()
    for turn in (client, s.client()):
        response, _ = s.exchange(turn, body=b"next")
        assert response.body == b"next"


@each(
    8,
    "RFC 9112 9.2; Go TestTransportIgnores408",
    {
        "408": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "200": POISON,
        "garbage": b"\x00\x01",
    },
)
def unsolicited_bytes_retire_an_idle_socket(s: Stage, data: bytes) -> None:
    _, link = pooled(s)
    link.send(data)
    serves_on_another(s, link)
    assert link.end() in ("FIN", "RST")


@each(9, "proxy_keepalive.t closed1, closed2", {"at once": b"0", "50 ms later": b"0.05"})
def origin_fin_on_an_idle_socket_costs_no_request(s: Stage, pause: bytes) -> None:
    _, link = pooled(s)
    link.fin()
    time.sleep(float(pause))
    serves_on_another(s, link)
    assert len(link.seen) == 1
    assert s.origin.hears_nothing()


@each(10, "proxy_keepalive.t closed1, closed2", {"at once": b"0", "50 ms later": b"0.05"})
def origin_reset_of_an_idle_socket_costs_no_request(s: Stage, pause: bytes) -> None:
    _, link = pooled(s)
    link.reset()
    time.sleep(float(pause))
    serves_on_another(s, link)
    assert s.origin.hears_nothing()


@each(
    20,
    "proxy_keepalive.t",
    {
        "HEAD": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "304": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
        "empty chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    },
)
def response_without_a_body_leaves_the_socket_pooled(s: Stage, answer: bytes) -> None:
    method = "HEAD" if b"Content-Length: 5" in answer else "GET"
    client = s.client()
    client.head(f"{method} / HTTP/1.1")
    link = s.origin.request()
    link.send(answer)
    assert client.response(method).body == b""
    settle()
    serves_on_same(s, link)
    assert client.stays_open()


def body_never_passes(s: Stage, method: str, answer: bytes) -> None:
    """Let the origin add a body that the request or the status forbids."""
    client = s.client()
    client.head(f"{method} / HTTP/1.1")
    link = s.origin.request()
    link.send(answer)
    client.response(method)
    assert link.end() in ("FIN", "RST")
    serves_on_another(s, link)
    assert not client.buffer
    if client.stays_open():
        response, _ = s.exchange(client, body=b"clean")
        assert response.body == b"clean"


@rule(21, "RFC 9110 9.3.2")
def body_after_a_head_response_never_passes(s: Stage) -> None:
    body_never_passes(s, "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra")


@each(
    22,
    "RFC 9112 6.3",
    {
        "204": b"HTTP/1.1 204 No Content\r\n\r\nextra",
        "304": b"HTTP/1.1 304 Not Modified\r\n\r\nextra",
    },
)
def body_after_a_status_without_one_never_passes(s: Stage, answer: bytes) -> None:
    body_never_passes(s, "GET", answer)

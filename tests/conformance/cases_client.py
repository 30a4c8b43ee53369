"""Rules 41-58: how long a client's connection lasts, and how it ends."""

from __future__ import annotations

import contextlib
import time

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.wire import Client, CutShort, Silence

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))


@rule(41, "RFC 9112 9.3, 9.6", only_http1=only_http1.CONNECTION)
def http11_client_is_kept_until_it_says_close(s: Stage) -> None:
    client = s.client()
    first, _ = s.exchange(client)
    assert "close" not in first.options()
    assert client.stays_open()
    last, _ = s.exchange(client, "Connection: close")
    assert "close" in last.options()
    assert client.end() == "FIN"


def http10(s: Stage, *fields: str, answer: bytes) -> Client:
    """Send a request of HTTP/1.0 and let the origin give this answer."""
    client = s.client()
    client.head("GET / HTTP/1.0", *fields)
    s.origin.request().send(answer)
    return client


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@each(42, "RFC 9112 6.1", {"sized": SIZED, "chunked": CHUNKED}, only_http1=only_http1.VERSION)
def http10_client_gets_no_chunks_and_is_closed(s: Stage, answer: bytes) -> None:
    client = http10(s, answer=answer)
    response = client.response()
    assert response.body == b"ok"
    assert not response.has("transfer-encoding")
    assert client.end() == "FIN"


@each(
    43, "RFC 9112 9.3, C.2.2", {"sized": SIZED, "chunked": CHUNKED}, only_http1=only_http1.VERSION
)
def http10_keep_alive_is_granted_aloud_or_not_at_all(s: Stage, answer: bytes) -> None:
    client = http10(s, "Connection: keep-alive", answer=answer)
    response = client.response()
    assert response.body == b"ok"
    assert not response.has("transfer-encoding")
    granted = "keep-alive" in response.options()
    assert granted or answer is CHUNKED or not s.ours
    if granted:
        assert response.has("content-length")
        client.head("GET /2 HTTP/1.0", "Connection: close")
        s.origin.request().answer(b"two")
        assert client.response().body == b"two"
    assert client.end() == "FIN"


def pipeline(s: Stage, *targets: str) -> Client:
    """Send several GETs in one write."""
    client = s.client()
    client.send(b"".join(f"GET {t} HTTP/1.1\r\nHost: {s.host}\r\n\r\n".encode() for t in targets))
    return client


@rule(44, "RFC 9112 9.3.2")
def pipelined_requests_are_answered_in_order(s: Stage) -> None:
    client = pipeline(s, "/1", "/2", "/3")
    for _ in range(3):
        link = s.origin.request()
        link.answer(link.last.target.encode())
    assert [client.response().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
    assert client.stays_open()


@rule(45, "RFC 9112 9.6", only_http1=only_http1.CONNECTION)
def request_after_close_is_ignored(s: Stage) -> None:
    client = s.client()
    one = f"GET /1 HTTP/1.1\r\nHost: {s.host}\r\nConnection: close\r\n\r\n"
    client.send((one + one.replace("/1", "/2")).encode())
    link = s.origin.request()
    link.answer()
    assert "close" in client.response().options()
    assert client.end() in ("FIN", "RST")
    assert s.origin.hears_nothing(0.01)


@rule(46, "RFC 9112 9.3.2")
def slow_first_answer_keeps_its_place(s: Stage) -> None:
    client = pipeline(s, "/slow", "/fast")
    links = [s.origin.request()]
    with contextlib.suppress(Silence):
        links.append(s.origin.request(0.2))
    if len(links) == 2:  # both at once: the second one is answered first
        links.sort(key=lambda link: link.last.target)
    for link in links:
        link.answer(link.last.target.encode())
    if len(links) == 1:
        assert links[0].last.target == "/slow"
        s.origin.request().answer(b"/fast")
    assert [client.response().body for _ in range(2)] == [b"/slow", b"/fast"]


@rule(47, "HAProxy timeout http-request", group="impatient", only_http1=only_http1.HALF_A_HEAD)
def dripping_head_is_cut_at_the_head_timeout(s: Stage) -> None:
    client = s.client()
    client.send(b"GET /")
    started = time.monotonic()
    while time.monotonic() - started < 2.5 and not client.buffer:
        client.send(b"x")
        if not client.stays_open_or_speaks(0.1):
            break
    assert time.monotonic() - started < 2.0
    if client.buffer:
        assert client.response().status == 408
    assert client.everything() == b""
    assert s.origin.hears_nothing(0.01)


@rule(48, "RFC 9112 9.5", group="impatient")
def idle_client_gets_fin_and_not_a_byte(s: Stage) -> None:
    client = s.client()
    s.exchange(client)
    assert client.end(3) == "FIN"


@rule(48, "RFC 9110 15.5.9", group="impatient")
def client_that_never_speaks_gets_fin_and_not_a_byte(s: Stage) -> None:
    client = s.client()
    answer = client.everything(3)
    assert answer == b"" or not s.ours


@rule(49, "http_keepalive.t", group="counted")
def last_counted_request_is_answered_with_close(s: Stage) -> None:
    client = s.client()
    closes = [client.says_close(s.exchange(client)[0]) for _ in range(3)]
    assert closes == [False, False, True]
    assert client.end() == "FIN"


@rule(50, "http_keepalive.t keepalive_time", group="aged")
def aged_client_link_is_closed_after_its_next_response(s: Stage) -> None:
    client = s.client()
    assert not client.says_close(s.exchange(client)[0])
    time.sleep(0.5)
    assert client.says_close(s.exchange(client)[0])
    assert client.end() == "FIN"


@rule(51, "nginx drain connections", group="few_clients")
def longest_idle_client_makes_room_for_a_new_one(s: Stage) -> None:
    idle = [s.client() for _ in range(3)]
    for client in idle:
        s.exchange(client)
        time.sleep(0.02)
    busy = s.client()
    busy.get("/busy")
    link = s.origin.request()
    newcomer = s.client()
    response, _ = s.exchange(newcomer, body=b"welcome")
    assert response.body == b"welcome"
    assert idle[0].end() == "FIN"
    assert all(client.stays_open() for client in idle[1:])
    link.answer(b"done")
    assert busy.response().body == b"done"


@rule(52, "RFC 9112 9.6; RFC 9110 15.5.14", group="small_bodies")
def refused_upload_reads_the_whole_413(s: Stage) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", f"Content-Length: {10 << 20}")
    client.send(bytes(512 << 10))
    response = client.response("POST")
    assert response.status == 413
    client.send(bytes(128 << 10))
    client.fin()
    assert client.end() == "FIN"
    assert s.origin.hears_nothing(0.01)


@each(53, "RFC 9112 9.6", {"in time": b"x", "in bytes": bytes(65536)}, group="short_linger")
def lingering_close_is_bounded(s: Stage, drop: bytes) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", f"Content-Length: {1 << 30}")
    started = time.monotonic()
    gone = False
    while not gone and time.monotonic() - started < 3:
        gone = not client.still_takes(drop * (50 if len(drop) > 1 else 1))
        time.sleep(0.02)
    assert gone, "an endless sender was read for 3 s"


@each(54, "RFC 9112 9.3", {"unread": b"0", "read": b"1"})
def rest_of_an_unread_body_is_never_a_request(s: Stage, read: bytes) -> None:
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {s.host}\r\n\r\n".encode()
    client = s.client()
    client.head("POST /early HTTP/1.1", f"Content-Length: {len(smuggled) + 10}")
    client.send(b"0123456789")
    link = s.origin.head()
    link.answer(b"early")
    link.leave()
    if read == b"0":
        link.close()
    assert client.response().body == b"early"
    client.send(smuggled + f"GET /next HTTP/1.1\r\nHost: {s.host}\r\n\r\n".encode())
    if read == b"1" and not link.ending:
        link.stays_open_or_speaks(0.1)
        link.close()
    try:
        following = s.origin.request(0.3)
    except Silence:
        client.everything()
    else:
        assert following.last.target == "/next"


def late_request(s: Stage, client: Client) -> None:
    """Send one more request on a link that was idle when the drain began."""
    client.get("/late")
    try:
        s.origin.request(0.5).answer()
        assert client.says_close(client.response())
    except Silence:
        assert client.everything() == b""
    except CutShort:
        assert not client.buffer
    assert client.end() == "FIN"


@rule(55, "http_keepalive_shutdown.t; gcsproxy#62", group="stopping")
def drain_completes_the_exchange_and_says_close(s: Stage) -> None:
    client = s.client()
    client.get("/slow")
    link = s.origin.request()
    s.drain()
    time.sleep(0.3)
    link.answer(b"complete")
    response = client.response()
    assert response.body == b"complete"
    assert client.says_close(response)
    assert client.end() == "FIN"


@rule(55, "http_keepalive_shutdown.t; gcsproxy#62", group="stopping")
def drain_ends_an_idle_client_without_reset(s: Stage) -> None:
    idle, busy = s.client(), s.client()
    s.exchange(idle)
    busy.get("/busy")
    s.origin.request()
    s.drain()
    time.sleep(0.1)
    late_request(s, idle)


@rule(56, "hopproxy drain_timeout", group="stopping")
def drain_waits_for_its_timeout_and_no_longer(s: Stage) -> None:
    client = s.client()
    client.get("/endless")
    link = s.origin.request()
    link.reply("HTTP/1.1 200 OK", "Content-Length: 1000000")
    link.send(b"begun")
    client.begun()
    client.read_until(b"begun")
    started = time.monotonic()
    s.drain()
    client.everything(6)
    assert 1.0 < time.monotonic() - started < 4.0


@rule(56, "hopproxy second signal", group="stopping")
def second_signal_ends_at_once(s: Stage) -> None:
    client = s.client()
    client.get("/endless")
    s.origin.request()
    s.drain()
    time.sleep(0.2)
    started = time.monotonic()
    s.stop_now()
    client.everything(6)
    assert time.monotonic() - started < 1.0


@rule(57, "RFC 9112 2.2", only_http1=only_http1.FIRST_BYTES)
def line_end_before_a_request_is_ignored(s: Stage) -> None:
    client = s.client()
    client.send(b"\r\n")
    response, _ = s.exchange(client)
    assert response.status == 200


@rule(58, "RFC 9112 3", only_http1=only_http1.FIRST_BYTES)
def tls_hello_on_the_plain_port_is_ended_quickly(s: Stage) -> None:
    client = s.client()
    client.send(CLIENT_HELLO)
    answer = client.everything(2)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ") or not s.ours

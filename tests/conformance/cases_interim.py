"""Rules 83-98: interim responses, Expect, Upgrade and CONNECT."""

from __future__ import annotations

import base64
import hashlib
import time

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.origin import OriginLink
from tests.conformance.strict import Message
from tests.conformance.wire import Client, Silence

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def switch(asked: Message) -> tuple[str, ...]:
    """Return the lines of the answer that opens the tunnel that was asked for (RFC 6455 4.2.2)."""
    key = asked.value("sec-websocket-key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Accept: {accepted}",
    )


@rule(83, "RFC 9110 15.2 MUST")
def early_hints_reach_the_client_without_fields_of_the_hop(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.reply(
        "HTTP/1.1 103 Early Hints",
        "Link: </a.css>",
        "Connection: X-Hop",
        "X-Hop: 1",
        "Keep-Alive: 1",
    )
    hints = client.next_response()
    assert hints.status == 103
    assert hints.values("link") == ["</a.css>"]
    assert not hints.has("x-hop")
    assert not hints.has("keep-alive")
    link.answer(b"final")
    assert client.next_response().body == b"final"


@each(
    84,
    "RFC 9110 15.2",
    {"100": b"100 Continue", "103": b"103 Early Hints"},
    only_http1=only_http1.VERSION,
)
def http10_client_gets_no_interim_response(s: Stage, status: bytes) -> None:
    client = s.client()
    client.head("GET / HTTP/1.0")
    link = s.origin.request()
    link.reply(f"HTTP/1.1 {status.decode()}")
    link.answer(b"final")
    assert client.next_response().body == b"final"


@each(85, "Go httputil, 5", {"100": b"100 Continue", "103": b"103 Early Hints"})
def endless_interim_responses_are_cut(s: Stage, status: bytes) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(b"HTTP/1.1 %s\r\n\r\n" % status * 1000)
    s.bad_gateway(client)
    assert len(client.interim) < 100
    assert link.end() in ("FIN", "RST")


@rule(85, "hopproxy max_interim")
def a_few_interim_responses_pass(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 8)
    link.answer(b"final")
    assert client.response().body == b"final"
    assert len(client.interim) == 8


@rule(86, "proxy_early_hints.t")
def hints_without_a_final_response_are_502(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.reply("HTTP/1.1 103 Early Hints", "Link: </a.css>")
    link.fin()
    s.bad_gateway(client)


def expectant(s: Stage, *fields: str) -> Client:
    """Send the head of a POST whose body waits for 100."""
    client = s.client()
    client.head("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 4", *fields)
    return client


@rule(87, "RFC 9110 10.1.1 MUST")
def held_back_body_is_called_for(s: Stage) -> None:
    client = expectant(s)
    link = s.origin.head()
    link.reply("HTTP/1.1 100 Continue")
    assert client.next_response(within=1.0).status == 100
    client.send(b"body")
    assert link.read_body().body == b"body"
    link.answer(b"done")
    assert client.response().body == b"done"
    assert client.stays_open()


@rule(88, "RFC 9110 10.1.1")
def final_answer_instead_of_100_leaves_the_body_unsent(s: Stage) -> None:
    client = expectant(s)
    link = s.origin.head()
    link.answer(b"no", status="401 Unauthorized")
    link.leave()
    assert client.response().status == 401
    assert not client.interim, "the body was called for"
    other = s.client()
    other.get("/next")
    fresh = s.origin.request()
    assert fresh is not link
    fresh.answer(b"clean")
    assert other.response().body == b"clean"


@rule(89, "RFC 9110 10.1.1")
def unknown_expectation_is_417_or_the_origins_to_judge(s: Stage) -> None:
    client = s.client()
    client.get("/", "Expect: foo")
    if s.origin.answers_first(client):
        assert client.response().status == 417
    else:
        link = s.origin.request()
        assert link.last.values("expect") == ["foo"]
        link.answer()
        assert client.response().status == 200


@each(89, "RFC 9110 5.6.1, 10.1.1", {"empty": b"", "an empty list": b","})
def empty_expectation_is_none(s: Stage, value: bytes) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", f"Expect: {value.decode()}", "Content-Length: 4")
    client.send(b"body")
    if not s.ours and s.origin.answers_first(client):
        s.refused(client, 417, closes=False)
        return
    link = s.origin.request()
    assert link.last.body == b"body"
    assert not s.ours or not link.last.has("expect")
    link.answer()
    assert client.response().status == 200


@rule(89, "RFC 9110 10.1.1", only_http1=only_http1.VERSION)
def expectation_of_http10_is_ignored(s: Stage) -> None:
    client = s.client()
    client.head("POST / HTTP/1.0", "Expect: 100-continue", "Content-Length: 4")
    client.send(b"body")
    link = s.origin.request()
    assert link.last.body == b"body"
    link.answer(b"done")
    assert client.next_response().body == b"done"


@rule(90, "Go ExpectContinueTimeout", group="impatient")
def origin_that_never_says_100_gets_the_body_all_the_same(s: Stage) -> None:
    client = expectant(s)
    link = s.origin.head()
    assert client.next_response(within=1.5).status == 100
    client.send(b"body")
    assert link.read_body().body == b"body"
    link.answer(b"done")
    assert client.next_response().body == b"done"


@rule(91, "RFC 9110 7.8")
def unasked_101_is_502(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.reply("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")
    s.bad_gateway(client)
    assert link.end() in ("FIN", "RST")


@rule(92, "Go handleUpgradeResponse")
def switch_to_another_protocol_is_502(s: Stage) -> None:
    client = s.client()
    client.get("/", *WEBSOCKET)
    s.origin.request().reply(
        "HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: other"
    )
    s.bad_gateway(client)


@rule(93, "CVE-2026-2833", only_http1=only_http1.UPGRADE)
def bytes_before_a_refused_upgrade_are_read_as_http(s: Stage) -> None:
    early = f"GET /early HTTP/1.1\r\nHost: {s.host}\r\nConnection: X-Mark\r\nX-Mark: 1\r\n\r\n"
    client = s.client()
    lines = ("GET / HTTP/1.1", f"Host: {s.host}", *WEBSOCKET, "", "")
    client.send(("\r\n".join(lines) + early).encode())
    s.origin.request().answer(b"not switched")
    assert client.response().body == b"not switched"
    try:
        link = s.origin.request(0.3)
    except Silence:
        assert client.everything()[:12] in (b"", b"HTTP/1.1 400")
    else:
        assert link.last.target == "/early"
        assert not link.last.has("x-mark"), "passed on blindly"
        link.answer()
        assert client.response().status == 200


@rule(94, "CVE-2026-58055; RFC 9110 7.8", only_http1=only_http1.UPGRADE)
def upgrade_with_a_body_is_one_plain_request(s: Stage) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nX: y\r\n"
    client = s.client()
    client.post("/", body, *WEBSOCKET)
    if s.origin.answers_first(client):
        assert client.response().status in (400, 501)
        return
    link = s.origin.request()
    assert link.last.body == body
    link.answer()
    assert client.response().status == 200
    assert s.origin.hears_nothing()


@rule(95, "RFC 9110 7.8 MUST", only_http1=only_http1.VERSION)
def upgrade_of_http10_is_ignored(s: Stage) -> None:
    seen = s.seen_upstream(*WEBSOCKET, start="GET / HTTP/1.0")
    assert not seen.has("upgrade")
    assert "upgrade" not in seen.options()


def switched(s: Stage) -> tuple[Client, OriginLink]:
    """Open a WebSocket tunnel."""
    client = s.client()
    client.get("/", *WEBSOCKET)
    link = s.origin.request()
    assert link.last.options("upgrade") == ["websocket"]
    assert "upgrade" in link.last.options()
    link.reply(*switch(link.last))
    assert client.is_switched(client.next_response())
    return client, link


@rule(96, "RFC 6455", group="impatient")
def tunnel_outlives_the_response_timeout_and_ends_on_both_sides(s: Stage) -> None:
    client, link = switched(s)
    for _ in range(2):
        time.sleep(0.7)
        client.send(b"ping")
        link.deadline = time.monotonic() + 4
        assert link.read_exactly(4) == b"ping"
        link.send(b"pong")
        client.deadline = time.monotonic() + 4
        assert client.read_exactly(4) == b"pong"
    assert client.end() in ("FIN", "RST")
    assert link.end(0.5) in ("FIN", "RST")


@each(96, "RFC 6455", {"to the client": b"down", "to the origin": b"up"})
def tunnel_carries_much_and_holds_back_more(s: Stage, way: bytes) -> None:
    client, link = switched(s)
    writer, reader = (link, client) if way == b"down" else (client, link)
    sent = writer.send_until_stuck(limit=96 << 20)
    assert sent < 96 << 20, "nothing held the sender back"
    writer.fin()
    assert len(reader.everything(20)) == sent


@rule(96, "RFC 9112 9.8")
def half_closed_tunnel_still_carries_the_other_way(s: Stage) -> None:
    client, link = switched(s)
    client.send(b"last words")
    client.fin()
    assert link.everything() == b"last words"
    link.send(b"answer")
    link.fin()
    assert client.everything() == b"answer"


@rule(97, "proxy_upgrade.t")
def bytes_right_behind_an_upgrade_reach_the_origin(s: Stage) -> None:
    client = s.client()
    lines = ("GET / HTTP/1.1", f"Host: {s.host}", *WEBSOCKET, "", "early")
    client.send("\r\n".join(lines).encode())
    link = s.origin.head()
    link.reply(*switch(link.last))
    assert client.is_switched(client.next_response())
    link.deadline = time.monotonic() + 4
    assert link.read_exactly(5) == b"early"


@rule(97, "proxy_upgrade.t")
def bytes_right_behind_a_101_reach_the_client(s: Stage) -> None:
    client = s.client()
    client.get("/", *WEBSOCKET)
    link = s.origin.request()
    link.send("\r\n".join((*switch(link.last), "", "early")).encode())
    assert client.is_switched(client.next_response())
    assert client.read_exactly(5) == b"early"


@rule(98, "draft-ietf-httpbis-optimistic-upgrade; nginx d798231b5")
def connect_is_refused_and_closed(s: Stage) -> None:
    s.sent_and_refused(
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 405, 501
    )

"""Rules 23-38: aborted exchanges, the bounds of the pool, idle time, age and privacy of a link."""

from __future__ import annotations

import signal
import time

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule, until
from tests.conformance.cases_interim import switched
from tests.conformance.cases_pool import pooled, serves_on_another, serves_on_same, settle


@rule(23, "nginx request_body_sent; Go TestTransportNoReuseAfterEarlyResponse")
def early_answer_reaches_the_client_and_ends_the_upstream_socket(s: Stage) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", f"Content-Length: {1 << 20}")
    client.send(b"a part")
    link = s.origin.head()
    link.answer(b"too much", status="413 Content Too Large")
    link.leave()
    response = client.response()
    assert (response.status, response.body) == (413, b"too much")
    client.close()
    serves_on_another(s, link)


@rule(24, "RFC 9112 9.5")
def client_abort_in_a_response_ends_the_upstream_socket(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    link.reply("HTTP/1.1 200 OK", "Content-Length: 1000000")
    link.send(bytes(1000))
    client.begun()
    client.reset()
    for _ in range(20):
        link.send(bytes(1000))
        if not link.stays_open(0.05):
            break
    assert link.ending, "the upstream socket stayed open"
    serves_on_another(s, link)


@rule(25, "RFC 9112 8", only_http1=only_http1.HALF_A_HEAD)
def client_abort_in_its_head_reaches_no_origin(s: Stage) -> None:
    _, link = pooled(s)
    other = s.client()
    other.send(f"GET /half HTTP/1.1\r\nHost: {s.host}\r\n".encode())
    settle()
    other.close()
    assert s.origin.hears_nothing()
    serves_on_same(s, link)


@rule(26, "nginx keepalive", group="two_idle")
def idle_sockets_past_the_bound_are_closed(s: Stage) -> None:
    clients = [s.client() for _ in range(7)]
    for client in clients:
        client.get()
    links = [s.origin.request() for _ in clients]
    assert len({link.number for link in links}) == 7
    for link in links:
        link.answer()
    for client in clients:
        client.response()
    assert until(lambda: len(s.origin.open_links()) <= 2)
    assert not s.ours or all(link.ending in ("", "FIN") for link in links)


@rule(27, "HAProxy maxconn", group="pool_of_two")
def freed_socket_goes_to_the_longest_waiter(s: Stage) -> None:
    clients = [s.client() for _ in range(4)]
    links = []
    for number, client in enumerate(clients):
        client.get(f"/{number}")
        links += [s.origin.request()] if number < 2 else []
        settle()
    assert s.origin.hears_nothing()
    for turn in (2, 3):
        links[turn - 2].answer()
        assert clients[turn - 2].response().status == 200
        link = s.origin.request()
        assert link.last.target == f"/{turn}"
        links.append(link)
    assert len(s.origin.links) == 2
    for turn in (2, 3):
        links[turn].answer()
        assert clients[turn].response().status == 200


@rule(27, "HAProxy timeout queue", group="pool_of_two")
def waiting_past_the_queue_timeout_is_503(s: Stage) -> None:
    busy = [s.client(), s.client()]
    for client in busy:
        client.get("/busy")
        s.origin.request()
    waiter = s.client()
    waiter.get("/late")
    response = waiter.response(within=3)
    assert response.status == 503
    assert response.has("retry-after") or not s.ours
    assert s.origin.hears_nothing()


@rule(28, "HAProxy queue", group="pool_of_two")
def waiter_whose_client_left_is_dropped(s: Stage) -> None:
    busy = [s.client(), s.client()]
    for client in busy:
        client.get("/busy")
    links = [s.origin.request() for _ in busy]
    gone, stays = s.client(), s.client()
    gone.get("/gone")
    settle()
    stays.get("/stays")
    settle()
    gone.reset()
    settle()
    links[0].answer()
    link = s.origin.request()
    assert link.last.target == "/stays"
    link.answer(b"yours")
    assert stays.response().body == b"yours"
    assert s.origin.hears_nothing()


@rule(29, "upstream_keepalive.t", group="short_idle")
def idle_socket_is_reused_before_and_closed_after_its_timeout(s: Stage) -> None:
    _, link = pooled(s)
    time.sleep(0.5)
    serves_on_same(s, link)
    settle()
    assert link.end(4) == "FIN"
    serves_on_another(s, link)


@rule(30, "upstream_keepalive.t", group="counted")
def socket_is_retired_after_its_last_request(s: Stage) -> None:
    _, link = pooled(s)
    serves_on_same(s, link)
    assert link.end() == "FIN"
    serves_on_another(s, link)


@rule(30, "upstream_keepalive.t", group="aged")
def age_retires_a_socket_and_cuts_no_exchange(s: Stage) -> None:
    client = s.client()
    client.get()
    link = s.origin.request()
    time.sleep(0.6)
    link.answer(b"late")
    assert client.response().body == b"late"
    settle()
    serves_on_another(s, link)
    assert link.end() == "FIN"


@rule(31, "Go Round(0)", group="short_idle")
def no_old_socket_is_used_after_sleep(s: Stage) -> None:
    _, link = pooled(s)
    other = s.client()
    settle()
    s.signal(signal.SIGSTOP)
    time.sleep(2.2)
    other.get("/awake")
    s.signal(signal.SIGCONT)
    awake = s.origin.request()
    assert awake is not link
    awake.answer(b"awake")
    assert other.response().body == b"awake"


@each(
    34,
    "RFC 9110 3.3; http-ntlm.vtc",
    {"NTLM": b"NTLM", "Negotiate": b"Negotiate"},
    only_http1=only_http1.NTLM,
)
def connection_based_authentication_makes_a_socket_private(s: Stage, scheme: bytes) -> None:
    client = s.client()
    client.get("/", f"Authorization: {scheme.decode()} abc")
    link = s.origin.request()
    link.answer(b"", f"WWW-Authenticate: {scheme.decode()} def", status="401 Unauthorized")
    assert client.response().status == 401
    settle()
    serves_on_another(s, link)
    client.get("/mine", f"Authorization: {scheme.decode()} ghi")
    mine = s.origin.request()
    assert mine is link, "the private socket was not kept for its client"
    mine.answer(b"in")
    assert client.response().body == b"in"


@rule(35, "RFC 9110 7.8; traefik#13556")
def upgraded_socket_never_returns_to_the_pool(s: Stage) -> None:
    client, link = switched(s)
    client.close()
    assert link.end() in ("FIN", "RST")
    serves_on_another(s, link)


@rule(36, "HTTP.jl#1358")
def keep_alive_timeout_hint_is_respected(s: Stage) -> None:
    _, link = pooled(s, "Keep-Alive: timeout=2")
    time.sleep(0.3)
    serves_on_same(s, link)
    time.sleep(1.4 if s.ours else 2.1)
    serves_on_another(s, link)


@each(36, "dusty#178", {"timeout 1": b"timeout=1", "timeout 0": b"timeout=0"})
def keep_alive_hint_too_short_to_use_prevents_pooling(s: Stage, hint: bytes) -> None:
    _, link = pooled(s, f"Keep-Alive: {hint.decode()}")
    serves_on_another(s, link)


@rule(36, "HTTP.jl#1358")
def keep_alive_max_hint_is_respected(s: Stage) -> None:
    client, link = pooled(s, "Keep-Alive: timeout=60, max=3")
    numbers = []
    for _ in range(4):
        settle()
        numbers.append(s.exchange(client)[1])
    assert numbers[0] == link.number
    assert numbers.count(link.number) <= 3


@rule(37, "envoy#42753", group="no_reuse_past_now")
def idle_timeout_does_not_end_a_connecting_socket(s: Stage) -> None:
    filler = s.origin.stall()
    client = s.client()
    client.get()
    time.sleep(0.5)
    s.origin.resume(filler)
    s.origin.request().answer(b"connected")
    assert client.response().body == b"connected"


@rule(38, "aiohttp#12953", group="impatient")
def response_timeout_does_not_fire_on_an_idle_socket(s: Stage) -> None:
    _, link = pooled(s)
    time.sleep(0.7)
    serves_on_same(s, link)

"""Rules 12-19: what may be sent a second time, and what never."""

from __future__ import annotations

import time

from tests.conformance.case import SERVER_ERRORS, Stage, each, in_background, rule
from tests.conformance.cases_pool import pooled
from tests.conformance.origin import OriginLink
from tests.conformance.wire import Client, CutShort

UNSAFE = ("POST", "PATCH", "LOCK")


def dies_on_reuse(s: Stage, method: str, *fields: str) -> tuple[Client, OriginLink]:
    """Let a reused link take a request and close without a byte."""
    client, link = pooled(s)
    client.head(f"{method} /once HTTP/1.1", *fields)
    if fields:
        client.send(b"body")
    again = s.origin.request()
    assert again is link, "the pooled socket was not reused"
    link.close()
    return client, link


@rule(12, "RFC 9110 9.2.2; b00097.vtc")
def get_on_a_dying_reused_socket_is_retried_once(s: Stage) -> None:
    client, _ = dies_on_reuse(s, "GET")
    second = s.origin.request()
    assert second.last.target == "/once"
    second.answer(b"saved")
    assert client.response().body == b"saved"


@each(13, "RFC 9110 9.2.2 MUST NOT; proxy_non_idempotent.t", {m: m.encode() for m in UNSAFE})
def post_on_a_dying_reused_socket_is_sent_once(s: Stage, method: bytes) -> None:
    client, _ = dies_on_reuse(s, method.decode(), "Content-Length: 4")
    s.bad_gateway(client)
    assert s.origin.hears_nothing()


@rule(14, "Go shouldRetryRequest")
def fresh_socket_that_dies_is_not_retried(s: Stage) -> None:
    client = s.client()
    client.get()
    s.origin.request().close()
    s.bad_gateway(client)
    assert s.origin.hears_nothing()


@each(
    15,
    "r01156.vtc",
    {"a part of the status": b"HTTP", "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n"},
)
def one_response_byte_forbids_a_retry(s: Stage, data: bytes) -> None:
    client, link = pooled(s)
    client.get("/once")
    assert s.origin.request() is link
    link.send(data)
    link.close()
    s.bad_gateway(client)
    assert s.origin.hears_nothing()


@rule(16, "RFC 9110 9.2.2 SHOULD NOT")
def a_retry_is_not_retried(s: Stage) -> None:
    client, _ = dies_on_reuse(s, "GET")
    s.origin.request().close()
    s.bad_gateway(client)
    assert s.origin.hears_nothing()


@rule(17, "RFC 9110 9.2.2")
def streamed_put_is_never_replayed_in_part(s: Stage) -> None:
    client, _ = pooled(s)
    client.head("PUT /big HTTP/1.1", f"Content-Length: {10 << 20}")
    upload = in_background(lambda: client.send_until_stuck(2 << 20))
    again = s.origin.head()
    again.deadline = time.monotonic() + 4
    again.read_exactly(100_000)
    again.reset()
    upload.join(5)
    try:
        s.bad_gateway(client)
    except CutShort:
        assert not s.ours, "no 502"
    assert s.origin.hears_nothing()


@rule(18, "Go nothingWrittenError")
def post_takes_a_new_socket_when_the_idle_one_is_dead(s: Stage) -> None:
    client, link = pooled(s)
    link.close()
    client.post("/once", b"body")
    try:
        second = s.origin.request(1.0)
    except AssertionError:
        assert not s.ours, "a dead idle socket cost a POST"
        assert client.response().status in SERVER_ERRORS
        return
    assert second.last.body == b"body"
    second.answer(b"created")
    assert client.response().body == b"created"
    assert s.origin.hears_nothing()


@rule(19, "go#19943")
def idempotency_key_does_not_widen_retries_by_itself(s: Stage) -> None:
    client, _ = dies_on_reuse(s, "POST", "Content-Length: 4", "Idempotency-Key: x")
    s.bad_gateway(client)
    assert s.origin.hears_nothing()


@rule(19, "go#19943", group="idempotency_key")
def idempotency_key_allows_a_retry_when_configured(s: Stage) -> None:
    client, _ = dies_on_reuse(s, "POST", "Content-Length: 4", "Idempotency-Key: x")
    second = s.origin.request()
    assert second.last.body == b"body"
    second.answer(b"saved")
    assert client.response().body == b"saved"

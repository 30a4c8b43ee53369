"""What `hopproxy explain` says is what both wires show, byte for byte."""

from __future__ import annotations

import time

import pytest

from hopproxy.explain.decide import Case
from hopproxy.proxy.terms import Terms
from hopproxy.reasons import Hop
from hopproxy.settings.route import FieldEdits, Respond, Route
from tests.links.explained_cases import UNIX, Asked
from tests.wire_pair import Hops

NOW = 1_000_000_000.0
APP = Route(upstream="app")
RULES = FieldEdits(
    set={"X-Set": "{client}-{host}"}, add={"X-Add": ("1", "2")}, remove=("X-Gone", "Server")
)
EDITED = Route(upstream="app", path="/api", strip="/api", request_fields=RULES,
               response_fields=RULES)  # fmt: skip


def ask(*lines: str, start: str = "GET /a?b=c HTTP/1.1", host: str = "a.example", body: str = "",
        ) -> bytes:  # fmt: skip
    named = [f"Host: {host}"] if host else []
    return ("\r\n".join([start, *named, *lines, "", ""]) + body).encode()


def reply(
    *lines: str, start: str = "HTTP/1.1 200 OK", body: str = "ok", sized: bool = True
) -> bytes:
    length = [f"Content-Length: {len(body)}"] if sized else []
    return ("\r\n".join([start, *lines, *length, "", ""]) + body).encode()


OK = reply()
CASES = [
    Asked("plain", ask(), OK),
    Asked("fields of one hop", ask("Connection: X-A, close", "X-A: 1", "Keep-Alive: timeout=5",
                                   "TE: trailers, gzip", "Proxy-Authorization: x"), OK),
    Asked("forged forwarding fields", ask("X-Forwarded-For: 1.2.3.4", "Forwarded: for=x",
                                          "X-Real-IP: 1.1.1.1", "X_Forwarded_For: 1"), OK),
    Asked("a trusted proxy", ask("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https",
                                 "Via: 1.0 front"), OK, settings={"trusted_proxies": UNIX}),
    Asked("HTTP/1.0", ask(start="GET /a HTTP/1.0", host=""), OK),
    Asked("HTTP/1.0 that persists", ask("Connection: keep-alive", start="GET /a HTTP/1.0"), OK),
    Asked("HTTP/1.0 and no length", ask("Connection: keep-alive", start="GET /a HTTP/1.0"),
          reply(sized=False)),
    Asked("absolute form", ask(start="GET http://a.example?x HTTP/1.1"), OK),
    Asked("a sized body", ask("Content-Length: 2", start="POST / HTTP/1.1", body="hi"), OK),
    Asked("an odd length", ask("Content-Length: 002", start="POST / HTTP/1.1", body="hi"), OK),
    Asked("a chunked body", ask("Transfer-Encoding: chunked", start="PUT / HTTP/1.1",
                                body="2\r\nhi\r\n0\r\n\r\n"), OK),
    Asked("a collected body",
          ask("Transfer-Encoding: chunked", "Trailer: X-T", start="POST / HTTP/1.1",
              body="2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"), OK, upstream={"buffer_request": 2}),
    Asked("an empty expectation", ask("Expect:", "Content-Length: 2", start="POST / HTTP/1.1",
                                      body="hi"), OK),
    Asked("OPTIONS counted down", ask("Max-Forwards: 3", start="OPTIONS * HTTP/1.1"), OK),
    Asked("OPTIONS for us", ask("Max-Forwards: 0", start="OPTIONS * HTTP/1.1")),
    Asked("TRACE", ask(start="TRACE / HTTP/1.1")),
    Asked("CONNECT", ask(start="CONNECT a:443 HTTP/1.1")),
    Asked("no Host", ask(host="")),
    Asked("two framings", ask("Content-Length: 1", "Transfer-Encoding: chunked",
                              start="POST / HTTP/1.1")),
    Asked("Connection names Host", ask("Connection: Host")),
    Asked("a large head", ask("X: " + "y" * 600), client={"max_head_size": 512}),
    Asked("a large body", ask("Content-Length: 9", start="POST / HTTP/1.1", body="123456789"),
          client={"max_body_size": 8}),
    Asked("no route", ask(), routes=(Route(upstream="app", host=("b.example",)),)),
    Asked("rules both ways", ask("X-Gone: 1", "x-set: 0", "X_Set: 0", "X-Add: 0",
                                 "Connection: X-Set", start="GET /api/x HTTP/1.1"),
          reply("Server: x", "X-Set: 0", "Date: then"), routes=(EDITED, APP)),
    Asked("a location", ask(start="GET /api/x HTTP/1.1"),
          reply("Location: http://localhost/y", "Set-Cookie: a; Path=/"),
          routes=(Route(upstream="app", path="/api", strip="/api", locations="all"), APP)),
    Asked("another host", ask(), reply("Location: http://app.test/y"),
          upstream={"host": "app.test"}),
    Asked("an id", ask("X-Request-ID: forged"), OK,
          settings={"request_id": ("x-request-id", "traceparent")}),
    Asked("redirect", ask("Connection: close"), routes=(Route(redirect="https"),)),
    Asked("redirect over https", ask("X-Forwarded-Proto: https"), OK,
          routes=(Route(redirect="https"), APP), settings={"trusted_proxies": UNIX}),
    Asked("HEAD of a fixed answer", ask(start="HEAD / HTTP/1.1"),
          routes=(Route(respond=Respond(body="x"), response_fields=RULES),)),
    Asked("a fixed answer to a body", ask("Content-Length: 2", start="POST / HTTP/1.1", body="hi"),
          routes=(Route(respond=Respond(status=403)),)),
    Asked("a response of one hop", ask(), reply("Connection: X-A", "X-A: 1", "Keep-Alive: max=0",
                                                "Via: 1.1 b")),
    Asked("a response that closes", ask(), reply("Connection: close", "Date: then")),
    Asked("an HTTP/1.0 response", ask(), reply(start="HTTP/1.0 200 OK")),
    Asked("a response without length", ask(), reply(sized=False)),
    Asked("a chunked response", ask(),
          reply("Transfer-Encoding: chunked", body="2\r\nok\r\n0\r\n\r\n", sized=False)),
    Asked("an ambiguous response", ask(), reply("Transfer-Encoding: chunked")),
    Asked("HEAD", ask(start="HEAD / HTTP/1.1"), reply(body="")),
    Asked("interim responses", ask(),
          b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X\r\nX: 1\r\n\r\n" + OK),
    Asked("204 with a length", ask(), reply(start="HTTP/1.1 204 No Content", body="")),
    Asked("an upgrade", ask("Connection: Upgrade", "Upgrade: websocket, h2c"),
          reply("Connection: Upgrade", "Upgrade: websocket",
                start="HTTP/1.1 101 Switching Protocols", body="", sized=False)),
    Asked("an upgrade that is declined",
          ask("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2", body="hi"), OK),
    Asked("via in requests alone", ask(), OK, settings={"via": "request"}),
    Asked("one family of forwarding", ask(), OK, settings={"forwarding": ("forwarded",)}),
]  # fmt: skip


def test_there_are_more_than_thirty() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_wires_show_what_was_explained(
    hops: Hops, case: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agree(hops, case, monkeypatch)


async def agree(hops: Hops, case: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explain a case, run it, and compare."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(Terms, "fresh_id", staticmethod(lambda digits: b"7" * digits))
    await hops.start(
        routes=case.routes, upstream=case.upstream, client=case.client, **case.settings
    )
    told = Case(
        hops.runtime.settings, case.request, case.response, peer="",
        fresh=lambda digits: b"7" * digits, now=lambda: NOW,
    ).explain()  # fmt: skip
    client = await hops.client()
    await client.send(case.request)
    if told.to_origin is not None:
        upstream = await hops.origins[0].accept()
        assert (await upstream.until(b"\r\n\r\n")).decode("latin-1") == told.to_origin.head
        await hops.quiet()
        await upstream.send(case.response)
        closes = told.upstream_link is not None and told.upstream_link.reason == "close_delimited"
        if closes:
            upstream.finish()
    for message in told.to_client:
        assert (await client.until(b"\r\n\r\n")).decode("latin-1") == message.head
    await hops.quiet()
    if told.body:
        assert (await client.exactly(len(told.body))).decode() == told.body
    tunnel = told.client_link.reason == "tunnel_ended"
    if not told.client_link.persists:
        client.close()  # otherwise a closing link lingers
        await hops.quiet()
    if tunnel:
        upstream.close()
        await hops.quiet()
    for hop, link in ((Hop.CLIENT, told.client_link), (Hop.UPSTREAM, told.upstream_link)):
        if link is not None and not tunnel:
            assert [reason.label for reason in hops.closes(hop)] == [link.reason] * (
                not link.persists
            )
    assert {record.cause for record in hops.records.kept} == {told.cause}

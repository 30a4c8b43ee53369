"""What routes change on the wire: paths, hosts, fields, redirects, answers, limits and ids."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

from hopproxy.settings.networks import parse_network
from hopproxy.settings.route import FieldEdits, Respond, Route
from tests.raw_peers import GET, OK, Message
from tests.wire_pair import Hops

UNIX = (parse_network("unix"),)


def edits(**rules: Any) -> FieldEdits:
    return FieldEdits(**rules)


async def start(hops: Hops, *routes: Route, **settings: Any) -> None:
    await hops.start(routes=routes, **settings)


async def carried(
    hops: Hops, request: bytes, response: bytes = OK, origin: int = 0
) -> tuple[Message, Message]:
    """What the origin saw of this request, and the client of this response."""
    client = await hops.client()
    await client.send(request)
    upstream = await hops.origins[origin].accept()
    seen = await upstream.message(bodiless=False)
    await upstream.send(response)
    answer = await client.message(bodiless=request.startswith(b"HEAD"))
    client.close()
    upstream.close()
    await hops.quiet()
    return seen, answer


async def answered(hops: Hops, request: bytes) -> Message:
    """What the client gets without any origin."""
    client = await hops.client()
    await client.send(request)
    answer = await client.message(bodiless=request.startswith(b"HEAD"))
    client.close()
    return answer


def request(*lines: bytes, start: bytes = b"GET /api/x?q=1 HTTP/1.1", host: bytes = b"a") -> bytes:
    return b"\r\n".join([start, b"Host: " + host, *lines, b"", b""])


def reply(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, b"Date: x", *lines, b"Content-Length: 2", b"", b"ok"]
    return b"\r\n".join(head)


@pytest.mark.parametrize(
    ("strip", "target", "seen"),
    [
        ("/api", b"/api/x?q=1", b"/x?q=1"),
        ("/api", b"/api", b"/"),
        ("/api", b"/api?q=/api", b"/?q=/api"),
        ("/api/", b"/api/%2Fx//y;z", b"/%2Fx//y;z"),
        ("/api/v1", b"/api/v1/api/v1", b"/api/v1"),
    ],
)
async def test_a_prefix_is_taken_off_the_path(
    hops: Hops, strip: str, target: bytes, seen: bytes
) -> None:
    await start(hops, Route(upstream="app", path="/api", strip=strip))
    for start_line in (b"GET %b HTTP/1.1", b"GET %b HTTP/1.0", b"GET http://a%b HTTP/1.1"):
        told, _ = await carried(hops, request(start=start_line % target))
        assert told.start == b"GET " + seen + b" HTTP/1.1"
        assert told.values(b"host") == [b"a"]
    assert {record.target for record in hops.records.kept} == {target}


async def test_fields_are_set_added_and_removed_both_ways(hops: Hops) -> None:
    rules = edits(set={"X-Env": "prod"}, add={"X-Tag": ("a", "b")}, remove=("X-Debug",))
    await start(hops, Route(upstream="app", request_fields=rules, response_fields=rules))
    lines = (b"x-env: dev", b"X-Debug: 1", b"X-Tag: 0", b"X-DEBUG: 2", b"X-Other: 1")
    for _ in range(40):  # more than it takes to remember a head
        seen, answer = await carried(hops, request(*lines), reply(*lines))
        for message in (seen, answer):
            assert message.values(b"x-env") == [b"prod"]
            assert message.values(b"x-tag") == [b"0", b"a", b"b"]
            assert message.values(b"x-debug") == []
            assert message.values(b"x-other") == [b"1"]


async def test_a_peer_cannot_remove_or_imitate_a_field_that_a_rule_sets(hops: Hops) -> None:
    rules = edits(set={"X-User": "us"})
    await start(hops, Route(upstream="app", request_fields=rules, response_fields=rules))
    lines = (b"Connection: X-User", b"X-User: peer", b"X_User: peer", b"x_user: peer")
    seen, answer = await carried(hops, request(*lines), reply(*lines))
    assert seen.values(b"x-user") == answer.values(b"x-user") == [b"us"]
    assert seen.values(b"x_user") == []
    assert answer.values(b"x_user") == [b"peer", b"peer"]  # only origins imitate by underscores


async def test_variables_are_filled_in_and_cannot_end_a_line(hops: Hops) -> None:
    value = "{method} {scheme} {authority} {host} {path} {query} {client} {{x}} {"
    rules = edits(set={"X-All": value, "X-Real-IP": "{client}"})
    await start(hops, Route(upstream="app", request_fields=rules), trusted_proxies=UNIX)
    seen, _ = await carried(
        hops,
        request(
            b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"X-Real-IP: 6.6.6.6",
            host=b"a.example:81",
        ),
    )  # fmt: skip
    assert seen.values(b"x-all") == [b"GET https a.example:81 a.example /api/x ?q=1 1.2.3.4 {x} {"]
    assert seen.values(b"x-real-ip") == [b"1.2.3.4"]
    for target in (b"/%0d%0aX-Evil:1", b"/x\x0bX-Evil:1"):
        client = await hops.client()
        await client.send(request(start=b"GET " + target + b" HTTP/1.1"))
        if b"%" in target:
            upstream = await hops.origins[0].accept()
            assert (await upstream.message()).values(b"x-evil") == []
        else:
            assert (await client.message()).status == 400
        client.close()


@pytest.mark.parametrize("host", ["pass", "origin", "app.example:81"])
async def test_the_host_that_an_origin_sees(tcp_hops: Hops, host: str) -> None:
    await start(tcp_hops, Route(upstream="app"), upstream={"host": host})
    own = b"127.0.0.1:%d" % tcp_hops.origins[0].address.port
    expected = {"pass": b"a.example", "origin": own}.get(host, host.encode())
    for start_line in (b"GET / HTTP/1.1", b"GET / HTTP/1.0"):
        told = request(b"X: y", start=start_line, host=b"a.example")
        seen, _ = await carried(tcp_hops, told)
        assert seen.values(b"host") == [expected]
        assert seen.values(b"x-forwarded-host") == [b"a.example"]
    seen, _ = await carried(tcp_hops, b"GET / HTTP/1.0\r\n\r\n")
    assert seen.values(b"host") == [own if host == "pass" else expected]


async def test_each_origin_sees_its_own_host_also_after_a_retry(tcp_hops: Hops) -> None:
    tcp_hops.add_origin()
    tcp_hops.add_origin()
    await start(tcp_hops, Route(upstream="app"), upstream={"host": "origin"})
    client = await tcp_hops.client()
    hosts = []
    for origin in tcp_hops.origins:
        await client.send(GET)
        upstream = await origin.accept()
        hosts += (await upstream.message()).values(b"host")
        await upstream.send(OK)
        await client.message()
    assert hosts == [b"127.0.0.1:%d" % origin.address.port for origin in tcp_hops.origins]


@pytest.mark.parametrize(
    ("locations", "host", "line", "seen"),
    [
        ("origin", "app.example", b"Location: http://app.example/x?y#z", b"/api/x?y#z"),
        ("origin", "app.example", b"Location: https://APP.example:443", b"/api/"),
        ("origin", "app.example", b"Location: //app.example/x", b"/api/x"),
        ("origin", "app.example", b"Location: http://app.example:81/x", b"http://app.example:81/x"),
        ("origin", "app.example", b"Location: /x", b"/x"),
        ("origin", "app.example", b"Location: http://a/x", b"http://a/x"),
        ("origin", "app.example", b"Refresh: 5; url=http://app.example/x", b"5; url=/api/x"),
        ("origin", "app.example", b"Set-Cookie: a=b; Path=/", b"a=b; Path=/"),
        ("all", "pass", b"Location: /x", b"/api/x"),
        ("all", "pass", b"Location: /api/x", b"/api/x"),
        ("all", "pass", b"Location: http://a/x", b"/api/x"),
        ("all", "pass", b"Location: http://b/x", b"http://b/x"),
        ("all", "pass", b"Location: x", b"x"),
        ("all", "pass", b"Content-Location: /x", b"/api/x"),
        ("all", "pass", b"Refresh: 5;URL='/x'", b"5;URL='/api/x'"),
        ("all", "pass", b"Refresh: 5", b"5"),
        ("all", "pass", b"Set-Cookie: a=b; Secure; path=/; HttpOnly",
         b"a=b; Secure; path=/api/; HttpOnly"),
        ("all", "app.example", b"Set-Cookie: a=b; Domain=.app.example; Path=/api",
         b"a=b; Path=/api"),
        ("all", "app.example", b"Set-Cookie: a=b; Domain=b.example", b"a=b; Domain=b.example"),
        ("off", "app.example", b"Location: http://app.example/x", b"http://app.example/x"),
    ],
)  # fmt: skip
async def test_urls_of_the_origin_are_turned_back(
    hops: Hops, locations: Any, host: str, line: bytes, seen: bytes
) -> None:
    route = Route(upstream="app", path="/api", strip="/api", locations=locations)
    await start(hops, route, upstream={"host": host})
    name = line.partition(b":")[0].lower()
    for body in (
        reply(line, status=b"302 Found"),
        reply(line).replace(b"2\r\n\r\nok", b"0\r\n\r\n"),
    ):
        _, answer = await carried(hops, request(), body)
        assert answer.values(name) == [seen]


async def test_a_redirect_to_https_leaves_https_to_the_next_route(hops: Hops) -> None:
    rules = edits(set={"X-To": "origin"})
    await start(
        hops,
        Route(redirect="https", redirect_status=301),
        Route(upstream="app", request_fields=rules),
        trusted_proxies=UNIX,
    )
    asked = request(b"X-Forwarded-For: 1.2.3.4", host=b"a.example:80")
    answer = await answered(hops, asked)
    assert answer.status == 301
    assert answer.values(b"location") == [b"https://a.example/api/x?q=1"]
    secure = asked.replace(b"Forwarded-For: 1.2.3.4", b"Forwarded-Proto: https")
    seen, answer = await carried(hops, secure)
    assert answer.status == 200
    assert seen.values(b"x-to") == [b"origin"]


async def test_a_redirect_to_https_alone_serves_nothing_over_https(hops: Hops) -> None:
    await start(hops, Route(redirect="https"), trusted_proxies=UNIX)
    answer = await answered(hops, request(b"X-Forwarded-Proto: https"))
    assert answer.status == 404


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("https://new.example{path}", b"https://new.example/api/x?q=1"),
        ("https://new.example/only", b"https://new.example/only"),
        ("{scheme}://{authority}/v2{path}", b"http://a.example:81/v2/api/x?q=1"),
        ("/login?next={path}&from={host}", b"/login?next=/api/x&from=a.example"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_redirect(hops: Hops, method: bytes, to: str, location: bytes) -> None:
    rules = edits(set={"Cache-Control": "max-age=60"})
    await start(hops, Route(redirect=to, response_fields=rules))
    client = await hops.client()
    for _ in range(2):  # the connection persists
        await client.send(request(start=method + b" /api/x?q=1 HTTP/1.1", host=b"a.example:81"))
        answer = await client.message(bodiless=method == b"HEAD")
        assert answer.status == 308
        assert answer.values(b"location") == [location]
        assert answer.values(b"cache-control") == [b"max-age=60"]
        assert answer.values(b"via") == answer.values(b"connection") == []
        assert len(answer.values(b"date")) == 1
        assert answer.body == (b"" if method == b"HEAD" else location + b"\n")


async def test_a_fixed_response_takes_the_body_that_has_come(hops: Hops) -> None:
    fixed = Respond(status=403, body="no {host}\n", type="text/html")
    empty = Respond(status=204)
    await start(hops, Route(respond=empty, path="/e"), Route(respond=fixed))
    client = await hops.client()
    post = request(b"Content-Length: 2", start=b"POST /x HTTP/1.1") + b"hi"
    for _ in range(2):
        await client.send(post)
        answer = await client.message()
        assert (answer.status, answer.body) == (403, b"no {host}\n")
        assert answer.values(b"content-type") == [b"text/html"]
    await client.send(request(start=b"GET /e HTTP/1.1"))
    answer = await client.message()
    assert (answer.status, answer.values(b"content-length")) == (204, [])
    await client.send(request(b"Content-Length: 9999", start=b"POST /x HTTP/1.1") + b"hi")
    answer = await client.message()
    assert (answer.status, answer.values(b"connection")) == (403, [b"close"])
    assert [record.cause for record in hops.records.kept] == [""] * 4


@pytest.mark.parametrize(
    ("status", "lengths"), [(204, []), (205, [b"0"]), (304, []), (404, [b"0"])]
)
async def test_a_fixed_response_without_a_body_has_an_end(
    hops: Hops, status: int, lengths: list[bytes]
) -> None:
    await start(hops, Route(respond=Respond(status=status)))
    client = await hops.client()
    for _ in range(2):
        await client.send(GET)
        answer = await client.message()
        assert (answer.status, answer.values(b"content-length")) == (status, lengths)


async def test_an_exact_path_and_several_hosts(hops: Hops) -> None:
    await start(
        hops,
        Route(respond=Respond(body="exact"), path="/x", exact=True, host=("a", "*.b")),
        Route(respond=Respond(body="below"), path="/x"),
        Route(respond=Respond(body="rest")),
    )
    for host, path, body in (
        (b"a", b"/x", b"exact"), (b"c.b", b"/x?y", b"exact"), (b"a", b"/x/", b"below"),
        (b"c", b"/x", b"below"), (b"a", b"/y", b"rest"),
    ):  # fmt: skip
        answer = await answered(hops, request(start=b"GET %b HTTP/1.1" % path, host=host))
        assert answer.body == body


async def test_our_own_errors_get_the_rules_that_are_not_about_content(hops: Hops) -> None:
    rules = edits(
        set={"Strict-Transport-Security": "max-age=1", "Cache-Control": "max-age=60"},
        remove=("Server", "Content-Type"),
    )
    await start(hops, Route(upstream="app", response_fields=rules))
    client = await hops.client()
    await client.send(GET)
    upstream = await hops.origins[0].accept()
    upstream.close()
    answer = await client.message()
    assert answer.status == 502
    assert answer.values(b"strict-transport-security") == [b"max-age=1"]
    assert answer.values(b"cache-control") == [b"no-store"]
    assert len(answer.values(b"content-type")) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nDate: x\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_streamed_bodies_interim_responses_and_trailers(hops: Hops) -> None:
    rules = edits(set={"X-New": "1"}, remove=("X-Gone",))
    await start(hops, Route(upstream="app", request_fields=rules, response_fields=rules))
    client = await hops.client()
    await client.send(
        request(b"Transfer-Encoding: chunked", b"X-Gone: 1", start=b"POST / HTTP/1.1")
        + b"2\r\nhi\r\n"
    )
    upstream = await hops.origins[0].accept()
    head = await upstream.until(b"\r\n\r\n")
    assert b"X-Gone" not in head
    assert b"X-New: 1" in head
    await client.send(b"0\r\nX-Gone: 1\r\nX-Kept: 1\r\n\r\n")
    assert await upstream.until(b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nX-Kept: 1\r\n\r\n"
    await upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Gone: 1\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    await upstream.send(CHUNKED + b"2\r\nok\r\n")
    head = await client.until(b"\r\n\r\n")
    assert b"X-Gone:" not in head
    assert b"X-New: 1" in head
    await upstream.send(b"0\r\nX-Gone: 1\r\nX-Kept: 1\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nX-Kept: 1\r\n\r\n"


async def test_an_upgrade_is_changed_too(hops: Hops) -> None:
    rules = edits(set={"X-New": "1"}, remove=("X-Gone",))
    await start(
        hops,
        Route(upstream="app", strip="/api", path="/api", request_fields=rules,
              response_fields=rules, tunnel_timeout=5.0),
    )  # fmt: skip
    client = await hops.client()
    await client.send(request(b"Connection: Upgrade, X-New", b"Upgrade: x", b"X-Gone: 1"))
    upstream = await hops.origins[0].accept()
    head = await upstream.until(b"\r\n\r\n")
    assert head.startswith(b"GET /x?q=1 HTTP/1.1\r\n")
    assert b"X-New: 1\r\n" in head
    assert b"X-Gone" not in head
    assert b"Connection: Upgrade\r\nUpgrade: x\r\n" in head
    await upstream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
        b"X-Gone: 1\r\n\r\n"
    )
    head = await client.until(b"\r\n\r\n")
    assert b"X-New: 1\r\n" in head
    assert b"X-Gone" not in head
    began = trio.current_time()
    await upstream.gone()
    assert trio.current_time() - began == pytest.approx(5.0)


async def test_a_head_response_keeps_its_length(hops: Hops) -> None:
    rules = edits(set={"X-New": "1"})
    await start(hops, Route(upstream="app", response_fields=rules))
    _, answer = await carried(
        hops, request(start=b"HEAD / HTTP/1.1"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    )
    assert answer.values(b"content-length") == [b"9"]
    assert answer.values(b"x-new") == [b"1"]


async def test_limits_of_a_route(hops: Hops) -> None:
    await start(
        hops,
        Route(upstream="app", path="/slow", response_timeout=100.0, body_timeout=50.0,
              max_body_size=4),
        Route(upstream="app"),
        upstream={"response_timeout": 10.0, "body_timeout": 20.0},
        client={"max_body_size": 2},
    )  # fmt: skip
    for path, limit, pause, size in ((b"/slow", 100.0, 50.0, 4), (b"/x", 10.0, 20.0, 2)):
        client = await hops.client()
        post = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        await client.send(post % (path, size + 1) + b"12345"[: size + 1])
        assert (await client.message()).status == 413
        assert hops.records.kept[-1].passed == ("max_body_size", float(size))
        client = await hops.client()
        await client.send(post % (path, size) + b"1234"[:size])
        upstream = await hops.origins[0].accept()
        await upstream.message()
        began = trio.current_time()
        assert (await client.message()).status == 504
        assert trio.current_time() - began == pytest.approx(limit)
        assert hops.records.kept[-1].passed == ("response_timeout", limit)
        await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        upstream = await hops.origins[0].accept()
        await upstream.message()
        await upstream.send(OK.replace(b"2\r\n\r\nok", b"3\r\n\r\nok"))
        began = trio.current_time()
        await client.gone()
        assert trio.current_time() - began == pytest.approx(pause)


async def test_the_timeouts_of_a_route_do_not_stay_with_the_link(hops: Hops) -> None:
    await start(
        hops,
        Route(upstream="app", path="/slow", body_timeout=50.0),
        Route(upstream="app"),
        upstream={"body_timeout": 20.0},
    )
    client = await hops.client()
    await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await hops.origins[0].accept_and_answer()
    await client.message()
    await client.send(GET)
    await upstream.message()
    await upstream.send(OK.replace(b"2\r\n\r\nok", b"3\r\n\r\nok"))
    began = trio.current_time()
    await client.gone()
    assert trio.current_time() - began == pytest.approx(20.0)


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


async def test_the_id_of_a_request_is_made_and_logged(hops: Hops) -> None:
    await start(
        hops,
        Route(upstream="app", response_fields=edits(set={"X-Request-ID": "{request_id}"})),
        request_id=("x-request-id", "traceparent"),
    )
    forged = (b"X-Request-ID: forged", b"traceparent: " + TRACE, b"tracestate: a=b")
    ids = set()
    for _ in range(3):
        seen, answer = await carried(hops, request(*forged))
        (own,) = seen.values(b"x-request-id")
        assert re.fullmatch(rb"[0-9a-f]{32}", own)
        (trace,) = seen.values(b"traceparent")
        assert re.fullmatch(rb"00-" + own + rb"-[0-9a-f]{16}-01", trace)
        assert seen.values(b"tracestate") == []
        assert answer.values(b"x-request-id") == [own]
        assert hops.records.kept[-1].request_id == own.decode()
        ids.add(own)
    assert len(ids) == 3


async def test_the_id_of_a_trusted_proxy_is_passed_on(hops: Hops) -> None:
    await start(
        hops,
        Route(upstream="app"),
        request_id=("x-request-id", "traceparent"),
        trusted_proxies=UNIX,
    )
    seen, _ = await carried(
        hops, request(b"X-Request-ID: abc-1", b"traceparent: " + TRACE, b"tracestate: a=b")
    )
    assert seen.values(b"x-request-id") == [b"abc-1"]
    assert seen.values(b"traceparent") == [TRACE]
    assert seen.values(b"tracestate") == [b"a=b"]
    seen, _ = await carried(hops, request(b"traceparent: " + TRACE))
    assert seen.values(b"x-request-id") == [TRACE.split(b"-")[1]]
    uuid = b"550e8400-e29b-41d4-a716-446655440000"
    seen, _ = await carried(hops, request(b"X-Request-ID: " + uuid, b"traceparent: nonsense"))
    assert seen.values(b"x-request-id") == [uuid]
    assert seen.values(b"traceparent")[0].split(b"-")[1] == uuid.replace(b"-", b"")
    for bad in ((b"X-Request-ID: a b",), (b"X-Request-ID: a", b"X-Request-ID: b")):
        seen, _ = await carried(hops, request(*bad))
        assert re.fullmatch(rb"[0-9a-f]{32}", seen.values(b"x-request-id")[0])


async def test_without_the_setting_ids_pass_as_they_come(hops: Hops) -> None:
    await start(hops, Route(upstream="app"))
    seen, _ = await carried(hops, request(b"X-Request-ID: a", b"traceparent: b"))
    assert seen.values(b"x-request-id") == [b"a"]
    assert seen.values(b"traceparent") == [b"b"]
    assert hops.records.kept[-1].request_id == ""

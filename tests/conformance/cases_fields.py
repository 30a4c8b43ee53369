"""Rules 59-73: fields of one hop stay on it, in heads and in trailers."""

from __future__ import annotations

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.strict import Message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def answer(*fields: str) -> bytes:
    """Write a whole response with these fields."""
    return OK + "".join(f"{field}\r\n" for field in fields).encode("latin-1") + b"\r\nok"


def chunked(*trailers: str) -> bytes:
    """Write a chunked body `ok` with these trailer fields."""
    return b"2\r\nok\r\n0\r\n" + "".join(f"{t}\r\n" for t in trailers).encode() + b"\r\n"


@rule(59, "RFC 9110 7.6.1 MUST", only_http1=only_http1.CONNECTION)
def field_named_in_connection_stays_on_its_hop(s: Stage) -> None:
    seen = s.seen_upstream("Connection: X-Foo", "X-Foo: 1", "X-Bar: 2")
    assert not seen.has("x-foo")
    assert "x-foo" not in seen.options()
    assert seen.values("x-bar") == ["2"]


@rule(60, "RFC 9110 5.6.1", only_http1=only_http1.CONNECTION)
def several_connection_lines_are_one_list(s: Stage) -> None:
    seen = s.seen_upstream("Connection: x-a", "Connection: X-B , close,, ", "X-A: 1", "x-b: 2")
    assert not seen.has("x-a")
    assert not seen.has("x-b")
    assert not {"close", "x-a", "x-b"} & set(seen.options())


@rule(61, "CVE-2021-33197", only_http1=only_http1.CONNECTION)
def empty_connection_line_hides_no_second_one(s: Stage) -> None:
    seen = s.seen_upstream("Connection:", "Connection: X-Foo", "X-Foo: 1")
    assert not seen.has("x-foo")


@rule(62, "RFC 9110 7.6.1")
def field_named_by_the_origin_stays_on_its_hop(s: Stage) -> None:
    seen = s.seen_downstream(answer("Connection: X-Foo", "X-Foo: 1", "X-Bar: 2"))
    assert not seen.has("x-foo")
    assert "x-foo" not in seen.options()
    assert seen.values("x-bar") == ["2"]


@rule(62, "RFC 9110 7.6.1 header or trailer field")
def named_trailer_of_the_origin_stays_on_its_hop(s: Stage) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-T\r\n\r\n"
    seen = s.seen_downstream(head + chunked("X-T: 1"), "TE: trailers", "Connection: TE")
    assert seen.body == b"ok"
    assert not seen.trailer_values("x-t")
    assert not seen.has("x-t")


def upload(s: Stage, *fields: str, trailers: tuple[str, ...] = ()) -> Message:
    """Send a chunked POST with trailers; return it as the origin saw it."""
    client = s.client()
    client.head("POST / HTTP/1.1", "Transfer-Encoding: chunked", *fields)
    client.send(chunked(*trailers))
    link = s.origin.request()
    link.answer()
    assert client.response().status == 200
    assert link.last.body == b"ok"
    return link.last


@rule(62, "RFC 9110 7.6.1 header or trailer field", only_http1=only_http1.CONNECTION)
def named_trailer_of_the_client_stays_on_its_hop(s: Stage) -> None:
    seen = upload(s, "Connection: X-T", trailers=("X-T: 1",))
    assert not seen.trailer_values("x-t")
    assert not seen.has("x-t")


#: Fields that belong to one hop whether Connection names them or not, in either direction.
HOP_BY_HOP = {
    "Keep-Alive": b"Keep-Alive: timeout=5",
    "Proxy-Connection": b"Proxy-Connection: keep-alive",
    "Upgrade": b"Upgrade: h2c",
}


@each(63, "RFC 9110 7.6.1", {**HOP_BY_HOP, "TE": b"TE: gzip"}, only_http1=only_http1.CONNECTION)
def hop_by_hop_request_field_goes_without_being_named(s: Stage, line: bytes) -> None:
    seen = s.seen_upstream(line.decode())
    assert not seen.has(line.partition(b":")[0].decode())


@each(63, "RFC 9110 7.6.1", HOP_BY_HOP)
def hop_by_hop_response_field_goes_without_being_named(s: Stage, line: bytes) -> None:
    seen = s.seen_downstream(answer(line.decode()))
    name = line.partition(b":")[0].decode()
    assert line.partition(b": ")[2].decode() not in seen.values(name)


@each(
    64,
    "f00010.vtc",
    {
        "Host": b"Host",
        "Content-Length": b"Content-Length",
        "Transfer-Encoding": b"transfer-encoding",
    },
    only_http1=only_http1.CONNECTION,
)
def connection_cannot_take_away_the_framing(s: Stage, name: bytes) -> None:
    body = "Transfer-Encoding: chunked" if name.startswith(b"t") else "Content-Length: 2"
    data = f"POST / HTTP/1.1\r\nHost: {s.host}\r\nConnection: {name.decode()}\r\n{body}\r\n\r\n"
    seen = s.refused_or_clean(data.encode() + (chunked() if "chunked" in body else b"ok"), 400)
    if seen is not None:
        assert len(seen.values("host")) == 1
        assert seen.body == b"ok"


@rule(65, "traefik; envoy", only_http1=only_http1.CONNECTION)
def connection_cannot_take_away_the_forwarding_fields(s: Stage) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {s.host}\r\nConnection: X-Forwarded-For\r\n\r\n".encode()
    seen = s.refused_or_clean(data, 400)
    if seen is not None:
        assert "127.0.0.1" in ",".join(seen.values("x-forwarded-for"))


@each(
    66,
    "RFC 9110 7.6.1 never appropriate",
    {name: name.encode() + b": 5" for name in ("Authorization", "Cookie", "Cache-Control", "Age")},
    only_http1=only_http1.CONNECTION,
)
def connection_cannot_take_away_a_field_for_all(s: Stage, line: bytes) -> None:
    name = line.partition(b":")[0].decode()
    data = f"GET / HTTP/1.1\r\nHost: {s.host}\r\nConnection: {name}\r\n{line.decode()}\r\n\r\n"
    seen = s.refused_or_clean(data.encode(), 400)
    if seen is not None:
        assert seen.values(name) == ["5"]


@rule(67, "envoy", only_http1=only_http1.CONNECTION)
def too_many_connection_options_are_refused(s: Stage) -> None:
    client = s.client()
    client.get("/", "Connection: " + ",".join(f"x{number}" for number in range(200)))
    s.refused(client, 400)


@each(67, "hopproxy", {"32": b"32", "33": b"33"}, only_http1=only_http1.CONNECTION)
def connection_options_are_counted(s: Stage, count: bytes) -> None:
    client = s.client()
    client.get("/", "Connection: " + ",".join(f"x{number}" for number in range(int(count))))
    if count == b"33" and s.ours:
        s.refused(client, 400)
        return
    link = s.origin.request()
    link.answer()
    assert client.response().status == 200


@rule(68, "RFC 9112 9.3", only_http1=only_http1.CONNECTION)
def close_wins_over_keep_alive(s: Stage) -> None:
    client = s.client()
    response, _ = s.exchange(client, "Connection: keep-alive, close")
    assert "close" in response.options()
    assert "keep-alive" not in response.options()
    assert client.end() == "FIN"


@rule(69, "zoxy#4", only_http1=only_http1.CONNECTION)
def at_most_one_connection_line_on_each_wire(s: Stage) -> None:
    for said, asked in (("close", "close"), ("keep-alive", "keep-alive"), ("close", "X-A")):
        client = s.client()
        client.get("/", f"Connection: {asked}", "Connection: X-B")
        link = s.origin.request()
        link.answer(b"ok", f"Connection: {said}", "Connection: X-C")
        response = client.response()
        for seen in (link.last, response):
            assert len(seen.values("connection")) <= 1, f"Connection lines {seen.fields}"


@rule(70, "b00080.vtc", only_http1=only_http1.CONNECTION)
def keep_alive_of_one_hop_never_reaches_the_other(s: Stage) -> None:
    client = s.client()
    client.get("/", "Keep-Alive: timeout=99", "Connection: keep-alive")
    link = s.origin.request()
    link.answer(b"ok", "Keep-Alive: timeout=17", "Connection: keep-alive")
    assert "timeout=17" not in client.response().values("keep-alive")
    assert not link.last.has("keep-alive")


@each(
    71,
    "RFC 9110 10.1.4; RFC 9112 7.4",
    {"trailers, gzip": b"trailers, gzip", "gzip": b"gzip", "chunked": b"chunked"},
    only_http1=only_http1.TE,
)
def te_says_upstream_what_this_hop_accepts(s: Stage, value: bytes) -> None:
    seen = s.seen_upstream(f"TE: {value.decode()}", "Connection: TE")
    if seen.has("te"):
        assert value.startswith(b"trailers")
        assert seen.options("te") == ["trailers"]
        assert "te" in seen.options()


TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n" + chunked(
    "X-T: 1"
)


@rule(72, "RFC 9112 7.1.2")
def trailer_reaches_an_http11_client(s: Stage) -> None:
    seen = s.seen_downstream(TRAILED, "TE: trailers", "Connection: TE")
    assert seen.body == b"ok"
    assert seen.trailer_values("x-t") == ["1"]
    assert not seen.has("x-t")


@rule(72, "RFC 9112 7.1.2", only_http1=only_http1.VERSION)
def trailer_is_dropped_for_an_http10_client(s: Stage) -> None:
    seen = s.seen_downstream(TRAILED, start="GET / HTTP/1.0")
    assert seen.body == b"ok"
    assert not seen.has("x-t")


@rule(72, "RFC 9112 7.1.2")
def trailer_reaches_the_origin(s: Stage) -> None:
    seen = upload(s, "Trailer: X-T", trailers=("X-T: 1",))
    assert seen.trailer_values("x-t") == ["1"]
    assert not seen.has("x-t")


@each(
    73,
    "RFC 9110 6.5.1",
    {
        name: name.encode() + b": 9"
        for name in ("Content-Length", "Host", "Authorization", "Transfer-Encoding")
    },
    only_http1={"Transfer-Encoding": only_http1.CONNECTION},
)
def forbidden_trailer_is_dropped(s: Stage, line: bytes) -> None:
    seen = upload(s, trailers=(line.decode(), "X-Fine: 1"))
    name = line.partition(b":")[0].decode()
    assert not seen.trailer_values(name)
    assert "9" not in seen.values(name)

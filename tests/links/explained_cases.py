"""Settings, requests and responses at random, to compare `hopproxy explain` with both wires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from hopproxy.settings.networks import parse_network
from hopproxy.settings.route import FieldEdits, Respond, Route

UNIX = (parse_network("unix"),)
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One request: its settings, what the client sends, and what the origin answers."""

    name: str
    request: bytes
    response: bytes = b""
    routes: tuple[Route, ...] = (Route(upstream="app"),)
    upstream: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)


_NAMES = ("X-A", "x-b", "X-User", "Cookie", "Accept", "Authorization", "X-Request-ID", "Server",
          "Set-Cookie", "Location", "Content-Type", "Cache-Control", "Age")  # fmt: skip
_VALUES = ("1", "", "{client}", "{host}|{authority}", "{path}{query}", "{method} {scheme}",
           "{request_id}", "{{host}} 100%", 'a "b" \\c')  # fmt: skip
_PATHS = (None, "/", "/api", "/api/", "/api/v1", "/a%20b", "/x/y")
_HOSTS = (None, None, ("a.example",), ("*.example",), ("a.example", "b.example"), ("[::1]",))
_REDIRECTS = ("https", "https://new.example{path}", "/new{path}", "{scheme}://{authority}{path}",
              "https://x.example/?from={host}{path}", "/login", "//{host}/x"[1:])  # fmt: skip
_TARGETS = ("/", "/api", "/api/", "/api/v1/x?y=z", "/%61pi/x", "//api/x", "/x/../api/y",
            "/api/a%2Fb", "/api//x", "/a%20b/c", "/x/y;p=1?q", "/api?http://e", "/%e9",
            "http://a.example/api/x?q", "http://b.example", "*", "/api/%252e%252e/x",
            "/api/./x/..%2f", "/a b", "/api#f", "http://a.example@e/")  # fmt: skip
_AUTHORITIES = ("a.example", "A.Example:8080", "b.example.", "[::1]:80", "[::1]", "other", "",
                "x.b.example", "a.example:", "a..example", "a b", "a.example:70000")  # fmt: skip
_FIELDS = (
    "Connection: close", "Connection: keep-alive", "Connection: X-A, close", "Connection: x-user",
    "Connection: Upgrade", "Connection: TE", "Keep-Alive: timeout=5", "TE: trailers, gzip",
    "Upgrade: websocket, h2c", "Max-Forwards: 0", "Max-Forwards: 5", "X-Forwarded-For: 1.2.3.4, x",
    "X-Forwarded-Proto: https", "X-Forwarded-Host: f.example", "X-Real-IP: 9.9.9.9",
    "Forwarded: for=1.1.1.1;proto=https", "Via: 1.0 front", "Via: 1.1 hopproxy", "X-A: 0",
    "x_a: 0", "X_User: 0", "X-User: u", "Cookie: c=1", "Authorization: NTLM abc",
    "Authorization: Basic abc", "X-Request-ID: forged", "X-Request-ID: ", "Accept: *",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Trailer: X-T",
    "Content-Type: application/grpc", "Proxy-Authorization: p", "Range: bytes=0-1", "Expect:",
    "Expect: 100-continue", "Expect: more", "Idempotency-Key: 1",
    "X-E: \u00e9", "X-Pad:\t v \t", "Transfer-Encoding: gzip", "Host: twice",
    "Content-Length: 2, 2", "Transfer-Encoding: identity",
)  # fmt: skip
_ANSWERS = (
    "Connection: close", "Connection: X-A", "Connection: keep-alive", "Keep-Alive: max=0",
    "Keep-Alive: timeout=0", "Keep-Alive: timeout=5, max=9", "X-A: r", "Server: s", "Via: 1.1 b",
    "Location: http://localhost/y", "Location: /y", "Location: //localhost/z?q",
    "Location: https://else.example/", "Set-Cookie: a=b; Path=/; Domain=localhost",
    "Refresh: 5; url=http://localhost/r", "Content-Location: /api/z", "Date: then", "Age: 1",
    "Upgrade: websocket", "Trailer: X-T", "Proxy-Authenticate: x", "x_a: r", "Cache-Control: no",
    "Content-Type: text/html", "Bad Name: x", "X-E: \u00e9",
)  # fmt: skip
#: (body, fields about it)
_FRAMINGS = (
    *[("ok", ("Content-Length: 2",))] * 6,
    ("2\r\nok\r\n0\r\n\r\n", ("Transfer-Encoding: chunked",)),
    ("1;e\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n", ("Transfer-Encoding: chunked",)),
    ("ok", ()), ("ok", ("Content-Length: 02",)), ("ok", ("Content-Length: 2, 2",)),
    ("ok", ("Content-Length: 2", "Content-Length: 2")), ("ok", ("Content-Length: 2, 3",)),
    ("ok", ("Transfer-Encoding: chunked", "Content-Length: 2")),
    ("ok", ("Transfer-Encoding: gzip",)), ("ok", ("Transfer-Encoding: gzip, chunked",)),
    ("", ("Content-Length: 0",)), ("", ("Content-Length: x",)),
)  # fmt: skip
_STATUSES = (200, 200, 200, 201, 204, 206, 301, 302, 304, 401, 404, 500, 502, 599)
_METHODS = ("GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "DELETE", "FOO",
            "CONNECT", "PRI", "get")  # fmt: skip
_CHUNKED = ("0\r\n\r\n", "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "1;e=1\r\nh\r\n0\r\n\r\n", "x\r\n")
_VERSIONS = ("1.1", "1.1", "1.1", "1.1", "1.0")


def any_case(seed: int) -> Asked:
    """The case of this seed."""
    random = Random(seed)
    settings: dict[str, Any] = {
        "via": random.choice(("both", "both", "request", "response", "off")),
        "forwarding": random.choice(
            (("x-forwarded", "forwarded"), ("forwarded",), ("x-forwarded",), ())
        ),
        "trusted_proxies": random.choice(((), UNIX)),
        "request_id": random.choice(((), (), ("x-request-id",), ("x-request-id", "traceparent"))),
        "underscore_fields": random.choice(("shadow", "shadow", "drop", "keep", "reject")),
        "trace": random.random() < 0.2,
    }
    client: dict[str, Any] = {}
    if random.random() < 0.2:
        client["max_body_size"] = 3
    if random.random() < 0.1:
        client["max_requests"] = 1
    if random.random() < 0.1:
        client |= random.choice(({"max_target_size": 8}, {"max_fields": 4}, {"max_head_size": 256}))
    upstream = {
        "host": random.choice(("pass", "pass", "origin", "app.test:81")),
        "buffer_request": random.choice((0, 0, 1, 64)),
    }
    routes = tuple(_route(random) for _ in range(random.randint(1, 3)))
    if random.random() < 0.8:
        routes += (Route(upstream="app"),)
    request = _request(random)
    return Asked(f"{seed}", request, _response(random, request), routes, upstream, settings, client)


def _some(random: Random, choices: Sequence[T], most: int) -> list[T]:
    return random.sample(choices, random.randint(0, most))


def _edits(random: Random) -> FieldEdits:
    if random.random() < 0.5:
        return FieldEdits()
    names = _some(random, _NAMES, 4)
    cut = random.randint(0, len(names))
    return FieldEdits(
        set={name: random.choice(_VALUES) for name in names[:cut]},
        add={name: (random.choice(_VALUES), "2") for name in _some(random, _NAMES, 1)},
        remove=tuple(names[cut:]),
    )


def _route(random: Random) -> Route:
    path = random.choice(_PATHS)
    where: dict[str, Any] = {"host": random.choice(_HOSTS), "path": path}
    where["exact"] = path is not None and random.random() < 0.2
    edits = {"response_fields": _edits(random)}
    if random.random() < 0.3:
        edits["max_body_size"] = random.choice((0, 1, 9))  # type: ignore[assignment]
    kind = random.random()
    if kind < 0.2:
        status = random.choice((301, 302, 303, 307, 308))
        to = random.choice(_REDIRECTS)
        return Route(redirect=to, redirect_status=status, **where, **edits)  # type: ignore[arg-type]
    if kind < 0.35:
        status = random.choice((200, 204, 205, 304, 404, 503))
        body = "" if status in (204, 205, 304) else random.choice(("", "body\n"))
        fixed = Respond(status=status, body=body, type=random.choice(("text/html", "a/b")))
        return Route(respond=fixed, **where, **edits)  # type: ignore[arg-type]
    strip = path if path is not None and random.random() < 0.5 else None
    return Route(
        upstream="app", strip=strip, request_fields=_edits(random),
        locations=random.choice(("origin", "all", "off")), **where, **edits,  # type: ignore[arg-type]
    )  # fmt: skip


def _request(random: Random) -> bytes:
    method = random.choice(_METHODS)
    lines = _some(random, _FIELDS, 5)
    if random.random() < 0.95:
        usual = random.random() < 0.6
        host = "a.example" if usual else random.choice(_AUTHORITIES)
        lines.insert(random.randint(0, len(lines)), f"Host: {host}")
    usual = random.random() < 0.5
    target = "/api/v1/x?y=z" if usual else random.choice(_TARGETS)
    body = ""
    kind = random.random()
    if kind < 0.2:
        body = random.choice(("", "hi", "hello"))
        lines.append(f"Content-Length: {len(body)}")
    elif kind < 0.35:
        body = random.choice(
            ("0\r\n\r\n", "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "1;e=1\r\nh\r\n0\r\n\r\n")
        )
        lines.append("Transfer-Encoding: chunked")
    start = f"{method} {target} HTTP/{random.choice(_VERSIONS)}"
    return ("\r\n".join([start, *lines, "", ""]) + body).encode("latin-1")


def _response(random: Random, request: bytes) -> bytes:
    found = b""
    while random.random() < 0.15:
        found += _head(random, random.choice((100, 102, 103)), _some(random, _ANSWERS, 2))
    if random.random() < 0.05:
        lines = ["Upgrade: websocket", "Connection: Upgrade"]
        return found + _head(random, 101, lines)
    status = random.choice(_STATUSES)
    lines = _some(random, _ANSWERS, 5)
    body, framing = random.choice(_FRAMINGS)
    if status in (204, 304) or request.startswith(b"HEAD "):
        body = ""
    lines += framing
    return found + _head(random, status, lines) + body.encode()


def _head(random: Random, status: int, lines: list[str]) -> bytes:
    start = f"HTTP/{random.choice(_VERSIONS)} {status} {random.choice(('OK', ''))}"
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")

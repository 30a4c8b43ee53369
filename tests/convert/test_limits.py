"""Limits of nginx and Caddy on rates and connections, and when an origin has failed."""

from __future__ import annotations

from typing import Any

import pytest

from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings
from tests.convert.test_convert import caddy, draft, notes

PASS = "proxy_pass http://127.0.0.1:3000;"
ZONES = """
limit_req_zone $binary_remote_addr zone=ip:10m rate=10r/s; limit_conn_zone $remote_addr zone=c:1m;
limit_req_zone $http_x_api_key zone=key:1m rate=30r/m; limit_conn_zone $server_name zone=all:1m;
limit_req_zone $request_uri zone=uri:1m rate=1r/s; limit_req_zone $server_name zone=s:1m rate=9r/m;
limit_req_zone $remote_addr zone=none:1m rate=1r/h; limit_conn_zone $uri zone=u:1m;
limit_req_status 429;
"""
#: What is told of these zones.
TOLD = [
    "4: limit_req_zone $request_uri zone=uri:1m rate=1r/s",
    "5: limit_conn_zone $uri zone=u:1m",
    "5: limit_req_zone $remote_addr zone=none:1m rate=1r/h",
]


def limited(body: str) -> tuple[Settings, list[str]]:
    """(the settings of a server with these directives, what is told of it)."""
    made = draft(f"{ZONES}server {{ listen 80; {body} }}")
    told = [text for text in notes(made) if text not in TOLD]
    return read(made.text("x"), file="x", environ={}), told


@pytest.mark.parametrize(
    ("limit", "rate", "burst", "by", "told"),
    [
        ("zone=ip burst=20 nodelay", 10.0, 21, "client", False),
        ("zone=ip", 10.0, 1, "client", False),
        ("zone=ip burst=5", 10.0, 6, "client", True),
        ("zone=ip burst=5 delay=3", 10.0, 6, "client", True),
        ("zone=key burst=4 nodelay", 0.5, 5, "header:x-api-key", False),
        ("zone=s", 0.15, 1, "all", False),
    ],
)
def test_a_rate_of_nginx(limit: str, rate: float, burst: int, by: str, told: bool) -> None:
    settings, said = limited(f"location / {{ limit_req {limit}; {PASS} }}")
    (route,) = settings.routes
    assert route.limits is not None
    assert (route.limits.rate, route.limits.burst, route.limits.by) == (rate, burst, by)
    assert said == ([f"7: limit_req {limit}"] if told else [])


def test_a_rate_holds_below_unless_another_stands_there() -> None:
    settings, told = limited(
        "limit_req zone=ip burst=9 nodelay;"
        f" location / {{ {PASS} }} location /fixed/ {{ return 204; }}"
        f" location /slow/ {{ limit_req zone=key; limit_req zone=ip; {PASS} }}"
        f" location /odd/ {{ limit_req zone=uri; limit_req zone=nowhere; {PASS} }}"
        f" location /dry/ {{ limit_req_dry_run on; {PASS} }}"
    )
    found = {route.path: route.limits for route in settings.routes}
    rates = {path: limits and limits.rate for path, limits in found.items()}
    assert [rates[path] for path in (None, "/slow/", "/odd/", "/dry/", "/fixed/")] == [
        10.0, 0.5, None, None, None,
    ]  # fmt: skip
    assert set(told) == {
        "7: limit_req zone=ip", "7: limit_req zone=ip burst=9 nodelay",
        "7: limit_req zone=nowhere", "7: limit_req zone=uri",
    }  # fmt: skip


def test_the_status_of_a_refused_request_is_reported() -> None:
    _, told = limited(f"limit_req_status 444; location / {{ limit_req zone=ip; {PASS} }}")
    assert told == ["7: limit_req zone=ip"]


@pytest.mark.parametrize(
    ("server", "location", "connections", "in_flight", "told"),
    [
        ("limit_conn c 10;", "", 10, 0, ["7: limit_conn c 10"]),
        ("limit_conn c 10; limit_conn all 100;", "", 10, 100, ["7: limit_conn c 10"]),
        ("", "limit_conn all 7; limit_conn_status 503;", 0, 7, []),
        ("limit_conn_status 429;", "limit_conn all 7;", 0, 7, ["7: limit_conn_status 429"]),
        ("", "limit_conn c 3;", 0, 0, ["7: limit_conn c 3"]),
        ("limit_conn u 3;", "", 0, 0, ["7: limit_conn u 3"]),
    ],
)
def test_connections_of_nginx(
    server: str, location: str, connections: int, in_flight: int, told: list[str]
) -> None:
    settings, said = limited(f"{server} location / {{ {location} {PASS} }}")
    (upstream,) = settings.upstreams.values()
    assert settings.client.max_connections_per_address == connections
    assert upstream.max_requests_in_flight == in_flight
    assert said == told


@pytest.mark.parametrize(
    ("group", "most", "failures", "told"),
    [
        ("server a:1 max_conns=9 max_fails=2; server b:1 max_conns=9 max_fails=2;", 9, 2, []),
        ("server a:1 max_conns=9; server b:1 max_conns=9 backup; server c:1 down;", 9, 3, []),
        ("server a:1 max_conns=9; server b:1;", 256, 3, ["1: server a:1 max_conns=9"]),
        ("server a:1 max_fails=0 fail_timeout=0; server b:1 max_fails=0;", 256, 0, []),
        ("server a:1 max_fails=5; server b:1 max_fails=4;", 256, 3,
         ["1: server a:1 max_fails=5", "1: server b:1 max_fails=4"]),
        ("server a:1 max_conns=0; random two least_conn;", 256, 3, []),
        ("server a:1 slow_start=30s;", 256, 3, []),
        ("server a:1; random two; zone two;", 256, 3, []),
    ],
)  # fmt: skip
def test_origins_of_nginx(group: str, most: int, failures: int, told: list[str]) -> None:
    made = draft(f"upstream a {{ {group} }} server {{ listen 80; location / {{ {PASS[:18]}a; }} }}")
    (upstream,) = read(made.text("x"), file="x", environ={}).upstreams.values()
    assert (upstream.pool.max_connections, upstream.health.failures) == (most, failures)
    assert notes(made) == told


@pytest.mark.parametrize(
    ("says", "statuses", "told"),
    [
        ("proxy_next_upstream error timeout;", (), []),
        ("proxy_next_upstream error http_502 http_503 http_429 invalid_header;", (429, 502, 503),
         ["proxy_next_upstream error http_502 http_503 http_429 invalid_header"]),
        ("proxy_next_upstream error timeout non_idempotent http_404;", (),
         ["proxy_next_upstream error timeout non_idempotent http_404"]),
        ("proxy_next_upstream_tries 2;", (), []),
        ("proxy_next_upstream_tries 3; proxy_next_upstream_timeout 9s;", (),
         ["proxy_next_upstream_timeout 9s", "proxy_next_upstream_tries 3"]),
    ],
)  # fmt: skip
def test_when_nginx_asks_another_origin(
    says: str, statuses: tuple[int, ...], told: list[str]
) -> None:
    group = "upstream a { server a:1 max_fails=2; server b:1 max_fails=2; }"
    made = draft(f"{group} server {{ listen 80; location / {{ {says} {PASS[:18]}a; }} }}")
    (upstream,) = read(made.text("x"), file="x", environ={}).upstreams.values()
    assert (upstream.health.statuses, upstream.health.failures) == (statuses, 2)
    assert notes(made) == [f"1: {text}" for text in told]


def test_of_one_origin_there_is_no_other() -> None:
    made = draft(f"server {{ listen 80; proxy_next_upstream_tries 3; location / {{ {PASS} }} }}")
    assert notes(made) == []


@pytest.mark.parametrize(
    ("group", "most", "idle"),
    [
        ("server a:1 max_conns=20; keepalive 32;", 20, 20),
        ("server a:1; keepalive 512;", 512, 512),
        ("server a:1; keepalive 32;", 256, 32),
    ],
)
def test_no_more_idle_connections_than_there_may_be(group: str, most: int, idle: int) -> None:
    made = draft(f"upstream a {{ {group} }} server {{ listen 80; location / {{ {PASS[:18]}a; }} }}")
    (upstream,) = read(made.text("x"), file="x", environ={}).upstreams.values()
    assert (upstream.pool.max_connections, upstream.pool.max_idle) == (most, idle)


def test_a_queue_and_streams_of_nginx() -> None:
    made = draft(
        "http2_max_concurrent_streams 32; upstream a { server a:1; queue 50 timeout=30s; }"
        f"server {{ listen 80; location / {{ {PASS[:18]}a; }} }}"
    )
    settings = read(made.text("x"), file="x", environ={})
    pool = settings.upstreams["a"].pool
    assert (settings.client.max_streams, pool.queue, pool.queue_timeout) == (32, 50, 30.0)


# -- Caddy -----------------------------------------------------------------------------------


def zone(key: str, events: str, window: str, more: str = "") -> str:
    return f"zone a {{\n key {key}\n events {events}\n window {window}\n {more}\n}}"


@pytest.mark.parametrize(
    ("key", "events", "window", "limits"),
    [
        ("{remote_host}", "100", "1m", {"rate": "100/m", "burst": 100}),
        ("{client_ip}", "10", "10s", {"rate": "1/s", "burst": 10}),
        ("static", "30", "1h", {"rate": "30/h", "burst": 30, "by": "all"}),
        ("{http.request.header.X-Api-Key}", "5", "10s",
         {"rate": "30/m", "burst": 5, "by": "header:x-api-key"}),
        ("{path}", "5", "1s", None),
        ("static", "many", "1s", None),
        ("static", "1", "7h", None),
    ],
)  # fmt: skip
def test_a_rate_of_caddy(key: str, events: str, window: str, limits: dict[str, Any] | None) -> None:
    made = caddy(f"rate_limit {{\n{zone(key, events, window)}\n}}\nreverse_proxy a:1")
    assert made.routes[0].get("limits") == limits
    assert notes(made) == ([] if limits else ["3: zone a"])


def test_what_caddy_says_of_rates_and_hopproxy_cannot() -> None:
    made = caddy(
        f"rate_limit @api {{\n{zone('static', '9', '1s', 'match')}\n{zone('static', '2', '1s')}\n"
        "jitter 1\n}\nreverse_proxy /x/* a:1\nreverse_proxy b:1\nrespond /z 200"
    )
    assert [route.get("limits", {}).get("rate") for route in made.routes] == [None, "2/s", "2/s"]
    told = ["2: rate_limit @api", "3: zone a", "7: match", "9: zone a", "15: jitter 1"]
    assert sorted(notes(made)) == sorted(told)


def test_health_of_caddy() -> None:
    made = caddy(
        "reverse_proxy a:1 b:1 {\n health_uri /up\n health_passes 4\n health_fails 5\n"
        " max_fails 2\n fail_duration 30s\n unhealthy_status 5xx 429\n"
        " unhealthy_request_count 9\n transport http {\n max_conns_per_host 8\n}\n}"
    )
    (upstream,) = read(made.text("x"), file="x", environ={}).upstreams.values()
    health = upstream.health
    assert health.check is not None
    assert (health.check.rise, health.check.fall, health.failures) == (4, 5, 2)
    assert health.statuses == (429, 500, 502, 503, 504)
    assert upstream.pool.max_connections == 8
    assert notes(made) == ["7: fail_duration 30s", "9: unhealthy_request_count 9"]
    odd = caddy("reverse_proxy a:1 b:1 {\n unhealthy_status any\n}")
    assert notes(odd) == ["3: unhealthy_status any"]


def test_the_slow_start_of_a_group() -> None:
    made = draft(
        f"upstream a {{ server a:1 slow_start=30s; server b:1 slow_start=30s; }}"
        f"server {{ listen 80; location / {{ {PASS[:18]}a; }} }}"
    )
    assert made.routes[0]["upstream"] == "a"
    assert made.upstreams["a"]["health"] == {"slow_start": "30s"}

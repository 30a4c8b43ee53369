"""The way out that is offered for a mistake: it is there, and it works where it is followed."""

from __future__ import annotations

import pytest

from hopproxy.settings.lint import risks
from hopproxy.settings.reader import SettingsErrors, read

APP = "upstreams: {app: {origins: [3000]}}\n"


def advice(text: str) -> str:
    """What stands in the brackets behind the only problem of `text`."""
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    (problem,) = caught.value.problems
    return problem.hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("listeners: 8080", "write `- bind: 127.0.0.1:8080` below it"),
        ("listeners: ':8080'", "write `- bind: :8080` below it"),
        ("listeners: off", "begin each item with a dash"),
        ("routes: app", "write `- upstream: app` below it"),
        ("routes: {/api: app}", "begin each item with a dash"),
        ("admin: on", "write `bind:` and its value below it"),
        (
            "admin: [{bind: a:1}]",
            "it is one section, not a list: leave out the dash or the brackets",
        ),
        ("admin: {bind: on}", "write host:port, :port, [address]:port or unix:/path"),
        ("access_log: JSON", "did you mean `json`?"),
        ("access_log: /var/log/x", "write one of these"),
        ("access_log: {format: json}", "write json, off or text"),
        ("readiness: off", "leave the line out for the default"),
        ("via: none", "did you mean `off`?"),
        ("trusted_proxies: off", "write [] for none"),
        ("trusted_proxies: 10.0.0.0/8, fd00::/8", "write [10.0.0.0/8, fd00::/8]"),
        (
            "trusted_proxies: 10.0.0.0/8, nonsense",
            "write it like 10.0.0.0/8 or fd00::/8, or unix",
        ),
        ("trusted_proxies: ten", "write it like 10.0.0.0/8 or fd00::/8, or unix"),
        ("trusted_proxies: 10.0.0.0/8 ten", "write it like 10.0.0.0/8 or fd00::/8, or unix"),
        ("trusted_proxies: [::1]", 'quote an IPv6 address: "::1"'),
        ("forwarding: both", "write one of these"),
        ("forwarding: off", "write [] for none"),
        ("forwarding: x-forwarded forwarded", "write [x-forwarded, forwarded]"),
        ("client: {balancer: alb}", "did you mean `aws-alb`?"),
        ("client: {balancer: aws}", "did you mean `aws-alb` or `aws-nlb`?"),
        ("client: {balancer: none}", "leave the line out for the default"),
        ("client: {idle_timeout: 1h 30m}", "write 1h30m"),
        ("client: {idle_timeout: 99999999999s}", "write it like 250ms, 5s, 2m, 1h30m or 1d"),
        ("client: {idle_timeout: [75s]}", "write 75s"),
        ("client: {idle_timeout: {s: 75}}", "write it like 250ms, 5s, 2m, 1h30m or 1d"),
        ("routes: [{upstream: app, path: [/a, /b]}]", "write a route for each"),
        ("routes: [{upstream: app, path: '/a,/b'}]", "write a route for each"),
        ("routes: [{upstream: app, path: /a/../b}]", "write /b"),
        (
            "routes: [{upstream: app, path: /a/<id>}]",
            "write /a/: it matches that path and all below it",
        ),
        ("routes: [{upstream: app, limits: 5/s}]", "write `rate: 5/s` below it"),
        ("routes: [{respond: 404}]", "write `status: 404` below it"),
        ("client: {idle_timeout: $TIMEOUT}", "write ${TIMEOUT}"),
        ("client: {idle_timeout: -1}", "did you mean `off`?"),
        ("routes: [{upstream: app, path: '/a b'}]", "percent-encode it: /a%20b"),
        (
            "routes: [{upstream: app, host: _}]",
            "leave `host` out: the route then takes every host",
        ),
        ("routes: [{upstream: app, host: a.org b.org}]", "write [a.org, b.org]"),
        ("routes: [{upstream: app, host: a.org.}]", "write a.org"),
        ("routes: [{upstream: 'http://a'}]", "a URL belongs to the `origins` of an upstream"),
        ("routes: [{upstream: app}, {upstream: app}]", "keep one of them"),
        ("listeners: [{bind: /run/x}]", "write unix:/run/x"),
        ("listeners: [{bind: '::'}]", "put an IPv6 address in brackets: [::]:8080"),
        ("listeners: [{bind: '::1:80'}]", "put an IPv6 address in brackets: [::1]:80"),
        (
            "listeners: [{bind: '0.0.0.0::9000'}]",
            "write host:port, :port, [address]:port or unix:/path",
        ),
        ("retries: 3", "leave it out: a request is sent again once, if that is safe"),
        ("cache: on", "hopproxy does not cache"),
    ],
)
def test_way_out_of_a_mistake(line: str, hint: str) -> None:
    assert advice(f"{APP}{line}\n") == hint


@pytest.mark.parametrize(
    ("origins", "hint"),
    [
        ("http://a:1/x", "each request keeps its own path: write http://a:1"),
        ("http:/a:1", "write http://a:1"),
        ("$ORIGIN", "write ${ORIGIN}"),
        ("\u201chttp://a:1\u201d", "write straight quotes, or none"),
        ("-app:3000", "put a space after the dash"),
        ("off", "write http://host:port"),
        ("'3000,3001'", "write [3000, 3001]"),
        ("'3000, [::1]:3000'", 'write [3000, "[::1]:3000"]'),
        ("''", "at least one is needed"),
        ("[3000 3001]", "write each origin as an item of its own"),
        ("['http:/a:1']", "write http://a:1"),
        ("['http:a:1']", "write http://a:1"),
        ("['//a:1']", "write http://a:1"),
        ("['://a:1/']", "write http://a:1"),
        ("['ws://a:1']", "write http://a:1"),
        ("[/run/a.sock]", "write unix:/run/a.sock"),
        ("['http://unix:/run/a.sock']", "write unix:/run/a.sock"),
        ("[./a.sock]", "write unix: and the whole path of the socket"),
        ("[{host: a, port: 1}]", "write http://host:port"),
        ("[[3000, 3001]]", "write http://host:port"),
        ("['::1:3000']", "put an IPv6 address in brackets: [::1]:3000"),
    ],
)
def test_way_out_of_an_origin_that_cannot_be_read(origins: str, hint: str) -> None:
    assert advice(f"upstreams: {{app: {{origins: {origins}}}}}\n") == hint


@pytest.mark.parametrize(
    "text",
    [
        "server {\n  listen 80;\n  location / { proxy_pass http://127.0.0.1:3000; }\n}\n",
        "example.org {\n  reverse_proxy localhost:3000\n}\n",
    ],
    ids=["nginx", "Caddy"],
)
def test_way_out_of_the_file_of_another_proxy(text: str) -> None:
    assert advice(text) == (
        "hopproxy reads YAML; `hopproxy convert` reads an nginx.conf or a Caddyfile"
    )


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        ("localhost", "write 127.0.0.1 and ::1"),
        ("off", "leave it empty for none"),
        ("unix:/run/x", "write unix for all peers on Unix sockets"),
        ("10.0.0.1, 10.0.0.2", "write each network as an item of its own"),
        ("[::1]:80", "write ::1, without brackets and port"),
        ("10.0.0.1:80", "write 10.0.0.1, without brackets and port"),
        ("300.0.0.1:80", "write it like 10.0.0.0/8 or fd00::/8, or unix"),
    ],
)
def test_way_out_of_a_network_that_cannot_be_read(network: str, hint: str) -> None:
    assert advice(f"{APP}trusted_proxies: ['{network}']\n") == hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("  app: [3000, 3001]\n", "write `origins: [3000, 3001]` below it"),
        ("  app: []\n", "it is one section, not a list: leave out the dash or the brackets"),
        (
            "  app:\n    - origins: [3000]\n",
            "it is one section, not a list: leave out the dash or the brackets",
        ),
        ("  app: '[::1]:3000'\n", 'write `origins: ["[::1]:3000"]` below it'),
        (
            "  app:\n    origins: [3000]\n  pool:\n    max_idle: 4\n",
            "indent it further, below a name",
        ),
        ("  app:\n    origins:\n    -app:3000\n", "put a space after the dash"),
        ("  app:\n    origins:\n      -app:3000\n      -app:3001\n", "put a space after the dash"),
        (
            "  app\n    origins: [3000]\n",
            "does the line above lack its colon, or is this one indented too far?",
        ),
    ],
)
def test_way_out_of_upstreams_in_the_wrong_shape(text: str, hint: str) -> None:
    assert advice(f"upstreams:\n{text}") == hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("protocol: HTTP/2", "did you mean `h2`?"),
        ("protocol: http2", "did you mean `h2`?"),
        ("health: off", "write `failures: off` below it"),
        ("health: {check: /up}", "write `path: /up` below it"),
        ("pool: 5", "write `max_connections: 5` below it"),
        ("pool: {young_share: 0.5}", "write 50%"),
        ("pool: {young_share: 50}", "write 50%"),
    ],
)
def test_way_out_of_a_mistake_in_an_upstream(line: str, hint: str) -> None:
    assert advice(f"upstreams: {{app: {{origins: [3000], {line}}}}}\n") == hint


def test_route_written_as_a_path_and_a_name() -> None:
    with pytest.raises(SettingsErrors) as caught:
        read(f"{APP}routes: [{{/api: app}}]\n", file="a", environ={})
    assert caught.value.problems[-1].hint == "write `path: /api`, and `upstream:` below it"


@pytest.mark.parametrize(
    "line",
    [
        "listeners:\n - bind: 127.0.0.1:8080",
        "listeners:\n - bind: :8080",
        "routes:\n - upstream: app",
        "trusted_proxies: []",
        "trusted_proxies: [10.0.0.0/8, fd00::/8]",
        'trusted_proxies: ["::1"]',
        "forwarding: [forwarded, x-forwarded]",
        "admin: false",
        "client: {idle_timeout: OFF, max_requests: Off, max_body_size: OFF}",
        "admin: none",
        "trusted_proxies: 10.0.0.0/8",
        "trusted_proxies: ::1",
        "forwarding: x-forwarded",
        "request_id: traceparent",
        "upstreams: {app: {origins: 3000, health: {statuses: 503}}}",
        "upstreams: {app: {origins: http://127.0.0.1:3000 weight=2}}",
        "upstreams: {app: {origins: '[::1]:3000'}}",
        "upstreams:\n  app:\n    origins: [3000, 3001]",
        'upstreams:\n  app:\n    origins: ["[::1]:3000"]',
    ],
)
def test_settings_written_as_advised_are_read(line: str) -> None:
    text = line if line.startswith("upstreams") else APP + line
    assert read(f"{text}\n", file="a", environ={}).upstreams


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "::ffff:0:0/96"])
def test_trust_in_everybody_is_warned_of(network: str) -> None:
    settings = read(f"{APP}trusted_proxies: ['10.0.0.0/8', '{network}']\n", file="a", environ={})
    (risk,) = risks(settings)
    assert risk.path == "trusted_proxies[1]"
    assert risk.message == f"`{network}` is every address: any client can forge its own"

"""What is said of a key that is not a setting where it stands, at every level of the file."""

import pytest

from hopproxy.settings.reader import SettingsErrors, read

ORIGIN = "origins: ['http://a']"


def hints(text: str) -> list[str]:
    """What stands in the brackets behind each unknown key of `text`."""
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    lines = [str(problem) for problem in caught.value.problems]
    return [
        line.partition("is not a setting (")[2].removesuffix(")")
        for line in lines
        if "is not a setting" in line
    ]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("upstream: x", "did you mean `upstreams`?"),
        ("listener: x", "did you mean `listeners`?"),
        ("route: x", "did you mean `routes`?"),
        ("clients: x", "did you mean `client`?"),
        ("wrkers: 1", "did you mean `workers`?"),
        ("drainTimeout: 1s", "did you mean `drain_timeout`?"),
        ("drain-timeout: 1s", "did you mean `drain_timeout`?"),
        ("listen: x", "did you mean `listeners` or `admin.bind`?"),
        ("servers: x", "did you mean `upstreams.<name>.origins` or `upstreams`?"),
        ("log: x", "did you mean `access_log`?"),
        ("metrics: x", "did you mean `admin`?"),
        ("tls: x", "it belongs to listeners[].tls or upstreams.<name>.tls"),
        ("ssl_certificate: x", "did you mean `listeners[].tls.certificates[].cert`?"),
        ("pool: {}", "it belongs to upstreams.<name>.pool"),
        ("bind: x", "it belongs to listeners[].bind or admin.bind"),
        ("maxIdle: 3", "it belongs to upstreams.<name>.pool.max_idle"),
        (
            "idle_timeout: 1s",
            "it belongs to client.idle_timeout or upstreams.<name>.pool.idle_timeout",
        ),
        (
            "idle_timout: 1s",
            "did you mean `client.idle_timeout` or `upstreams.<name>.pool.idle_timeout`?",
        ),
        (
            "keepalive: 1s",
            "did you mean `client.idle_timeout`, `upstreams.<name>.pool.idle_timeout` "
            "or `upstreams.<name>.pool.max_idle`?",
        ),
        ("grace: 5s", "did you mean `drain_timeout`?"),
        ("fail_timeout: 5s", "did you mean `upstreams.<name>.health`?"),
        ("http2: on", "did you mean `listeners[].protocols` or `upstreams.<name>.protocol`?"),
        ("basic_auth: x", "hopproxy asks for no passwords: let the application do it"),
        ("site: {origins: [3000]}", "an upstream? put it below `upstreams:`"),
    ],
)
def test_hint_at_the_top(line: str, hint: str) -> None:
    assert hints(f"upstreams: {{app: {{{ORIGIN}}}}}\n{line}\n") == [hint]


def test_timeout_at_the_top_names_every_timeout_it_may_be() -> None:
    (hint,) = hints(f"upstreams: {{app: {{{ORIGIN}}}}}\ntimeout: 3s\n")
    assert hint.startswith("did you mean `client.idle_timeout`, `client.head_timeout`, ")
    assert hint.endswith(" or `upstreams.<name>.pool.queue_timeout`?")
    assert "`upstreams.<name>.response_timeout`" in hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("origin: [x]", "did you mean `origins`?"),
        ("conect_timeout: 1s", "did you mean `connect_timeout`?"),
        ("connectTimeout: 1s", "did you mean `connect_timeout`?"),
        ("url: x", "did you mean `upstreams.app.origins`?"),
        ("idle_timeout: 1s", "it belongs to upstreams.app.pool.idle_timeout"),
        ("max_connections: 1", "it belongs to upstreams.app.pool.max_connections"),
        ("max_idel: 1", "did you mean `upstreams.app.pool.max_idle`?"),
        (
            "keepalive: 8",
            "did you mean `upstreams.app.pool.idle_timeout` or `upstreams.app.pool.max_idle`?",
        ),
        ("proxy_read_timeout: 8s", "did you mean `upstreams.app.response_timeout` "
         "or `upstreams.app.body_timeout`?"),
        ("http2: on", "did you mean `upstreams.app.protocol`?"),
        ("max_fails: 3", "did you mean `upstreams.app.health.failures`?"),
        ("path: /x", "it belongs to upstreams.app.health.check.path"),
        ("redirect: https", "it belongs to routes[].redirect"),
        ("routes: []", "it belongs to the top level of the file"),
        ("pool: {max_idel: 1}", "did you mean `max_idle`?"),
        ("pool: {keepalive_timeout: 1s}", "did you mean `upstreams.app.pool.idle_timeout`?"),
        ("pool: {idle: 1}", "did you mean `max_idle` or `idle_timeout`?"),
    ],
)  # fmt: skip
def test_hint_in_an_upstream(line: str, hint: str) -> None:
    assert hints(f"upstreams: {{app: {{{ORIGIN}, {line}}}}}\n") == [hint]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("client: {keepalive: 1s}", "did you mean `client.idle_timeout`?"),
        (
            "listeners: [{client: {max_connections: 1}}]",
            "it belongs to client.max_connections or upstreams.<name>.pool.max_connections",
        ),
        ("client: {keepalive_timeout: 1s}", "did you mean `client.idle_timeout`?"),
        (
            "client: {timeout: 1s}",
            "did you mean `client.idle_timeout`, `client.head_timeout` or `client.body_timeout`?",
        ),
        ("client: {pool: {}}", "it belongs to upstreams.<name>.pool"),
        ("client: {client_max_body_size: 1m}", "did you mean `client.max_body_size`?"),
        ("client: {max_body: 1m}", "did you mean `max_body_size`?"),
        ("listeners: [{port: 80}]", "did you mean `listeners[0].bind`?"),
        ("listeners: [{bnd: 80}]", "did you mean `bind`?"),
        ("admin: {bind: 'a:1', port: 80}", "did you mean `admin.bind`?"),
        ("admin: {bind: 'a:1', colour: red}", "known here: bind"),
        ("routes: [{upstream: app, prefix: /a}]", "did you mean `routes[0].path`?"),
        (
            "client: {request_timeout: 1s}",
            "did you mean `client.head_timeout` or `client.body_timeout`?",
        ),
        (
            "routes: [{upstream: app, match: /a}]",
            "did you mean `routes[0].host` or `routes[0].path`?",
        ),
        (
            "routes: [{upstream: app, auth: a}]",
            "hopproxy asks for no passwords: let the application do it",
        ),
        ("routes: [{upstream: app, hosts: a}]", "did you mean `routes[0].host`?"),
        ("routes: [{upstream: app, origins: a}]", "it belongs to upstreams.<name>.origins"),
    ],
)
def test_hint_in_the_other_sections(line: str, hint: str) -> None:
    assert hints(f"upstreams: {{app: {{{ORIGIN}}}}}\n{line}\n") == [hint]


def test_key_that_closes_up_with_its_value_in_braces() -> None:
    assert hints(f"upstreams: {{app: {{{ORIGIN}, connect_timeout:3s}}}}\n") == [
        "put a space after the colon: `connect_timeout: 3s`"
    ]


def test_names_that_other_proxies_use_lead_to_settings_that_there_are() -> None:
    from hopproxy.settings.other_names import ABSENT, CALLED
    from hopproxy.settings.suggest import _homes

    there = {home for homes in _homes().values() for home in homes}
    named = {home for homes in CALLED.values() for home in homes}
    assert named <= there
    assert not set(CALLED) & set(ABSENT)
    assert not (set(CALLED) | set(ABSENT)) & {home for home in there if "." not in home}

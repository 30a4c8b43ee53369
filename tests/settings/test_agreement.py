"""Settings that contradict each other, and the ones that only look as if they did."""

import pytest

from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.suggest import nearest

TWO = "upstreams: {app: {origins: ['http://a']}, api: {origins: ['http://b']}}\n"


def said(text: str) -> list[str]:
    """Every problem of `text` below two upstreams, none when it is right."""
    try:
        read(TWO + text, file="a", environ={})
    except SettingsErrors as errors:
        return [str(problem) for problem in errors.problems]
    return []


def routes(*lines: str) -> list[str]:
    return said("routes:\n" + "".join(f"  - {{{line}}}\n" for line in lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "workers: 4\nmax_upstream_connections: 3\n",
            "a:3:27: max_upstream_connections: 3 cannot be divided among 4 workers "
            "(write 4 or more, or workers: 3)",
        ),
        (
            "workers: 2\nclient: {max_connections: 1}\n",
            "a:3:27: client.max_connections: 1 cannot be divided among 2 workers "
            "(write 2 or more, or workers: 1)",
        ),
        (
            "listeners:\n  - bind: a:80\n  - bind: A:80\n",
            "a:4:11: listeners[1].bind: `a:80` is taken by listeners[0].bind "
            "(give each listener its own port)",
        ),
        (
            "listeners: [{bind: '0.0.0.0:80'}, {bind: '127.0.0.1:80'}]\n",
            "a:2:42: listeners[1].bind: `127.0.0.1:80` is taken by listeners[0].bind, "
            "`0.0.0.0:80` (give each listener its own port)",
        ),
        (
            "listeners: [{bind: 'unix:/a'}, {bind: 'unix:/a'}]\n",
            "a:2:39: listeners[1].bind: `unix:/a` is taken by listeners[0].bind "
            "(give each listener its own path)",
        ),
        (
            "admin: {bind: '127.0.0.1:8080'}\n",
            "a:2:15: admin.bind: `127.0.0.1:8080` is taken by listeners[0].bind "
            "(give each listener its own port)",
        ),
        (
            "client:\n  max_target_size: 64KiB\n",
            "a:3:20: client.max_target_size: 65536 bytes do not fit in a head "
            "(max_head_size is 32768)",
        ),
        (
            "client:\n  max_head_size: 4KiB\n",
            "a:3:3: client.max_target_size: 8192 bytes do not fit in a head "
            "(max_head_size is 4096)",
        ),
    ],
)
def test_contradiction_has_a_place_and_a_hint(text: str, problem: str) -> None:
    assert said(text + "routes: [{upstream: app}]\n") == [problem]


def test_idle_connections_are_connections() -> None:
    text = (
        "upstreams:\n  a:\n    origins: ['http://a']\n    pool: {max_connections: 3, max_idle: 5}\n"
    )
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    assert str(caught.value) == (
        "a:4:42: upstreams.a.pool.max_idle: 5 is more than max_connections, 3 "
        "(write max_idle: 3 or less)"
    )


def test_max_idle_that_is_not_written_follows_max_connections() -> None:
    read(
        "upstreams: {a: {origins: ['http://a'], pool: {max_connections: 3}}}", file="a", environ={}
    )


def test_origin_is_listed_once() -> None:
    text = "upstreams: {a: {origins: ['http://a', 'http://b', 'http://A:80']}}\n"
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    assert str(caught.value) == (
        "a:1:51: upstreams.a.origins[2]: `http://a:80` is listed twice (keep one)"
    )


def test_a_mode_is_of_a_file() -> None:
    text = "upstreams: {a: {origins: ['http://a']}}\n"
    text += "listeners: [{bind: 'unix:/s', mode: 600}, {bind: 'a:1', mode: '0660'}]\n"
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    assert str(caught.value).endswith(
        "listeners[1].mode: has no meaning for `a:1`, which has no file "
        "(leave it out, or listen on unix:/path)"
    )


def test_several_upstreams_need_routes() -> None:
    assert said("") == [
        "a:1:1: routes: is missing: nothing says which requests go to app, api "
        "(write routes:, the last one `- upstream: app` for all that is left)"
    ]


def test_listeners_on_any_free_port_do_not_meet() -> None:
    binds = "listeners: [{bind: 'a:0'}, {bind: 'a:0'}]\nadmin: {bind: 'a:0'}\n"
    assert said(binds + "routes: [{upstream: app}]\n") == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("apps", "did you mean `app`?"), ("web", "known here: app, api")],
)
def test_route_to_an_unknown_upstream_names_the_nearest(name: str, hint: str) -> None:
    assert routes("upstream: app, path: /a", f"upstream: {name}") == [
        f"a:4:16: routes[1].upstream: no upstream is named `{name}` ({hint})"
    ]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("", "host: a.org, path: /a"),
        ("host: A.org", "host: a.org, path: /x"),
        ("host: '*.org'", "host: a.org"),
        ("host: '*.org'", "host: '*.a.org'"),
        ("path: /", "path: /a"),
        ("path: /a", "path: /a/b"),
        ("path: /a/", "path: /a/b"),
    ],
)
def test_route_below_one_that_takes_all_of_it_is_refused(wide: str, narrow: str) -> None:
    lines = [", ".join(filter(None, ["upstream: app", more])) for more in (wide, narrow)]
    assert routes(*lines) == [
        "a:4:5: routes[1]: can never match: routes[0] takes all of it first "
        "(put it above routes[0])"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [("", ""), ("host: a.org", "host: A.org"), ("path: /", ""), ("path: /a", "path: /a")],
)
def test_two_routes_for_the_same_requests_are_refused(first: str, second: str) -> None:
    lines = [", ".join(filter(None, ["upstream: app", more])) for more in (first, second)]
    assert routes(*lines) == [
        "a:4:5: routes[1]: can never match: routes[0] takes all of it first (keep one of them)"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("host: a.org", ""),
        ("host: a.org", "host: b.org"),
        ("host: '*.a.org'", "host: a.org"),
        ("host: a.org", "host: '*.a.org'"),
        ("host: '*.a.org'", "host: b.aa.org"),
        ("path: /a", ""),
        ("path: /a", "path: /b"),
        ("path: /a/b", "path: /a"),
        ("path: /a", "path: /ab"),
        ("host: a.org, path: /a", "host: a.org"),
        ("host: a.org, path: /a", "host: b.org, path: /a/b"),
    ],
)
def test_route_that_can_still_match_is_left_alone(first: str, second: str) -> None:
    lines = [", ".join(filter(None, ["upstream: app", more])) for more in (first, second)]
    assert routes(*lines) == []


def test_nearest_names_all_when_none_is_near() -> None:
    assert nearest("idle_timout", ["idle_timeout", "queue"]) == "did you mean `idle_timeout`?"
    assert nearest("colour", ["idle_timeout", "queue"]) == "known here: idle_timeout, queue"


def test_auto_makes_no_limit_too_small() -> None:
    assert said("workers: auto\nclient: {max_connections: 1}\nroutes: [{upstream: app}]\n") == []


def test_pool_of_one_cannot_be_divided() -> None:
    text = "workers: 2\nupstreams: {a: {origins: [3000], pool: {max_connections: 1}}}\n"
    with pytest.raises(SettingsErrors) as caught:
        read(text, file="a", environ={})
    assert str(caught.value) == (
        "a:2:58: upstreams.a.pool.max_connections: 1 cannot be divided among 2 workers "
        "(write 2 or more, or workers: 1)"
    )


@pytest.mark.parametrize("app", ["origins: [https://a], protocol: h2", "origins: ['h2c://a:1']"])
def test_a_connection_for_one_client_alone_speaks_no_http2(app: str) -> None:
    with pytest.raises(SettingsErrors, match=r"proxy_protocol: a connection that serves one"):
        read(f"upstreams: {{app: {{{app}, proxy_protocol: v2}}}}\n", file="a", environ={})

"""From a settings text to Settings, or to every problem in it at once, each with its place."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings.client import ClientSettings
from hopproxy.settings.networks import parse_network
from hopproxy.settings.reader import Problem, SettingsErrors, read
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Admin, Settings
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.settings.upstream import Pool, UpstreamSettings

APP = "upstreams: {app: {origins: ['http://a:3000']}}\n"
TWO = "upstreams: {app: {origins: ['http://a']}, api: {origins: ['http://b']}}\n"


def settings(text: str, **environ: str) -> Settings:
    return read(text, file="a.yaml", environ=environ)


def said(text: str, **environ: str) -> list[str]:
    """Every problem of `text`, without the file's name."""
    with pytest.raises(SettingsErrors) as caught:
        settings(text, **environ)
    lines = [str(problem) for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    assert all(line.startswith("a.yaml:") for line in lines)
    return [line.removeprefix("a.yaml:") for line in lines]


def test_one_origin_is_enough() -> None:
    upstream = UpstreamSettings(origins=(OriginAddress("tcp", "a", 3000),))
    expected = Settings(upstreams={"app": upstream}, routes=(Route(upstream="app"),))
    assert settings(APP) == expected


def test_everything_is_read_into_its_type() -> None:
    text = """
workers: auto
drain_timeout: 250ms
listeners:
  - bind: "[::]:80"
    backlog: 7
  - bind: unix:/run/h.sock
client: {max_head_size: 1KiB, max_target_size: 512, tcp_nodelay: no, max_age: 1h}
upstreams:
  app:
    origins: [http://a, unix:/run/a.sock]
    retry_idempotency_key: on
    pool: {max_idle: 0, queue: 0}
routes:
  - {upstream: app, host: "*.Example.org", path: /x}
  - {upstream: app}
admin: {bind: 127.0.0.1:0}
access_log: off
trusted_proxies: [10.0.0.0/8, ::1]
via: false
pseudonym: edge
underscore_fields: reject
trace: true
"""
    text = text.replace("::1]", "'::1']")
    origins = (OriginAddress("tcp", "a", 80), OriginAddress("unix", path="/run/a.sock"))
    got = settings(text)
    assert got.workers == "auto"
    assert got.drain_timeout == 0.25
    assert [(one.bind, one.backlog) for one in got.listeners] == [
        (Bind("tcp", "::", 80), 7),
        (Bind("unix", path="/run/h.sock"), 1024),
    ]
    assert got.client == ClientSettings(
        max_head_size=1024, max_target_size=512, tcp_nodelay=False, max_age=3600.0
    )
    assert got.upstreams == {
        "app": UpstreamSettings(
            origins=origins, retry_idempotency_key=True, pool=Pool(max_idle=0, queue=0)
        )
    }
    assert got.routes == (
        Route(upstream="app", host=("*.example.org",), path="/x"),
        Route(upstream="app"),
    )
    assert got.admin == Admin(bind=Bind("tcp", "127.0.0.1", 0))
    assert (got.access_log, got.via, got.trace) == ("off", "off", True)
    assert got.trusted_proxies == (parse_network("10.0.0.0/8"), parse_network("::1"))
    assert (got.pseudonym, got.underscore_fields) == ("edge", "reject")


def test_variables_are_read_from_the_environment() -> None:
    text = "workers: ${WORKERS:-2}\nvia: ${VIA}\n" + APP
    got = settings(text, VIA="off")
    assert (got.workers, got.via) == (2, "off")


def test_a_port_that_was_injected_for_a_service_is_not_set() -> None:
    app = "upstreams: {{app: {{origins: ['http://app:{port}']}}}}\n"
    text = app.format(port="${APP_PORT:-3000}")
    assert settings(text, APP_PORT="tcp://10.96.0.7:80") == settings(text)
    assert settings(text, APP_PORT="81") == settings(app.format(port="81"))
    assert said(app.format(port="${APP_PORT}"), APP_PORT="udp://10.96.0.7:53")[0].startswith(
        "1:29: upstreams.app.origins[0]: APP_PORT is not set "
        "(`udp://10.96.0.7:53` was put there for a Service) (set it, or write ${APP_PORT:-default}"
    )


@pytest.mark.parametrize("empty", ["client:", "routes:", "routes: []", "admin:", "admin: ~"])
def test_section_with_nothing_below_it_is_its_default(empty: str) -> None:
    assert settings(f"{APP}{empty}\n") == settings(APP)


def test_optional_word_filled_with_nothing_is_absent() -> None:
    text = APP + "routes:\n  - upstream: app\n    host: ${HOST:-}\n"
    assert settings(text).routes == (Route(upstream="app"),)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("workers: 0", "2:10: workers: `0` is too small (at least 1)"),
        ("workers: 1025", "2:10: workers: `1025` is too large (at most 1024)"),
        (
            "workers: all",
            "2:10: workers: `all` is not a whole number (write plain digits, like 1024, or auto)",
        ),
        (
            "max_upstream_connections: 0777",
            "2:27: max_upstream_connections: `0777` begins with a zero "
            "(octal is not read; write 511 if octal was meant, or 777)",
        ),
        (
            "drain_timeout: 30",
            "2:16: drain_timeout: `30` has no unit (write 30s for seconds, or 30ms)",
        ),
        (
            "listeners: [{bind: '8080:22'}]",
            "2:20: listeners[0].bind: `8080:22` is two numbers, not host:port "
            "(ports are not mapped here; write 127.0.0.1:8080)",
        ),
        (
            "listeners: 127.0.0.1:80",
            "2:12: listeners: is not a list (write `- bind: 127.0.0.1:80` below it)",
        ),
        ("listeners: {bind: a:1}", "2:12: listeners: is not a list (begin each item with a dash)"),
        ("listeners: []", "2:12: listeners: is empty (at least one is needed)"),
        ("listeners:", "2:11: listeners: is empty (at least one is needed)"),
        (
            "listeners: [a:80]",
            "2:13: listeners[0]: is not a mapping (write `bind: a:80` below it)",
        ),
        (
            "client: {linger_timeout: off}",
            "2:26: client.linger_timeout: `off` could mean two things here "
            "(write 0s not to wait at all, or a long time like 1d)",
        ),
        (
            "client: {idle_timeout: never}",
            "2:24: client.idle_timeout: `never` is not a duration (did you mean `off`?)",
        ),
        (
            "client: {max_head_size: 255B}",
            "2:25: client.max_head_size: `255B` is too small (at least 256B)",
        ),
        ("client: {max_requests: -1}", "2:24: client.max_requests: `-1` is too small (at least 0)"),
        (
            "client: {max_requests: [1]}",
            "2:24: client.max_requests: is a list, not one word (write 1)",
        ),
        ("via: {on: on}", "2:6: via: is a mapping, not one word (write one of these)"),
        (
            "routes: [{upstream: app, request_fields: {set: {X: [1, 2]}}}]",
            "2:52: routes[0].request_fields.set.X: is a list, not one word (write one value)",
        ),
        (
            "routes: [{upstream: app, request_fields: {set: {X: {host}}}}]",
            "2:52: routes[0].request_fields.set.X: is a mapping, not one word "
            "(write one value, in quotes if it has braces or a colon)",
        ),
        (
            "upstreams: {a: {origins: [1], host: 'http://x/y'}}",
            "2:1: upstreams: is given twice (first on line 1; keep one)\n"
            "2:37: upstreams.a.host: `http://x/y` is a URL (write x, or origin, pass)",
        ),
        ("via:", "2:5: via: has no value (leave the line out for the default)"),
        (
            "via: ''",
            "2:6: via: `` is not one of both, request, response, off (write one of these)",
        ),
        (
            "via: 1",
            "2:6: via: `1` is not one of both, request, response, off (write one of these)",
        ),
        (
            "access_log: jsn",
            "2:13: access_log: `jsn` is not one of json, off, text (did you mean `json`?)",
        ),
        (
            "access_log: false",
            "2:13: access_log: `false` is not one of json, off, text (did you mean `off`?)",
        ),
        (
            "pseudonym: a b",
            "2:12: pseudonym: `a b` is not a name (write letters, digits, - and _ without spaces)",
        ),
        ("admin: {}", "2:8: admin.bind: is missing (Address of the admin listener; `off`: none.)"),
        ("wrkers: 1", "2:1: wrkers: is not a setting (did you mean `workers`?)"),
        (
            "idle_timeout: 1s",
            "2:1: idle_timeout: is not a setting "
            "(it belongs to client.idle_timeout or upstreams.<name>.pool.idle_timeout)",
        ),
        (
            "admin: {colour: red}",
            "2:8: admin.bind: is missing (Address of the admin listener; `off`: none.)\n"
            "2:9: admin.colour: is not a setting (known here: bind)",
        ),
        (
            "routes: [{host: 'a:80', upstream: app}]",
            "2:17: routes[0].host: `a:80` has a port "
            "(a route compares the host alone: leave the port out)",
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            "2:19: trusted_proxies[0]: `10.0.0.1/8` has bits set after its prefix "
            "(its block is 10.0.0.0/8)",
        ),
        ("workers: ${N}", "2:10: workers: N is not set (set it, or write ${N:-default})"),
        (
            "workers: ${SEVEN}",
            "2:10: workers: `seven` is not a whole number "
            "(write plain digits, like 1024, or auto; it came from ${SEVEN})",
        ),
        ("via: on\nvia: off", "3:1: via: is given twice (first on line 2; keep one)"),
        (
            "via: on\nvia: maybe",
            "3:1: via: is given twice (first on line 2; keep one)\n"
            "3:6: via: `maybe` is not one of both, request, response, off (write one of these)",
        ),
        ("via: !!bool on", "2:6: via: has a tag (tags like !!str are not read)"),
    ],
)
def test_problem_has_its_place_its_path_and_a_hint(line: str, problem: str) -> None:
    assert said(f"{APP}{line}\n", SEVEN="seven") == problem.split("\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers: 1", "1:1: upstreams: is missing (The applications, by name.)"),
        ("upstreams: {}", "1:12: upstreams: is empty (at least one is needed)"),
        ("upstreams:", "1:11: upstreams: is empty (at least one is needed)"),
        (
            "upstreams: [a]",
            "1:12: upstreams: is not a mapping "
            "(write a name of your choice, like `app:`, and its settings below it)",
        ),
        ("upstreams: ${NO}", "1:12: upstreams: NO is not set (set it, or write ${NO:-default})"),
        (
            "upstreams: {app: {}}",
            "1:18: upstreams.app.origins: is missing "
            "(Where the application is: `http://host:port`, `https://host:port`, "
            "`h2c://host:port` (HTTP/2 without TLS), `port`, "
            "`unix:/path` or `srv://name`; behind it `weight=2` and `backup`.)",
        ),
        ("upstreams: {a: {origins: []}}", "1:26: upstreams.a.origins: is empty"),
        ("upstreams: {a: {origins: http://b/c}}", "1:26: upstreams.a.origins: `http://b/c` has"),
        (
            "upstreams: {app: http://a}",
            "1:18: upstreams.app: is not a mapping (write `origins: [http://a]` below it)",
        ),
        (
            "upstreams: {a b: {origins: ['http://a']}}",
            "1:13: upstreams.a b: `a b` is not a name",
        ),
        (
            "upstreams: {a: {origins: ['ftp://b']}}",
            "1:27: upstreams.a.origins[0]: `ftp` is not supported as a scheme",
        ),
        (
            "upstreams: {a: {origins: ['http://b']}, a: {origins: ['http://c']}}",
            "1:41: upstreams.a: is given twice",
        ),
        ("- a", "1:1: is not a mapping (it is one section, not a list: leave out the dash or the"),
        ("word", "1:1: is not a mapping (its settings are workers, drain_delay,"),
        ("a: [", "1:5: is not YAML: while parsing a flow node"),
        ("", "1:1: is empty (at least `upstreams:` is needed)"),
    ],
)
def test_text_without_a_usable_upstream_has_one_problem(text: str, problem: str) -> None:
    (only,) = said(text)
    assert only.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "upstreams:\n  app:\n    origins:[3000]\n",
            "3:5: upstreams.app: is not a mapping (put a space after the colon: `origins: [3000]`)",
        ),
        (
            "upstreams:\n  app:\n    origins:[3000]\n    connect_timeout: 3s\n",
            "3:5: has no space after the colon (write origins: [3000])",
        ),
        (
            "upstreams:\n  app:\n    connect_timeout: 3s\n    origins:[3000]\n",
            "4:5: has no space after the colon (write origins: [3000])",
        ),
        ("workers:4\n" + APP, "1:1: has no space after the colon (write workers: 4)"),
        (APP + "workers:4\n", "2:1: has no space after the colon (write workers: 4)"),
        (
            APP + "listeners:\n  - bind:8080\n",
            "3:5: listeners[0]: is not a mapping (put a space after the colon: `bind: 8080`)",
        ),
        (
            APP + "listeners:\n  - bind:8080\n    backlog: 3\n",
            "3:5: has no space after the colon (write bind: 8080)",
        ),
        (
            "upstreams:\n  app:\n    origins: [3000]\n    pool\n",
            "4:5: is not YAML: while scanning a simple key, could not find expected ':' (look at "
            "the indentation, the space after each colon, and open quotes or brackets)",
        ),
        (
            "upstreams:\n  origins: [3000]\n",
            "2:3: upstreams.origins: is a setting, not a name "
            "(put a name of your choice above it, like `app:`)",
        ),
        (
            APP + "admin: 9901\n",
            "2:8: admin: is not a mapping (write `bind: 127.0.0.1:9901` below it)",
        ),
        (
            APP + "admin: 127.0.0.1:9901\n",
            "2:8: admin: is not a mapping (write `bind: 127.0.0.1:9901` below it)",
        ),
    ],
)
def test_slip_of_the_keyboard_is_named(text: str, problem: str) -> None:
    assert said(text) == [problem]


@pytest.mark.parametrize("word", ["0", "0s", "off"])
def test_timeout_that_is_off_has_no_end(word: str) -> None:
    got = settings(
        f"client: {{idle_timeout: {word}, head_timeout: {word}}}\n"
        f"upstreams: {{app: {{origins: [3000], response_timeout: {word}, "
        f"pool: {{idle_timeout: {word}, queue_timeout: {word}}}}}}}\n"
    )
    app = got.upstreams["app"]
    timeouts = [got.client.idle_timeout, got.client.head_timeout, app.response_timeout]
    assert [*timeouts, app.pool.idle_timeout, app.pool.queue_timeout] == [math.inf] * 5


def test_off_is_zero_where_zero_means_none() -> None:
    got = settings(
        "client: {max_age: off, max_requests: off, max_body_size: off, tcp_keepalive: off}\n"
        "upstreams: {app: {origins: [3000], tcp_user_timeout: off, pool: {queue: off}}}\n"
    )
    client, app = got.client, got.upstreams["app"]
    assert (client.max_age, client.max_requests, client.max_body_size) == (0, 0, 0)
    assert (client.tcp_keepalive, app.tcp_user_timeout, app.pool.queue) == (0, 0, 0)


@pytest.mark.parametrize(
    "text", ["admin: off", "admin: {bind: off}", "admin: {bind: '${ADMIN}'}", "admin: ${ADMIN}"]
)
def test_admin_listener_is_switched_off(text: str) -> None:
    assert settings(APP + text, ADMIN="off").admin is None


@pytest.mark.parametrize(
    ("value", "networks"),
    [
        ("", []),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("10.0.0.0/8,::1/128", ["10.0.0.0/8", "::1/128"]),
        (" 10.0.0.0/8 , ::1/128\n192.0.2.1/32,", ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]),
    ],
)
def test_list_comes_from_one_variable(value: str, networks: list[str]) -> None:
    for line in ("trusted_proxies: ${TRUSTED:-}", "trusted_proxies:\n  - ${TRUSTED:-}"):
        got = settings(f"{APP}{line}\n", TRUSTED=value)
        assert [str(network) for network in got.trusted_proxies] == networks


def test_list_from_a_variable_stands_beside_what_is_written() -> None:
    text = "upstreams: {app: {origins: ['${MORE}', 4000]}}\n"
    origins = settings(text, MORE="3000, app:80").upstreams["app"].origins
    assert [str(origin) for origin in origins] == [
        "http://localhost:3000",
        "http://app:80",
        "http://localhost:4000",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "trusted_proxies: ${T}",
            "2:18: trusted_proxies[1]: `ten` is not a network "
            "(write it like 10.0.0.0/8 or fd00::/8, or unix; it came from ${T})",
        ),
        (
            "trusted_proxies: 10.0.0.0/8, ::1",
            '2:18: trusted_proxies: is not a list (write [10.0.0.0/8, "::1"])',
        ),
        ("listeners: ${T}", "2:12: listeners: is not a list (begin each item with a dash)"),
    ],
)
def test_list_from_a_variable_that_is_wrong(line: str, problem: str) -> None:
    assert said(f"{APP}{line}\n", T="::1,ten") == [problem]


def test_empty_variable_is_no_list_where_one_is_needed() -> None:
    assert said("upstreams: {app: {origins: '${NO:-}'}}\n") == [
        "1:28: upstreams.app.origins: is empty (at least one is needed)"
    ]


def test_all_problems_come_at_once_in_the_order_of_the_text() -> None:
    text = """\
routes:
  - upstream: ap
  - host: a.org
upstreams:
  app:
    origins: [https://a/b, localhost]
    pool: {max_idle: 10, max_connections: 3}
via: maybe
wrkers: 3
client:
  max_age: -4s
  max_body_size: ${NO}
"""
    assert [line.partition(" (")[0] for line in said(text)] == [
        "2:15: routes[0].upstream: no upstream is named `ap`",
        "3:5: routes[1].upstream: is missing",
        "6:15: upstreams.app.origins[0]: `https://a/b` has more than a host and a port",
        "6:28: upstreams.app.origins[1]: `localhost` has no port",
        "7:22: upstreams.app.pool.max_idle: 10 is more than max_connections, 3",
        "8:6: via: `maybe` is not one of both, request, response, off",
        "9:1: wrkers: is not a setting",
        "11:12: client.max_age: `-4s` is not a duration",
        "12:18: client.max_body_size: NO is not set",
    ]


def test_problem_of_an_anchor_is_said_once() -> None:
    text = "upstreams:\n  a: &x {origins: ['http://a'], conect_timeout: 1s}\n  b: *x\n"
    assert said(text + "routes: [{upstream: a}]\n") == [
        "2:33: upstreams.b.conect_timeout: is not a setting (did you mean `connect_timeout`?)"
    ]


def test_alias_repeats_a_section() -> None:
    text = "upstreams:\n  a: &x {origins: ['http://a']}\n  b: *x\nroutes: [{upstream: b}]\n"
    got = settings(text)
    assert got.upstreams["a"] == got.upstreams["b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Whether a route hides another cannot be judged while its host is not understood.
        (
            APP + "routes:\n - {upstream: app, hots: a}\n - {upstream: app}\n",
            "3:20: routes[0].hots: is not a setting (did you mean `host`?)",
        ),
        (
            APP + "client: {max_head_size: 1, max_target_size: 64KiB}\n",
            "2:25: client.max_head_size: `1` is too small (at least 256B)",
        ),
        (
            APP + "listeners:\n - {bind: nowhere}\n - {bind: 127.0.0.1:8080}\n",
            "3:11: listeners[0].bind: `nowhere` has no port "
            "(write it with a port, like nowhere:9000)",
        ),
        (
            TWO + "routes: [app]\n",
            "2:10: routes[0]: is not a mapping (write `upstream: app` below it)",
        ),
    ],
)
def test_nothing_is_concluded_from_what_was_not_understood(text: str, problem: str) -> None:
    assert said(text) == [problem]


@given(st.text(max_size=60))
def test_any_text_is_settings_or_problems(text: str) -> None:
    with pytest.raises(SettingsErrors) as caught:
        settings(text)
    assert caught.value.problems


@given(
    st.recursive(
        st.sampled_from(["", "1", "on", "app", "http://a", "5s", "${X}", "~", "a:80", "/a"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    ["upstreams", "app", "origins", "routes", "upstream", "host", "pool", "bind",
                     "listeners", "admin", "client", "max_idle", "workers", "path"]
                ),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_tree_is_settings_or_problems(tree: object) -> None:
    # JSON is YAML, and quotes every word; the keys are those that settings have.
    text = msgspec.json.encode(tree).decode()
    problems: tuple[Problem, ...] = ()
    try:
        understood = settings(text).upstreams != {}
    except SettingsErrors as errors:
        problems, understood = errors.problems, False
    assert understood is (problems == ())
    assert problems == tuple(sorted(problems, key=lambda one: (one.line, one.column, one.message)))

"""What may be written about routes, and what is said about the rest."""

import pytest

from hopproxy.settings.rates import format_rate, parse_rate
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.route import FieldEdits, Respond, Route, RouteLimits

APP = "upstreams: {app: {origins: [3000]}}\n"


def routes(text: str) -> tuple[Route, ...]:
    return read(f"{APP}routes: {text}\n", file="f", environ={"HOSTS": "a,b"}).routes


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsErrors) as found:
        read(text, file="f", environ={})
    return [f"{one.path}: {one.message} ({one.hint})" for one in found.value.problems]


def test_a_route_may_have_one_host_or_several() -> None:
    assert routes("[{upstream: app, host: A.example}]")[0].host == ("a.example",)
    assert routes('[{upstream: app, host: [a, "*.b"]}]')[0].host == ("a", "*.b")
    assert routes('[{upstream: app, host: "${HOSTS}"}]')[0].host == ("a", "b")


def test_a_body_is_kept_as_it_is_written() -> None:
    [route] = routes('\n  - respond: {body: " a\\nb $$ ${HOSTS}\\n"}')
    assert route.respond is not None
    assert route.respond.body == " a\nb $ a,b\n"


def test_everything_about_a_route() -> None:
    (first, *_) = routes(
        """
  - {upstream: app, path: /api, strip: /api/, response_timeout: off, max_body_size: 1m,
     request_fields: {set: {X-N: 1}, add: {X-A: [a, b], X-B: "{client}"}, remove: X-C}}
  - {redirect: "https://a{path}", redirect_status: 302, host: b}
  - {redirect: https}
  - {respond: {status: 404, body: none}, path: /x, exact: on}
  - {upstream: app}
"""
    )
    assert first.request_fields == FieldEdits(
        set={"X-N": "1"}, add={"X-A": ("a", "b"), "X-B": ("{client}",)}, remove=("X-C",)
    )
    assert (first.max_body_size, first.response_timeout) == (1048576, float("inf"))
    assert routes("[{respond: {}}]")[0].respond == Respond()
    assert routes("[{upstream: app, respond: off}]")[0].respond is None


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{}", "routes[0].upstream: is missing (write upstream: NAME, or redirect, or respond)"),
        ("{upstream: app, redirect: https}",
         "routes[0]: has `upstream` and `redirect` (keep one of them)"),
        ("{upstream: ap}", "routes[0].upstream: no upstream is named `ap` (did you mean `app`?)"),
        ("{upstream: app, host: []}", "routes[0].host: names no host "
         "(leave it out: the route then takes every host)"),
        ("{redirect: 'https://a:65536/'}", "routes[0].redirect: `https://a:65536/` has no valid "
         "host (write a host, maybe with a port up to 65535)"),
        ("{redirect: 'https://{host}@evil/'}", "routes[0].redirect: `https://{host}@evil/` has no "
         "valid host (write a host, maybe with a port up to 65535)"),
        ("{redirect: foo}", "routes[0].redirect: `foo` is not a redirect "
         "(write https, https://example.org{path}, or a path like /login)"),
        ("{redirect: //a}", "routes[0].redirect: `//a` is not a redirect "
         "(write https, https://example.org{path}, or a path like /login)"),
        ("{redirect: '/{path}'}",
         "routes[0].redirect: `/{path}` can begin with two slashes, and what follows them is "
         "another host (write one slash before the rest, such as /new{path})"),
        ("{redirect: '/{query}{path}'}", "routes[0].redirect: `/{query}{path}` can begin with two "
         "slashes, and what follows them is another host (write one slash before the rest, such as "
         "/new{path})"),
        (r"{redirect: '/\\evil'}", r"routes[0].redirect: `/\\evil` is not a redirect "
         "(write https, https://example.org{path}, or a path like /login)"),
        ("{redirect: 'https://{path}'}", "routes[0].redirect: `https://{path}` is not a redirect "
         "(write https, https://example.org{path}, or a path like /login)"),
        ("{redirect: 'https://{hst}'}",
         "routes[0].redirect: `{hst}` is not a variable (did you mean {host}?)"),
        ("{redirect: https, redirect_status: 304}",
         "routes[0].redirect_status: `304` is not the status of a redirect (301 and 308 are "
         "permanent, 302, 303 and 307 are not; 307 and 308 keep the method)"),
        ("{upstream: app, redirect_status: 302}",
         "routes[0].redirect_status: has no effect without `redirect` (leave it out)"),
        ("{redirect: https, status: 302}", "routes[0].status: is not a setting "
         "(did you mean `redirect_status`, or `status` below `respond`?)"),
        ("{upstream: app, request_fields: {set: {X-A: }}}",
         'routes[0].request_fields.set.X-A: has no value (write a value; "" is an empty one)'),
        ("{upstream: app, request_fields: {set: {X_Real_IP: a}}}",
         "routes[0].request_fields.set.X_Real_IP: applications may take `X_Real_IP` for "
         "`X-Real-IP` (write X-Real-IP)"),
        ("{upstream: app, request_fields: {set: {X_Forwarded_For: a}}}",
         "routes[0].request_fields.set.X_Forwarded_For: `X_Forwarded_For` cannot be changed "
         "(`forwarding` and `trusted_proxies` say what the origin is told about the client)"),
        ("{redirect: https, strip: /a, path: /a}",
         "routes[0].strip: has no effect: `redirect` asks no origin (leave it out)"),
        ("{respond: {status: 204, body: x}}",
         "routes[0].respond.body: a 204 has no body (leave it out)"),
        ("{upstream: app, exact: on}",
         "routes[0].exact: has no effect without `path` (write a path)"),
        ("{upstream: app, path: /apis, strip: /api}", "routes[0].strip: `/api` is not the "
         "beginning of every path of this route (write path: /api)"),
        ("{upstream: app, host: [a, 'a:80']}", "routes[0].host[1]: `a:80` has a port "
         "(a route compares the host alone: leave the port out)"),
        ("{upstream: app, request_fields: {set: {A: b}, remove: a}}",
         "routes[0].request_fields.remove[0]: `a` is named twice, here and in `set` "
         "(`set` alone replaces it)"),
        ("{upstream: app, request_fields: {remove: [a, A]}}",
         "routes[0].request_fields.remove[1]: `A` is named twice, here and in `remove` "
         "(keep one)"),
        ("{upstream: app, response_fields: {set: {A: b, a: b}}}",
         "routes[0].response_fields.set.a: `a` is named twice, here and in `set` (keep one)"),
        ("{upstream: app, request_fields: {add: {X_y: b}}}",
         "routes[0].request_fields.add.X_y: is removed from requests by its name (write `set`)"),
        ("{upstream: app, request_fields: {set: [a]}}", "routes[0].request_fields.set: is not a "
         "mapping (write a name and a value in each line below it, like `X-Name: value`)"),
        ("{upstream: app, request_fields: {set: {'A:': b}}}",
         "routes[0].request_fields.set.A:: `A:` ends with a colon (write A)"),
        ('{upstream: app, request_fields: {set: {A: "b\\r\\nC: d"}}}',
         "routes[0].request_fields.set.A: is not the value of a field "
         "(write visible ASCII in one line; other text is percent-encoded)"),
        ("{upstream: app, request_fields: {set: {A: é}}}",
         "routes[0].request_fields.set.A: is not the value of a field "
         "(write visible ASCII in one line; other text is percent-encoded)"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_route_is_reported(route: str, problem: str) -> None:
    assert problems(f"{APP}routes: [{route}]\n") == [problem]


@pytest.mark.parametrize(
    "name",
    ["Connection", "te", "Upgrade", "Keep-Alive", "Transfer-Encoding", "content-length", "Host",
     "Via", "Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "Expect",
     "Date", "Trailer", "Max-Forwards", "Proxy-Authorization", "HTTP2-Settings",
     "X_Forwarded_For", "Content_Length"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["set: {%s: a}", "add: {%s: a}", "remove: [%s]"])
@pytest.mark.parametrize("where", ["request_fields", "response_fields"])
def test_fields_of_one_hop_and_our_own_cannot_be_changed(name: str, how: str, where: str) -> None:
    (problem,) = problems(f"{APP}routes: [{{upstream: app, {where}: {{{how % name}}}}}]\n")
    assert f"`{name}`" in problem


def test_an_unknown_variable_is_reported_with_all_that_exist() -> None:
    (problem,) = problems(
        f"{APP}routes: [{{upstream: app, request_fields: {{set: {{A: '{{zz}}'}}}}}}]"
    )
    assert problem.startswith("routes[0].request_fields.set.A: `{zz}` is not a variable (there are")
    assert "{client}" in problem
    assert "write {{zz}} for plain braces" in problem


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("host: [a, b]", "host: b", True),
        ("host: b", "host: [a, b]", False),
        ("host: '*.a'", "host: [b.a, '*.c.a']", True),
        ("host: a", "path: /x", False),
        ("path: /x, exact: on", "path: /x", False),
        ("path: /x, exact: on", "path: /x, exact: on", True),
        ("path: /x", "path: /x, exact: on", True),
        ("path: /, exact: on", "path: /x", False),
        ("path: /", "path: /x", True),
        ("path: /x", "path: /xy", False),
        ("path: /x", "path: //%78/y", True),
        ("path: //x, exact: on", "path: /%78, exact: on", True),
        ("path: /x, exact: on", "path: /x/y, exact: on", False),
    ],
)
def test_a_route_behind_one_that_takes_all_of_it(first: str, second: str, hidden: bool) -> None:
    text = f"[{{upstream: app, {first}}}, {{upstream: app, {second}}}]"
    if not hidden:
        assert len(routes(text)) == 2
        return
    (problem,) = problems(f"{APP}routes: {text}")
    assert problem.startswith("routes[1]: can never match: routes[0] takes all of it first")


@pytest.mark.parametrize(
    "to",
    [
        "https://a.example:8443{path}", "{scheme}://{host}:8443{path}{query}", "https://[::1]:1{path}",
        "https://{authority}", "https://www.{host}?a={path}", "https://a{query}", "/a:b@c",
    ],
)  # fmt: skip
def test_a_redirect_with_a_valid_host(to: str) -> None:
    assert routes(f"[{{redirect: '{to}'}}]")[0].redirect == to


def test_a_redirect_to_https_hides_nothing_but_itself() -> None:
    assert len(routes("[{redirect: https}, {upstream: app}]")) == 2
    assert problems(f"{APP}routes: [{{redirect: https}}, {{redirect: https}}]")


@pytest.mark.parametrize(
    ("host", "fine"),
    [("pass", True), ("origin", True), ("App.example:81", True), ("[::1]:80", True),
     ("[::1]", True), ("*.a", False), ("a b", False), ("http://a", False), ("a:99999", False)],
)  # fmt: skip
def test_the_host_for_origins(host: str, fine: bool) -> None:
    text = f"upstreams: {{app: {{origins: [3000], host: '{host}'}}}}"
    if fine:
        assert read(text, file="f", environ={}).upstreams["app"].host == host
    else:
        assert problems(text)[0].startswith("upstreams.app.host: ")


@pytest.mark.parametrize(
    ("written", "rate"), [("100/s", 100.0), ("600/m", 10.0), ("1800/h", 0.5), ("1/h", 1 / 3600)]
)
def test_rates_of_a_route(written: str, rate: float) -> None:
    (route,) = routes(f"[{{upstream: app, limits: {{rate: {written}}}}}]")
    assert route.limits == RouteLimits(rate=rate, burst=None, by="client")


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ("{}", "rate: is missing"),
        ("{rate: 100}", "rate: `100` is not a rate (write 100/s, 100/m or 100/h)"),
        ("{rate: 100r/s}", "rate: `100r/s` is not a rate (write 100/s)"),
        ("{rate: 5 per minute}", "rate: `5 per minute` is not a rate (write 5/m)"),
        ("{rate: fast}", "rate: `fast` is not a rate (write it like 100/s, 600/m or 1000/h)"),
        ("{rate: 0/s}", "rate: `0/s` lets nothing pass"),
        ("{rate: 1/s, by: ip}", "by: `ip` is not client, all or header:NAME (write one of these)"),
        ("{rate: 1/s, by: 'header:'}", "by: `` is not a name"),
        ("{rate: 1/s, burst: 0}", "burst: "),
    ],
)
def test_limits_that_cannot_be_read(limits: str, problem: str) -> None:
    (found,) = problems(f"{APP}routes: [{{upstream: app, limits: {limits}}}]\n")
    assert found.startswith(f"routes[0].limits.{problem}")


def test_limits_may_be_counted_by_a_field_or_together() -> None:
    for by in ("all", "header:X-Key"):
        (route,) = routes(f"[{{upstream: app, limits: {{rate: 1/s, burst: 5, by: '{by}'}}}}]")
        assert route.limits == RouteLimits(rate=1.0, burst=5, by=by.lower())


@pytest.mark.parametrize("rate", [100.0, 10.0, 0.5, 1 / 3600, 1 / 60])
def test_a_rate_is_written_as_it_is_read(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == pytest.approx(rate)

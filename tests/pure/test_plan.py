"""What a route changes: fields, paths, hosts, URLs that come back, ids, and its own answers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from hopproxy.errors import Denied, HopError
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.routing.plan import Plan, plan_of
from hopproxy.rules.edits import with_host, with_length
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.hop import Underscores, request_for_upstream, response_lines
from hopproxy.rules.location import Origins, authority_names
from hopproxy.rules.request_id import identify
from hopproxy.rules.template import (
    NOTHING_ASKED,
    VARIABLES,
    Asked,
    Template,
    UnknownVariable,
)
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.networks import parse_network
from hopproxy.settings.route import FieldEdits, Respond, Route
from hopproxy.wire import http1
from tests.pure.search import answer, get, search

SHADOW = Underscores.SHADOW


def sender(*trusted: str, address: str = "10.0.0.1") -> Sender:
    return Sender(address, b"http", [parse_network(one) for one in trusted])


def made(route: Route, host: str = "pass", ids: tuple[str, ...] = ()) -> Plan:
    plan = plan_of(route, host, ids, SHADOW)
    assert plan is not None
    return plan


def written(
    head: RequestHead, underscores: Underscores = SHADOW, extra: bytes = b""
) -> list[bytes]:
    """The lines of this head on the upstream hop, with these."""
    return request_for_upstream(head, extra, b"", underscores).split(b"\r\n")[:-2]


def outgoing(plan: Plan, head: RequestHead) -> list[bytes]:
    out, extra = plan.outgoing(head, Asked(head, sender()))
    return written(out, extra=extra)


def incoming(plan: Plan, head: ResponseHead, of: RequestHead | None = None) -> list[bytes]:
    asked = Asked(of or get(), sender())
    out, added = plan.incoming(head, b"Via: us\r\n", asked, b"app:3000")
    return response_lines(out) + added.removesuffix(b"Via: us\r\n").split(b"\r\n")[:-1]


def test_a_route_that_changes_nothing_has_no_plan() -> None:
    assert plan_of(Route(upstream="app", max_body_size=1), "pass", (), SHADOW) is None
    rules = made(Route(upstream="app", request_fields=RULES)).request
    assert [rules.adds(name) for name in (b"x-a", b"x-b", b"x-c")] == [True, True, False]
    for route, host in (
        (Route(upstream="app", response_timeout=1.0), "pass"),
        (Route(upstream="app"), "origin"),
        (Route(redirect="https"), "pass"),
        (Route(respond=Respond()), "pass"),
    ):
        assert plan_of(route, host, (), SHADOW) is not None


RULES = FieldEdits(set={"X-A": "1"}, add={"X-B": ("2", "3")}, remove=("X-C", "X-Real-IP"))


@pytest.mark.parametrize("start", [b"GET /p?q HTTP/1.1", b"GET /p?q HTTP/1.0"])
def test_fields_are_set_added_and_removed(start: bytes) -> None:
    plan = made(Route(upstream="app", request_fields=RULES))
    lines = [b"x-a: 0", b"X-B: 0", b"X-C: 0", b"X-Real-IP: 1.1.1.1", b"X-D: 0", b"x_a: 0"]
    head = get(*lines, start=start)
    for _ in range(2):  # the second time from the cache
        assert outgoing(plan, head) == [
            b"GET /p?q HTTP/1.1", b"Host: a", b"X-B: 0", b"X-D: 0", b"X-A: 1", b"X-B: 2", b"X-B: 3",
        ]  # fmt: skip
    assert head.lines[1:] == lines
    assert outgoing(plan, get(start=start))[2:] == [b"X-A: 1", b"X-B: 2", b"X-B: 3"]


def test_underscores_are_kept_where_the_settings_keep_them() -> None:
    plan = Plan(Route(upstream="app", request_fields=RULES), "pass", (), Underscores.KEEP)
    head = get(b"x_a: 0")
    out, _ = plan.outgoing(head, Asked(head, sender()))
    assert b"x_a: 0" in written(out, Underscores.KEEP)


def test_connection_removes_no_field_that_a_rule_sets() -> None:
    plan = made(Route(upstream="app", request_fields=RULES, response_fields=RULES))
    named = b"Connection: X-A, X-D"
    assert outgoing(plan, get(named, b"X-D: 0"))[2:] == [b"X-A: 1", b"X-B: 2", b"X-B: 3"]
    assert incoming(plan, answer(named, b"X-D: 0")) == [b"X-A: 1", b"X-B: 2", b"X-B: 3"]


def test_credentials_that_are_removed_bind_nothing() -> None:
    rules = FieldEdits(remove=("Authorization",))
    plan = made(Route(upstream="app", request_fields=rules, strip="/p"))
    for line, binds in ((b"Authorization: NTLM x", False), (b"X: y", False)):
        head = get(line)
        assert plan.outgoing(head, Asked(head, sender()))[0].binds is binds
    head = get(b"Authorization: NTLM x")
    kept = made(Route(upstream="app", strip="/p"))
    assert kept.outgoing(head, Asked(head, sender()))[0].binds


def test_the_path_is_stripped_by_whole_segments() -> None:
    plan = made(Route(upstream="app", strip="/p/"))
    for target, seen in (
        (b"/p/x?y", b"/x?y"), (b"/p", b"/"), (b"/p?q", b"/?q"), (b"/x", b"/x"), (b"*", b"*"),
        (b"/p/%2Fx//y;%7A", b"/%2Fx//y;%7A"), (b"/%70/a%20b?%70", b"/a%20b?%70"), (b"//p", b"/"),
        (b"/p/../p/x", b"/x"), (b"/p/%2e/x%3F", b"/x%3F"), (b"/x/../p//%ff", b"/%FF"),
        (b"/p/.well-known/%41", b"/.well-known/%41"), (b"/p%2Fx", b"/x"), (b"/p/..%2Fp/x", b"/x"),
        (b"/p/a%2F..%2fb", b"/b"),
    ):  # fmt: skip
        assert plan.stripped(target) == seen
    for start in (b"GET /p/x HTTP/1.1", b"GET /p/x HTTP/1.0"):
        head = get(b"A: 1", start=start)
        assert outgoing(plan, head) == [b"GET /x HTTP/1.1", b"Host: a", b"A: 1"]


def test_the_host_is_replaced_where_it_stands() -> None:
    plan = made(Route(upstream="app"), "app.example")
    assert outgoing(plan, get(b"A: 1"))[1:] == [b"Host: app.example", b"A: 1"]
    nameless = get(b"A: 1", start=b"GET / HTTP/1.0", host=None)
    assert outgoing(plan, nameless)[1:] == [b"Host: app.example", b"A: 1"]
    own = made(Route(upstream="app"), "origin")
    head = get(b"A: 1")
    assert written(own.for_origin(head, b"o:1"))[1:] == [b"Host: o:1", b"A: 1"]
    assert plan.for_origin(head, b"o:1") is head
    again = with_host(with_host(head, b"b"), b"c")
    assert written(again)[1:] == [b"Host: c", b"A: 1"]
    assert again.host == b"a"


def test_a_collected_body_has_a_length() -> None:
    head = get(b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Trailer: X", b"A: 1",
               start=b"POST / HTTP/1.1")  # fmt: skip
    for length in (0, 5):
        out = with_length(head, length)
        assert written(out)[2:] == [b"A: 1", b"Content-Length: %d" % length]
        assert (out.length, out.expects, bool(out.body.value == "none")) == (
            length, False, length == 0,
        )  # fmt: skip


# -- variables -------------------------------------------------------------------------------


def test_variables_stand_for_parts_of_the_request() -> None:
    text = "{method}|{scheme}|{authority}|{host}|{path}|{query}|{client}|{request_id}|{{x}}|100%"
    head = get(start=b"GET /p?q=1 HTTP/1.1", host=b"[::1]:81")
    filled = Template(text).filled(Asked(head, sender(), b"id"))
    assert filled == b"GET|http|[::1]:81|[::1]|/p|?q=1|10.0.0.1|id|{x}|100%"
    assert Template("{x").filled(Asked(head, sender())) == b"{x"
    assert Template('{"a": 1}').filled(NOTHING_ASKED) == b'{"a": 1}'
    assert Template("{path}").filled(Asked(get(start=b"OPTIONS * HTTP/1.1"), sender())) == b""
    with pytest.raises(UnknownVariable) as unknown:
        Template("{hst}")
    assert unknown.value.name == "hst"


def test_a_trusted_proxy_names_the_client_and_the_scheme() -> None:
    head = get(b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: HTTPS")
    form = Template("{client} {scheme}")
    assert form.filled(Asked(head, sender("10.0.0.0/8"))) == b"1.2.3.4 https"
    assert form.filled(Asked(head, sender())) == b"10.0.0.1 http"
    assert form.filled(Asked(get(), sender("10.0.0.0/8"))) == b"10.0.0.1 http"
    assert form.filled(Asked(get(), sender(address=""))) == b"unknown http"


TEXT = "".join(f"{{{name}}}" for name in VARIABLES)
BITS = [bytes([byte]) for byte in b'a_ \r\n\0\x7f\t[]:,;="'] + [b"%0a", b":1"]
ODD = st.lists(st.sampled_from(BITS), max_size=6).map(b"".join)
USUAL = st.text("a_", max_size=6).map(str.encode)
#: Two of the four parts are odd: of heads with more, hardly any is accepted.
PARTS = st.tuples(ODD, ODD, USUAL, USUAL).flatmap(st.permutations)


@given(PARTS)
@search
def test_no_variable_can_end_a_line(parts: list[bytes]) -> None:
    method, path, host, named = parts
    told = [b"Host: a" + host, b"Forwarded: for=" + named, b"X-Request-ID: a" + named]
    raw = b"\r\n".join([b"G%b /%b HTTP/1.1" % (method, path), *told])
    try:
        head = http1.read_request(raw, ClientSettings())
    except HopError:
        reject()
    peer = sender("10.0.0.0/8")
    ids = identify(head, ("x-request-id",), trusted=True, fresh=fresh)
    filled = Template(TEXT).filled(Asked(head, peer, ids.id))
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", filled)


def test_several_lines_are_filled_in_at_once() -> None:
    rules = FieldEdits(set={"A": "{host} 1%", "B": "{method}"}, add={"C": ("{{x}}", "{host}")})
    plan = made(Route(upstream="app", request_fields=rules))
    assert outgoing(plan, get(host=b"h:1"))[2:] == [b"A: h 1%", b"B: GET", b"C: {x}", b"C: h"]


# -- responses -------------------------------------------------------------------------------


def test_responses_are_changed_and_interim_ones_only_lose_fields() -> None:
    plan = made(Route(upstream="app", response_fields=RULES))
    head = answer(b"X-A: 0", b"X-C: 0", b"X-D: 0", b"Content-Length: 2")
    for _ in range(2):
        assert incoming(plan, head) == [
            b"X-D: 0", b"Content-Length: 2", b"X-A: 1", b"X-B: 2", b"X-B: 3",
        ]  # fmt: skip
    hints = answer(b"X-A: 0", b"X-C: 0", start=b"HTTP/1.1 103 Early Hints")
    assert response_lines(plan.interim(hints)) == [b"X-A: 0"]
    assert plan.trailers([b"X-C: 1", b"X-D: 1"]) == [b"X-D: 1"]
    quiet = made(Route(upstream="app", request_fields=RULES))
    assert quiet.interim(hints) is hints
    assert quiet.failure((head, b""), Asked(get(), sender()))[0] is head


def test_values_of_a_response_may_vary() -> None:
    rules = FieldEdits(set={"X-Host": "{host}"})
    plan = made(Route(upstream="app", response_fields=rules))
    head = answer(b"A: 1")
    for name in (b"a.example", b"b.example"):
        asked = get(host=name)
        assert incoming(plan, head, asked) == [b"A: 1", b"X-Host: " + name]


def test_a_response_that_comes_again_has_the_lines_of_its_plan_and_its_moment() -> None:
    rules = [
        FieldEdits(set={"X-A": "1"}),
        FieldEdits(remove=("X-B",)),
        FieldEdits(set={"B": "{path}"}),
    ]
    plans = [made(Route(upstream="app", response_fields=one)) for one in rules]
    head = answer(b"X-B: 0")
    asked = Asked(get(start=b"GET /p HTTP/1.1"), sender())
    moments = [b"Date: 1\r\n", b"Date: 2\r\n"]
    for moment in (moments[0], moments[0], moments[1], bytes(bytearray(moments[1]))):
        for plan, kept, lines in zip(
            plans, ([b"X-B: 0"], [], [b"X-B: 0"]), (b"X-A: 1\r\n", b"", b"B: /p\r\n"), strict=True
        ):
            out, added = plan.incoming(head, moment, asked, b"app:3000")
            again = plan.incoming(head, moment, asked, b"app:3000")
            assert (response_lines(out), added) == (kept, lines + moment)
            assert (again[0].lines, again[1]) == (out.lines, added)


def test_urls_of_a_response_that_comes_again_are_those_of_its_client() -> None:
    plan = made(Route(upstream="app", strip="/p"))
    head = answer(b"Location: http://app:3000/x")
    first = incoming(plan, head)
    assert first == incoming(plan, head) == [b"Location: /p/x"]
    assert made(Route(upstream="app"), "b.example").stripped(b"/p/x") == b"/p/x"


def test_our_own_errors_keep_their_content() -> None:
    rules = FieldEdits(set={"Cache-Control": "max-age=9", "X-A": "1"}, remove=("Content-Type", "B"))
    plan = made(Route(upstream="app", response_fields=rules))
    error = answer(b"Content-Type: a", b"Cache-Control: no-store", b"B: 1")
    head, body = plan.failure((error, b"x"), Asked(get(), sender()))
    assert (head.lines, body) == (
        [b"Content-Type: a", b"Cache-Control: no-store", b"X-A: 1"], b"x",
    )  # fmt: skip


def test_answers_of_a_route() -> None:
    asked = Asked(get(start=b"GET /p?q HTTP/1.1", host=b"a:1"), sender())
    rules = FieldEdits(set={"X-A": "1"})
    for route, status, location in (
        (Route(redirect="https"), 308, b"https://a/p?q"),
        (Route(redirect="/x", redirect_status=302, response_fields=rules), 302, b"/x"),
    ):
        own = made(route).answer(asked)
        assert own is not None
        assert (own[0].status, own[0].lines[0]) == (status, b"Location: " + location)
        assert (b"X-A: 1" in own[0].lines) == bool(route.response_fields.set)
    fixed = made(Route(respond=Respond(status=204))).answer(asked)
    assert fixed is not None
    assert (fixed[0].lines, fixed[1]) == ([], b"")
    assert made(Route(upstream="app", strip="/a")).answer(asked) is None


def test_a_redirect_that_names_the_host_needs_one() -> None:
    http10 = get(start=b"GET /p HTTP/1.0", host=None)
    for to in ("https", "https://{host}/x", "{scheme}://{authority}/"):
        with pytest.raises(Denied) as found:
            made(Route(redirect=to)).answer(Asked(http10, sender()))
        assert found.value.status == 400
    own = made(Route(redirect="https://a{path}")).answer(Asked(http10, sender()))
    assert own is not None
    assert own[0].lines[0] == b"Location: https://a/p"


def test_a_request_about_the_whole_server_is_redirected_without_a_path() -> None:
    own = made(Route(redirect="https")).answer(Asked(get(start=b"OPTIONS * HTTP/1.1"), sender()))
    assert own is not None
    assert own[0].lines[0] == b"Location: https://a"


@pytest.mark.parametrize("locations", ["origin", "all", "off"])
def test_urls_come_back_as_the_settings_say(locations: str) -> None:
    plan = Plan(
        Route(upstream="app", strip="/p", locations=locations),  # type: ignore[arg-type]
        "pass", (), SHADOW,
    )  # fmt: skip
    lines = [b"Location: http://app:3000/x", b"Content-Location: /x", b"A: 1"]
    first, second, third = incoming(plan, answer(*lines, start=b"HTTP/1.1 302 Found"))
    assert first == (lines[0] if locations == "off" else b"Location: /p/x")
    assert second == (b"Content-Location: /p/x" if locations == "all" else lines[1])
    assert third == lines[2]
    assert incoming(plan, answer(b"A: 1")) == [b"A: 1"]


@pytest.mark.parametrize(
    ("paths", "line", "turned"),
    [
        (False, b"Location: http://o/x", b"Location: /p/x"),
        (False, b"location: HTTP://O:80?x", b"location: /p/?x"),
        (False, b"Location: https://o:443/", b"Location: /p/"),
        (False, b"Location: https://o:80/", b"Location: https://o:80/"),
        (False, b"Location: http://u@o/", b"Location: http://u@o/"),
        (False, b"Refresh: 0;http://o/x", b"Refresh: 0;/p/x"),
        (False, b"Refresh: soon", b"Refresh: soon"),
        (False, b"Set-Cookie: a; Path=/", b"Set-Cookie: a; Path=/"),
        (True, b"Location: /p?x", b"Location: /p?x"),
        (True, b"Location: /px", b"Location: /p/px"),
        (True, b"Set-Cookie: a; Path=/x; Domain=o", b"Set-Cookie: a; Path=/p/x"),
        (True, b"Set-Cookie: a; Path=x; Domain=b", b"Set-Cookie: a; Path=x; Domain=b"),
    ],
)
def test_a_url_comes_back(paths: bool, line: bytes, turned: bytes) -> None:
    origins = Origins(authority_names(b"O:80", b""), b"/p", paths=paths)
    assert origins.seen_from_client(answer(line)).lines == [turned]


@pytest.mark.parametrize("path", [b"//evil.example/", b"/\\evil.example/"])
def test_a_path_that_comes_back_names_no_other_host(path: bytes) -> None:
    origins = Origins(authority_names(b"o"), b"", paths=False)
    [line] = origins.seen_from_client(answer(b"Location: http://o" + path)).lines
    assert line == b"Location: /." + path


# -- ids -------------------------------------------------------------------------------------

BOTH = ("x-request-id", "traceparent")
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"


def fresh(digits: int) -> bytes:
    return b"7" * digits


@pytest.mark.parametrize(
    ("lines", "trusted", "fields", "name", "told"),
    [
        ([], False, BOTH, b"7" * 32, [b"7" * 32, b"00-" + b"7" * 32 + b"-" + b"7" * 16 + b"-01"]),
        ([b"X-Request-ID: x"], False, ("x-request-id",), b"7" * 32, [b"7" * 32]),
        ([b"X-Request-ID: x"], True, ("x-request-id",), b"x", [b"x"]),
        ([b"traceparent: " + TRACE], True, BOTH, b"a" * 32, [b"a" * 32, TRACE]),
        ([b"traceparent: " + TRACE], True, ("traceparent",), b"a" * 32, [TRACE]),
        ([b"traceparent: ff" + TRACE[2:]], True, ("x-request-id",), b"7" * 32, [b"7" * 32]),
        ([b"traceparent: " + TRACE + b"-x"], True, ("x-request-id",), b"7" * 32, [b"7" * 32]),
        ([b"traceparent: 01" + TRACE[2:] + b"-x"], True, ("x-request-id",), b"a" * 32, [b"a" * 32]),
        ([b"X-Request-ID: x", b"X-Request-ID: y"], True, ("x-request-id",), b"7" * 32, [b"7" * 32]),
        ([b"X-Request-ID: " + b"0" * 32], True, BOTH, b"0" * 32,
         [b"0" * 32, b"00-" + b"7" * 32 + b"-" + b"7" * 16 + b"-01"]),
    ],
)  # fmt: skip
def test_the_id_of_a_request(
    lines: list[bytes], trusted: bool, fields: tuple[str, ...], name: bytes, told: list[bytes]
) -> None:
    found = identify(get(*lines), fields, trusted=trusted, fresh=fresh)
    assert found.id == name
    assert [line.partition(b": ")[2] for line in found.lines] == told


def test_an_id_replaces_what_came() -> None:
    plan = made(Route(upstream="app"), ids=BOTH)
    head = get(b"X-Request-ID: x", b"traceparent: y", b"tracestate: z", b"A: 1")
    identity = plan.identity(head, trusted=False, fresh=fresh)
    for _ in range(2):
        out, extra = plan.outgoing(head, Asked(head, sender()), identity)
    assert [line.partition(b":")[0] for line in written(out, extra=extra)[2:]] == [
        b"A", b"X-Request-ID", b"traceparent",
    ]  # fmt: skip


def test_only_plans_that_depend_on_a_request_ask_for_it() -> None:
    for route, asks in (
        (Route(upstream="app", request_fields=RULES, response_fields=RULES), False),
        (Route(upstream="app", request_fields=FieldEdits(set={"A": "{client}"})), True),
        (Route(upstream="app", response_fields=FieldEdits(set={"A": "{host}"})), True),
        (Route(upstream="app", strip="/a"), True),
        (Route(redirect="https"), True),
    ):
        assert made(route).asks is asks
    assert made(Route(upstream="app"), ids=BOTH).asks
    value = Template("{client}{scheme}{authority}")
    assert value.filled(NOTHING_ASKED) == b"unknown"

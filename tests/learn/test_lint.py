"""Timeouts that are valid and risky: what `check` says of them, and of those that are not."""

from __future__ import annotations

from typing import get_args

import pytest

from hopproxy.pool.idle_timeout import usable
from hopproxy.settings.kinds import Balancer, Server
from hopproxy.settings.lint import BALANCERS, FLOWS, SERVERS, Risk, risks
from hopproxy.settings.reader import places, read

APP = "upstreams:\n  app:\n    origins: [http://127.0.0.1:1]\n"


def found(text: str) -> list[Risk]:
    """Every risk of these settings; what Via costs is a matter of its own tests."""
    return list(risks(read(f"{text}via: response\n", file="a", environ={})))


def test_every_server_and_balancer_has_its_limit() -> None:
    assert tuple(SERVERS) == get_args(Server)
    assert set(BALANCERS) | set(FLOWS) == set(get_args(Balancer))


def test_without_hints_nothing_is_said() -> None:
    assert found(APP) == []


@pytest.mark.parametrize("server", SERVERS)
def test_the_default_against_each_server(server: Server) -> None:
    risky = found(f"{APP}    server: {server}\n")
    assert bool(risky) == (usable(SERVERS[server]) < 60.0)


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_proposed_is_safe(server: Server) -> None:
    limit = usable(SERVERS[server])
    assert found(f"{APP}    server: {server}\n    pool: {{idle_timeout: {limit:g}s}}\n") == []


def test_a_pool_that_outlasts_its_origin() -> None:
    (risk,) = found(f"{APP}    server: gunicorn\n    pool: {{learn: off}}\n")
    assert risk.path == "upstreams.app.pool.idle_timeout"
    assert risk.message == "60s is longer than gunicorn's default idle timeout, 2s"
    assert risk.hint == "write 1s or less"


def test_learning_only_leaves_the_time_until_it_has_learned() -> None:
    (risk,) = found(f"{APP}    server: apache\n")
    assert "until hopproxy has learned that" in risk.message


def test_the_pool_has_to_close_before_the_origin() -> None:
    (risk,) = found(f"{APP}    server: node\n    pool: {{idle_timeout: 6s, learn: off}}\n")
    assert "it must be shorter: here the pool has to close first" in risk.message
    assert risk.hint == "write 4s or less"


def test_no_margin() -> None:
    (risk,) = found(f"{APP}    server: node\n    pool: {{idle_timeout: 5s, learn: off}}\n")
    assert risk.message == "5s leaves no margin to node's default idle timeout, 5s"


def test_a_pool_that_keeps_nothing_has_no_race() -> None:
    assert found(f"{APP}    server: node\n    pool: {{max_idle: 0}}\n") == []


@pytest.mark.parametrize("balancer", BALANCERS)
def test_what_is_proposed_to_clients_is_safe(balancer: Balancer) -> None:
    (risk,) = found(f"client: {{balancer: {balancer}, idle_timeout: 1s}}\n{APP}")
    longer = risk.hint.removeprefix("write ").removesuffix(" or more")
    assert found(f"client: {{balancer: {balancer}, idle_timeout: {longer}}}\n{APP}") == []


def test_a_client_limit_shorter_than_the_balancer_keeps() -> None:
    (risk,) = found(f"client: {{balancer: gcp}}\n{APP}")
    assert risk.path == "client.idle_timeout"
    assert risk.message == ("75s is too short: gcp keeps idle connections to us for 610s")
    assert risk.hint == "write 678s or more"


def test_the_balancer_has_to_close_before_us() -> None:
    (risk,) = found(f"client: {{balancer: aws-alb, idle_timeout: 55s}}\n{APP}")
    assert "it must be longer: here the balancer has to close first" in risk.message
    assert found(f"client: {{balancer: aws-alb}}\n{APP}") == []


def test_a_flow_that_is_forgotten() -> None:
    long = "client: {balancer: aws-nlb, idle_timeout: 400s, tcp_keepalive: %s}\n" + APP
    (risk,) = found(long % "0s")
    assert "too long: aws-nlb forgets a silent connection after 350s" in risk.message
    assert found(long % "60s") == []


def test_a_risk_has_the_place_of_its_setting_or_of_what_would_hold_it() -> None:
    text = f"{APP}    server: node\n    pool:\n      idle_timeout: 9s\n"
    where = places(text, file="a", environ={})
    assert (where("upstreams.app.pool.idle_timeout").line, where("client.idle_timeout").line) == (
        6,
        1,
    )


def test_upstream_that_no_route_leads_to() -> None:
    text = f"{APP}  old:\n    origins: [http://127.0.0.1:2]\nroutes:\n  - upstream: app\n"
    (risk,) = found(text)
    assert (risk.path, risk.message) == ("upstreams.old", "no route leads to it")
    assert places(text, file="a", environ={})("upstreams.old").line == 5
    assert found(f"{text}    path: /new\n  - upstream: old\n") == []


def test_origin_that_is_our_own_listener() -> None:
    binds = "listeners:\n  - bind: unix:/a\n  - bind: %s\n"
    text = "upstreams:\n  app:\n    origins: [3000, 4000]\n"
    (risk,) = found(binds % "0.0.0.0:4000" + text)
    assert risk == Risk(
        "upstreams.app.origins[1]",
        "`http://localhost:4000` is this proxy itself: listeners[1], `0.0.0.0:4000`",
        "write the address of the application, or listen elsewhere",
    )
    assert found(binds % "0.0.0.0:5000" + text) == []


def test_pool_without_an_idle_limit_of_its_own() -> None:
    (risk,) = found(f"{APP}    server: node\n    pool: {{idle_timeout: off, learn: off}}\n")
    assert risk.message == "off is longer than node's default idle timeout, 5s"


def test_client_links_without_an_idle_limit_outlast_every_balancer() -> None:
    assert found(f"client: {{balancer: gcp, idle_timeout: off}}\n{APP}") == []


# -- Via -------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["", "via: both\n", "via: on\n", "via: request\n"])
def test_nginx_does_not_compress_what_comes_with_via(via: str) -> None:
    text = f"{APP}    server: nginx\n  b:\n    origins: [http://127.0.0.1:2]\n    server: nginx\n"
    text += f"routes:\n  - {{upstream: b, path: /b}}\n  - upstream: app\n{via}"
    (risk,) = risks(read(text, file="a", environ={}))
    assert risk.path == "via"
    assert risk.message.startswith("by default nginx (app, b) does not compress")
    assert risk.hint == "write via: response, or gzip_proxied any; in nginx"


@pytest.mark.parametrize("server", sorted(set(SERVERS) - {"nginx"}))
def test_others_compress_all_the_same(server: Server) -> None:
    text = f"{APP}    server: {server}\n    pool: {{max_idle: 0}}\n"
    assert list(risks(read(text, file="a", environ={}))) == []


# -- trusted Unix sockets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "trusted", "risky"),
    [
        ("bind: unix:/s", "[unix]", True),
        ("bind: unix:/s", "[10.0.0.0/8, unix]", True),
        ('bind: unix:/s, mode: "0662"', "[unix]", True),
        ('bind: unix:/s, mode: "0660"', "[unix]", False),
        ("bind: unix:/s", "[10.0.0.0/8]", False),
        ("bind: 127.0.0.1:3", "[unix]", False),
    ],
)
def test_who_may_connect_may_say_who_is_asking(listener: str, trusted: str, risky: bool) -> None:
    text = f"{APP}listeners: [{{bind: 127.0.0.1:2}}, {{{listener}}}]\ntrusted_proxies: {trusted}\n"
    assert [risk.path for risk in found(text)] == ["listeners[1].mode"] * risky


@pytest.mark.parametrize(
    ("written", "path", "most"),
    [
        ("drain_timeout: 11s", "drain_timeout", "11s"),
        ("drain_delay: 5s\ndrain_timeout: 8s", "drain_delay", "13s"),
        ("drain_delay: 5s", "drain_timeout", "35s"),
    ],
)
def test_a_stop_longer_than_the_platform_waits(written: str, path: str, most: str) -> None:
    (risk,) = found(f"{APP}{written}\n")
    assert risk.path == path
    assert f"a stop may take {most} with drain_delay: Docker and Compose kill after 10s" in (
        risk.message
    )


@pytest.mark.parametrize("written", ["drain_timeout: 10s", "drain_delay: 2s\ndrain_timeout: 8s"])
def test_a_stop_within_the_platforms_patience(written: str) -> None:
    assert found(f"{APP}{written}\n") == []


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("{redirect: 'https://a$request_uri', path: /y}", "redirect"),
        ("{path: /y, upstream: app, request_fields: {set: {X-A: $remote_addr}}}",
         "request_fields.set.X-A"),
        ("{path: /y, upstream: app, response_fields: {add: {X-A: [a, '{http.request.host}']}}}",
         "response_fields.add.X-A"),
    ],
)  # fmt: skip
def test_variables_of_other_proxies_are_plain_text(route: str, path: str) -> None:
    [risk] = found(f"{APP}routes: [{route}, {{upstream: app}}]\n")
    assert risk.path == f"routes[0].{path}"
    assert "is sent unchanged" in risk.message
    plain = "{X-A: 'a $ {b c} $5 {scheme}'}"
    route = f"{{path: /y, upstream: app, request_fields: {{set: {plain}}}}}"
    assert found(f"{APP}routes: [{route}, {{upstream: app}}]\n") == []


def test_a_redirect_to_https_that_nobody_can_follow() -> None:
    routes = "routes: [{redirect: https}, {upstream: app}]\n"
    (risk,) = found(APP + routes)
    assert risk.path == "routes[0].redirect"
    assert "redirected for ever" in risk.message
    assert found(f"{APP}{routes}trusted_proxies: [10.0.0.1]\n") == []
    assert found(f"{APP}routes: [{{redirect: /x, path: /y}}, {{upstream: app}}]\n") == []

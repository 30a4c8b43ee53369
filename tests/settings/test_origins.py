"""Origins with their weights, and how one of them is chosen, as they are written."""

from __future__ import annotations

import pytest

from hopproxy.settings.amounts import Misread
from hopproxy.settings.origins import (
    Balance,
    parse_balance,
    parse_origin_line,
    write_origin_line,
)
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.units import parse_origin
from hopproxy.settings.upstream import UpstreamSettings


@pytest.mark.parametrize(
    ("text", "address", "weight", "priority"),
    [
        ("http://10.0.0.7:3000 weight=2", "http://10.0.0.7:3000", 2, 0),
        ("10.0.0.7:3000  backup", "http://10.0.0.7:3000", 1, 1),
        ("https://api.internal weight=10 priority=3", "https://api.internal:443", 10, 3),
        ("unix:/run/app.sock weight=65535", "unix:/run/app.sock", 65535, 0),
        ("3000", "http://localhost:3000", 1, 0),
        ("srv://_http._tcp.App.internal", "srv://_http._tcp.app.internal", 1, 0),
        ("srv://App.internal.", "srv://app.internal.", 1, 0),
        ("SRV+HTTPS://app.internal weight=2", "srv+https://app.internal", 2, 0),
    ],
)
def test_an_origin_may_have_options_behind_it(
    text: str, address: str, weight: int, priority: int
) -> None:
    read = parse_origin_line(text)
    assert (str(read), read.weight, read.priority) == (address, weight, priority)
    again = parse_origin_line(write_origin_line(read))
    assert (again, again.weight, again.priority) == (read, weight, priority)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://a:1 weight=0", "`weight=0` is not a number in its range (write 1 to 65535)"),
        ("http://a:1 weight=x", "`weight=x` is not a number in its range (write 1 to 65535)"),
        ("http://a:1 priority=65536", "`priority=65536` is not a number in its range "
         "(write 0 to 65535)"),
        ("http://a:1 max_fails=3", "`max_fails=3` is not an option of an origin "
         "(write weight=N, priority=N or backup)"),
        ("http://a:1 http://b:1", "`http://a:1 http://b:1` is not an origin "
         "(write each origin as an item of its own)"),
        ("srv://app.internal:80", "`srv://app.internal:80` has more than a name "
         "(the records have the port: write srv://app.internal)"),
        ("srv+ftp://app", "`srv+ftp` is not supported as a scheme (write srv://app)"),
        ("srv://a b", "`a b` is not a host (write srv://_http._tcp.app.internal)"),
        ("", "`` is not a host (write http://host:port)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_origin_is_reported(text: str, problem: str) -> None:
    with pytest.raises(Misread) as caught:
        parse_origin_line(text)
    assert f"{caught.value.wrong} ({caught.value.hint})" == problem


def test_weight_and_priority_make_no_other_address() -> None:
    assert parse_origin_line("http://a:1 weight=2 backup") == parse_origin("http://a:1")


@pytest.mark.parametrize(
    ("text", "balance"),
    [
        ("least_requests", Balance()),
        ("round_robin", Balance("round_robin")),
        ("hash: client", Balance("hash", "client")),
        ("hash:client", Balance("hash", "client")),
        ("hash: header:X-User", Balance("hash", "header", "X-User")),
        ("hash:cookie: sid", Balance("hash", "cookie", "sid")),
    ],
)
def test_the_choice_of_an_origin_is_read_and_written(text: str, balance: Balance) -> None:
    assert parse_balance(text) == balance
    assert parse_balance(str(balance)) == balance


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("leastconn", "write least_requests"),
        ("least_conn", "write least_requests"),
        ("roundrobin", "write round_robin"),
        ("ip_hash", "write hash: client"),
        ("sticky", "write hash: cookie:NAME"),
        (
            "random",
            "write least_requests, round_robin, or hash: header:NAME, cookie:NAME or client",
        ),
        ("round_robin:x", "write round_robin"),
        ("client", "write hash: client"),
        ("hash", "write hash: header:NAME, cookie:NAME or client"),
        ("hash: header:", "write hash: header:NAME, cookie:NAME or client"),
        ("hash: cookie:a b", "write hash: header:NAME, cookie:NAME or client"),
        ("hash: client:x", "write hash: header:NAME, cookie:NAME or client"),
    ],
)
def test_what_is_not_a_choice_is_reported(text: str, hint: str) -> None:
    with pytest.raises(Misread) as caught:
        parse_balance(text)
    assert caught.value.hint == hint


def app(text: str, **environ: str) -> UpstreamSettings:
    return read(text, file="f", environ=environ).upstreams["app"]


@pytest.mark.parametrize(
    "written", ["hash: header:X-User", '"hash: header:X-User"', "{hash: header:X-User}"]
)
def test_a_hash_may_be_a_word_or_a_mapping(written: str) -> None:
    indented = f"\n      {written}" if written[0] == "h" else f" {written}"
    found = app(f"upstreams:\n  app:\n    origins: [1]\n    balance:{indented}\n")
    assert found.balance == Balance("hash", "header", "X-User")


@pytest.mark.parametrize("written", ["{hash: [a]}", "{hash: client, x: y}", "[hash]"])
def test_any_other_mapping_is_refused(written: str) -> None:
    with pytest.raises(SettingsErrors, match="not one word"):
        app(f"upstreams: {{app: {{origins: [1], balance: {written}}}}}")


def test_one_variable_may_hold_origins_with_options() -> None:
    text = 'upstreams: {app: {origins: "${APP}"}}'
    found = app(text, APP="http://a:1 weight=2, http://b:1 http://c:1  backup")
    assert [(one.host, one.weight, one.priority) for one in found.origins] == [
        ("a", 2, 0), ("b", 1, 0), ("c", 1, 1),
    ]  # fmt: skip


def test_health_is_read() -> None:
    health = app(
        "upstreams: {app: {origins: [1], health: {failures: off, statuses: [502, 503], "
        "slow_start: off}}}"
    ).health
    assert (health.failures, health.statuses, health.slow_start) == (0, (502, 503), 0.0)
    with pytest.raises(SettingsErrors, match="too small"):
        app("upstreams: {app: {origins: [1], health: {statuses: [5]}}}")

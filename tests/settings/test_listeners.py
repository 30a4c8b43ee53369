"""Listeners beside each other: with TLS and without, each with limits of its own."""

from __future__ import annotations

import pytest

from hopproxy.settings.certificate import Certificate
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.lint import risks
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.reference import json_schema
from hopproxy.settings.schema import Settings

UPSTREAMS = "upstreams: {app: {origins: [3000]}}\n"
TLS = "tls: {certificates: [{cert: /a.crt, key: /a.key}]"


def settings(text: str) -> Settings:
    return read(UPSTREAMS + text, file="a", environ={})


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsErrors) as caught:
        settings(text)
    return [str(problem) for problem in caught.value.problems]


def warned(text: str) -> list[tuple[str, str]]:
    return [(path, message) for path, message, _ in risks(settings(text)) if "listeners" in path]


def test_a_listener_without_tls_speaks_plain_http() -> None:
    [plain, secure] = settings(
        "listeners: [{bind: ':80'}, {bind: ':443', " + TLS + "}}]\n"
    ).listeners
    assert plain.tls is None
    assert secure.tls is not None
    assert secure.tls.certificates == (Certificate(cert="/a.crt", key="/a.key"),)
    assert (secure.tls.min_version, secure.tls.client_cert) == ("1.2", "off")


def test_what_a_listener_says_of_its_clients_goes_before_what_all_share() -> None:
    got = settings(
        "client: {idle_timeout: 20s, max_age: 1h}\n"
        "listeners: [{bind: ':1', client: {idle_timeout: 5s, max_requests: 7}}, {bind: ':2'}]\n"
    )
    first, second = (listener.client for listener in got.listeners)
    assert first == ClientSettings(idle_timeout=5.0, max_age=3600.0, max_requests=7)
    assert second is None


def test_a_listener_may_say_so_before_client_and_without_it() -> None:
    text = "listeners: [{client: {idle_timeout: 5s}}]\n"
    assert settings(text).listeners[0].client == ClientSettings(idle_timeout=5.0)
    shared = settings(text + "client: {max_age: 9s, max_connections: 10}\n")
    assert shared.listeners[0].client == ClientSettings(
        idle_timeout=5.0, max_age=9.0, max_connections=10
    )


def test_a_problem_in_client_is_reported_once_and_in_its_place() -> None:
    assert problems("listeners: [{client: {max_age: 5s}}]\nclient: {idle_timeout: soon}\n") == [
        "a:3:24: client.idle_timeout: `soon` is not a duration "
        "(write it like 250ms, 5s, 2m, 1h30m or 1d)"
    ]


def test_a_limit_of_all_connections_is_not_a_listeners() -> None:
    [problem] = problems("listeners: [{client: {max_connections: 5}}]\n")
    assert problem.startswith("a:2:23: listeners[0].client.max_connections: is not a setting")


def test_the_limits_of_a_listener_must_agree_too() -> None:
    [problem] = problems("listeners: [{client: {max_head_size: 4KiB}}]\n")
    assert problem == (
        "a:2:22: listeners[0].client.max_target_size: 8192 bytes do not fit in a head "
        "(max_head_size is 4096)"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "listeners: [{" + TLS + ", client_cert: required}}]\n",
            "a:2:78: listeners[0].tls.client_cert: needs `client_ca`, the authorities that sign "
            "these certificates (write client_ca: FILE)",
        ),
        (
            "listeners: [{proxy_protocol: on}]\n",
            "a:2:30: listeners[0].proxy_protocol: nobody may connect: trusted_proxies names no "
            "addresses (write the addresses of the proxies that send the header)",
        ),
        (
            "listeners: [{proxy_protocol: on}]\ntrusted_proxies: [unix]\n",
            "a:2:30: listeners[0].proxy_protocol: nobody may connect: trusted_proxies names no "
            "addresses (write the addresses of the proxies that send the header)",
        ),
        (
            "listeners: [{bind: 'unix:/s', proxy_protocol: on}]\ntrusted_proxies: [10.0.0.1]\n",
            "a:2:47: listeners[0].proxy_protocol: nobody may connect: trusted_proxies names no "
            "unix (write trusted_proxies: [unix])",
        ),
    ],
)
def test_a_listener_to_which_nobody_could_connect_is_refused(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_certificates_are_needed_for_tls() -> None:
    assert problems("listeners: [{tls: {}}]\n") == [
        "a:2:19: listeners[0].tls.certificates: is missing (Certificates; the first one is for "
        "names that none of them has.)"
    ]


def test_a_proxy_that_is_trusted_may_send_its_header() -> None:
    settings("listeners: [{proxy_protocol: on}]\ntrusted_proxies: [10.0.0.0/8]\n")
    settings("listeners: [{bind: 'unix:/s', proxy_protocol: on}]\ntrusted_proxies: [unix]\n")


def test_a_setting_without_effect_and_a_port_of_the_other_scheme_are_warned_of() -> None:
    text = "listeners: [{bind: ':8443', " + TLS
    assert warned(text + ", client_ca: /c, client_cert_fields: [subject]}}]\n") == [
        ("listeners[0].tls.client_ca", "has no effect: no client is asked"),
        ("listeners[0].tls.client_cert_fields", "has no effect: no client is asked"),
    ]
    assert warned(text + ", client_ca: /c, client_cert: optional}}]\n") == []
    assert warned("listeners: [{bind: ':443'}]\n") == [
        ("listeners[0].bind", "port 443 is the port of https://")
    ]
    assert warned(text.replace("8443", "80") + "}}]\n") == [
        ("listeners[0].bind", "port 80 is the port of http://")
    ]


def test_the_schema_shows_no_default_for_what_comes_from_client() -> None:
    listener = json_schema()["properties"]["listeners"]["items"]["properties"]
    [section, *_] = listener["client"]["anyOf"]
    assert "idle_timeout" in section["properties"]
    assert not any("default" in one for one in section["properties"].values())

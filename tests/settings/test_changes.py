"""What a reload changes, in words."""

from __future__ import annotations

import pytest

from hopproxy.settings.changes import changes, files_of
from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings

BEFORE = """
workers: 1
upstreams:
  app: {origins: [10.0.0.7:3000, 10.0.0.6:3000]}
  api: {origins: [unix:/run/api.sock]}
routes:
  - {path: /api/, upstream: api}
  - {path: /old/, upstream: app}
  - {upstream: app}
"""


def settings(text: str) -> Settings:
    return read(text, file="a", environ={})


def said(*swaps: tuple[str, str]) -> list[str]:
    """What is said when this is written instead of that."""
    text = BEFORE
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    return changes(settings(BEFORE), settings(text))


def test_the_same_settings_differ_in_nothing() -> None:
    assert said() == []
    assert said(("10.0.0.7:3000", "http://10.0.0.7:3000")) == [], "written otherwise"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("/old/, upstream: app", "/old/, upstream: api", "route 2: upstream app -> api"),
        ("path: /old/", "path: /new/", "route 2: path /old/ -> /new/"),
        ("path: /old/,", "host: a.example,", "route 2: host none -> a.example"),
        ("  - {path: /old/, upstream: app}\n", "", "route 2: removed (upstream app, path /old/)"),
        (
            "  - {upstream: app}",
            "  - {upstream: api, host: b.example}\n  - {upstream: app}",
            "route 3: added (upstream api, host b.example)",
        ),
        ("10.0.0.6:3000", "10.0.0.6:3000, 10.0.0.8:3000", "upstreams.app.origins: + 10.0.0.8:3000"),
        ("[10.0.0.7:3000, ", "[", "upstreams.app.origins: - 10.0.0.7:3000"),
        (
            "10.0.0.7:3000",
            "'[::1]:3000'",
            "upstreams.app.origins: - 10.0.0.7:3000, + [::1]:3000",
        ),
        (
            "10.0.0.7:3000, 10.0.0.6:3000",
            "10.0.0.6:3000, 10.0.0.7:3000",
            "upstreams.app.origins: now 10.0.0.6:3000, 10.0.0.7:3000",
        ),
        (
            "[unix:/run/api.sock]",
            "[unix:/run/api.sock], response_timeout: 5s",
            "upstreams.api.response_timeout: 60s -> 5s",
        ),
        (
            "[unix:/run/api.sock]",
            "[unix:/run/api.sock], connect_timeout: off, pool: {max_idle: 8}",
            "upstreams.api.connect_timeout: 3s -> off",
        ),
        ("upstreams:", "client: {max_body_size: 1MiB}\nupstreams:", "client.max_body_size: 0 -> "),
        ("workers: 1", "workers: auto", "workers: 1 -> auto"),
        ("workers: 1", "access_log: off", "access_log: json -> off"),
        ("workers: 1", "trace: on", "trace: off -> on"),
        ("workers: 1", "admin: {bind: ':9901'}", "admin: added (bind :9901)"),
        ("workers: 1", "trusted_proxies: [10.0.0.0/8]", "trusted_proxies: + 10.0.0.0/8"),
        ("workers: 1", "listeners: [{bind: ':80'}]", "listener 1: bind 127.0.0.1:8080 -> :80"),
        (
            "workers: 1",
            "listeners: [{}, {bind: unix:/run/site.sock, mode: 600}]",
            "listener 2: added (bind unix:/run/site.sock, mode 0600)",
        ),
        (
            "  api: {origins: [unix:/run/api.sock]}\n",
            "  api: {origins: [unix:/run/api.sock]}\n  web: {origins: [5000, 5001]}\n",
            "upstreams.web: added (origins localhost:5000, localhost:5001)",
        ),
    ],
)
def test_a_change_is_one_line(old: str, new: str, line: str) -> None:
    first, *_ = said((old, new))
    assert first.startswith(line)


EDITS = "path: /old/, request_fields: {set: {X-Env: prod}, add: {X-A: [b, c]}}"


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        ("path: /old/", ["set.X-Env: removed", "add.X-A: removed"]),
        (EDITS.replace("prod", "test"), ["set.X-Env: prod -> test"]),
        (EDITS.replace("c]", "d]"), ["add.X-A: b, c -> b, d"]),
        (EDITS.replace("prod", "prod, X-Y: z"), ["set.X-Y: added (z)"]),
    ],
)
def test_fields_that_a_route_changes(new: str, lines: list[str]) -> None:
    before = settings(BEFORE.replace("path: /old/", EDITS))
    after = settings(BEFORE.replace("path: /old/", new))
    assert changes(before, after) == [f"route 2: request_fields.{line}" for line in lines]


def test_a_route_that_changes_fields_comes() -> None:
    (line,) = said(
        ("routes:\n", f"routes:\n  - {{{EDITS}, upstream: app, host: [a.example, b.example]}}\n")
    )
    assert line == (
        "route 1: added (upstream app, host a.example, b.example, path /old/, "
        "request_fields set X-Env: prod, add X-A: b, c)"
    )


def test_each_difference_has_a_line_of_its_own() -> None:
    assert said(
        ("workers: 1", "drain_delay: 5s"),
        ("  api: {origins: [unix:/run/api.sock]}\n", ""),
        ("/api/, upstream: api", "/api/, upstream: app"),
        ("path: /old/", "path: /older/, host: c.example"),
    ) == [
        "drain_delay: 0s -> 5s",
        "upstreams.api: removed",
        "route 1: upstream api -> app",
        "route 2: host none -> c.example",
        "route 2: path /old/ -> /older/",
    ]


def test_a_section_goes() -> None:
    with_admin = settings(f"admin: {{bind: ':9901'}}{BEFORE}")
    assert changes(with_admin, settings(BEFORE)) == ["admin: removed (bind :9901)"]


def test_the_files_that_settings_name() -> None:
    tls = "tls: {ca: /a/ca.crt, cert: /a/our.crt, key: /a/our.key}"
    text = BEFORE.replace("[unix:/run/api.sock]", f"[https://api.example], {tls}")
    assert files_of(settings(BEFORE)) == []
    assert files_of(settings(text)) == ["/a/ca.crt", "/a/our.crt", "/a/our.key"]

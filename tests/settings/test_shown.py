"""The settings in use as `/config` and the log of a reload show them."""

from __future__ import annotations

import json

import pytest

from hopproxy.settings.changes import changes
from hopproxy.settings.schema import Settings
from hopproxy.settings.shown import HIDDEN, is_secret, shown
from hopproxy.settings_file import read_text

TEXT = """\
workers: 2
drain_delay: 1s
listeners: [{bind: 127.0.0.1:8080}]
upstreams:
  app: {origins: [http://127.0.0.1:3000], pool: {max_connections: 7}}
routes:
- upstream: app
  path: /api/
  request_fields:
    set: {X-Env: prod, Authorization: "Basic aGVsbG8=", X-Api-Key: hello}
    add: {X-Team: [a, b], X-Upstream: Bearer 123}
"""


def settings(text: str = TEXT) -> Settings:
    return read_text("hopproxy.yaml", text).settings


def test_all_settings_are_shown_as_they_are_written() -> None:
    found = shown(settings())
    assert json.loads(json.dumps(found)) == found
    assert found["workers"] == 2
    assert found["drain_delay"] == "1s"
    assert found["drain_timeout"] == "30s"
    assert found["watch"] is False
    assert found["listeners"][0]["bind"] == "127.0.0.1:8080"
    assert found["upstreams"]["app"]["origins"] == ["http://127.0.0.1:3000"]
    assert found["upstreams"]["app"]["pool"]["max_connections"] == 7
    assert found["routes"][0]["path"] == "/api/"
    assert found["admin"] is None


def test_secrets_are_hidden() -> None:
    edits = shown(settings())["routes"][0]["request_fields"]
    assert edits["set"] == {"X-Env": "prod", "Authorization": HIDDEN, "X-Api-Key": HIDDEN}
    assert edits["add"] == {"X-Team": ["a", "b"], "X-Upstream": HIDDEN}


def test_secrets_are_hidden_in_the_log_of_a_reload_too() -> None:
    after = TEXT.replace("hello", "other").replace("prod", "test").replace("aGVsbG8=", "b3RoZXI=")
    told = "\n".join(changes(settings(), settings(after)))
    assert "prod" in told
    assert "hello" not in told
    assert "other" not in told
    assert "X-Api-Key" in told
    first = TEXT.partition("routes:")[0]
    told = "\n".join(changes(settings(first), settings()))
    assert "prod" in told
    assert "hello" not in told


@pytest.mark.parametrize(
    ("field", "value", "secret"),
    [
        ("Proxy-Authorization", "x", True),
        ("X-Auth-Token", "x", True),
        ("Set-Cookie", "a=b", True),
        ("X-Anything", "bearer x", True),
        ("Strict-Transport-Security", "max-age=1", False),
        ("X-Forwarded-Prefix", "/basic", False),
    ],
)
def test_what_is_a_secret(field: str, value: str, *, secret: bool) -> None:
    assert is_secret(field, value) is secret

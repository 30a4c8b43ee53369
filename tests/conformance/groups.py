"""The settings under which cases run: one running proxy for each group.

`hopproxy` holds overrides of its YAML. `nginx` (directives of the server, of the upstream) and
`haproxy` (lines of `defaults`, options of the server line) say the same to the peers, where they
can; None where they cannot, and then the group's cases are n/a for that peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Lines = tuple[str, str]


@dataclass(frozen=True)
class Group:
    """One set of settings; `private`: each case gets a process of its own, since it ends it."""

    name: str
    hopproxy: Mapping[str, Any] = field(default_factory=dict)
    nginx: Lines | None = ("", "")
    haproxy: Lines | None = ("", "")
    private: bool = False

    @property
    def upstream(self) -> Mapping[str, Any]:
        """The part of hopproxy's settings that each upstream has for itself."""
        return dict(self.hopproxy.get("upstream", {}))

    @property
    def process(self) -> Mapping[str, Any]:
        """The part that groups must have in common to share a process."""
        return {name: value for name, value in self.hopproxy.items() if name != "upstream"}


_TABLE = (
    Group("base"),
    Group(
        "impatient",
        {
            "client": {
                "idle_timeout": "700ms",
                "head_timeout": "500ms",
                "body_timeout": "500ms",
                "write_timeout": "500ms",
            },
            "upstream": {
                "connect_timeout": "500ms",
                "response_timeout": "500ms",
                "body_timeout": "500ms",
                "write_timeout": "500ms",
                "continue_timeout": "300ms",
                "tunnel_timeout": "1s",
            },
        },
        (
            "client_header_timeout 500ms; client_body_timeout 500ms; keepalive_timeout 700ms;"
            "send_timeout 500ms;"
            "proxy_connect_timeout 500ms; proxy_read_timeout 500ms; proxy_send_timeout 500ms;",
            "",
        ),
        (
            "timeout http-request 500ms\n timeout http-keep-alive 700ms\n timeout client 500ms\n"
            " timeout connect 500ms\n timeout server 500ms\n timeout tunnel 1s",
            "",
        ),
    ),
    Group(
        "pool_of_two",
        {"upstream": {"pool": {"max_connections": 2, "max_idle": 2, "queue_timeout": "600ms"}}},
        None,
        ("timeout queue 600ms", "maxconn 2"),
    ),
    Group(
        "two_idle",
        {"upstream": {"pool": {"max_idle": 2}}},
        ("", "keepalive 2;"),
        ("", "pool-max-conn 2"),
    ),
    Group(
        "counted",
        {"client": {"max_requests": 3}, "upstream": {"pool": {"max_requests": 2}}},
        ("keepalive_requests 3;", "keepalive_requests 2;"),
        None,
    ),
    Group(
        "aged",
        {"client": {"max_age": "400ms"}, "upstream": {"pool": {"max_age": "400ms"}}},
        ("keepalive_time 400ms;", "keepalive_time 400ms;"),
        None,
    ),
    Group(
        "short_idle",
        {"upstream": {"pool": {"idle_timeout": "2s"}}},
        ("", "keepalive_timeout 2s;"),
        None,
    ),
    Group(
        "no_reuse_past_now",
        {"upstream": {"pool": {"idle_timeout": "300ms"}, "connect_timeout": "3s"}},
        ("", "keepalive_timeout 300ms;"),
        ("timeout connect 3s", "pool-purge-delay 300ms"),
    ),
    Group(
        "small_bodies",
        {"client": {"max_body_size": "1MiB"}},
        ("client_max_body_size 1m;", ""),
        None,
    ),
    Group(
        "short_linger",
        {
            "client": {
                "linger_timeout": "500ms",
                "linger_size": "64KiB",
                "max_body_size": "1MiB",
            }
        },
        ("client_max_body_size 1m; lingering_timeout 500ms; lingering_time 500ms;", ""),
        None,
    ),
    Group(
        "pool_of_four",
        {"upstream": {"pool": {"max_connections": 4, "max_idle": 4}}},
        None,
        ("", "maxconn 4"),
    ),
    Group("few_clients", {"client": {"max_connections": 4}}, None, None),
    Group(
        "other_choices",
        {
            "trusted_proxies": ["127.0.0.1"],
            "via": "request",
            "trace": "on",
            "underscore_fields": "drop",
        },
        None,
        None,
    ),
    Group("underscore_reject", {"underscore_fields": "reject"}, None, None),
    Group("idempotency_key", {"upstream": {"retry_idempotency_key": "on"}}, None, None),
    Group(
        "stopping",
        {"drain_timeout": "1500ms"},
        ("", ""),
        ("hard-stop-after 1500ms", ""),
        private=True,
    ),
)

GROUPS = {group.name: group for group in _TABLE}

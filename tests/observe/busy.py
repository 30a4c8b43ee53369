"""A worker that has much to show, as `/links` and `/closes` tell it: links, long names, faults.

Everything that has a width is as wide as it gets.
"""

from __future__ import annotations

import time
from typing import Any

Row = dict[str, Any]

LONG_NAME = "checkout-and-payment-service-of-the-northern-region"
LONG_ORIGIN = "http://checkout-7d9f8b6c5d-x2x9q.checkout.production.svc.cluster.local:18080"
IPV6 = "2001:db8:85a3:1234:5678:8a2e:370:7334"
STATES = ("idle", "busy", "idle", "waiting", "idle", "upgraded", "idle", "private")


def links() -> Row:
    """What `/links?limit=500` answers."""
    origins = [
        _origin("app", "http://127.0.0.1:3000", waiting=64, queue=64),
        _origin(LONG_NAME, LONG_ORIGIN, failed_ago=3.0, learned={"acknowledged_at_once": True}),
        _origin("api", "unix:/run/some/quite/long/path/of/a/project/api.sock", learned=_LEARNED),
    ]
    clients = [_client(number) for number in range(1, 61)]
    upstreams = [_upstream(number, origins[number % 3]) for number in range(101, 151)]
    return {
        "version": "0.1.0",
        "pid": 1234567,
        "time": round(time.time(), 3),
        "uptime": 8_640_000.0,
        "draining": False,
        "unready": "",
        "totals": {
            "requests": 123_456_789,
            "failures": 45_678,
            "repeated": 1234,
            "received": 10**12,
            "sent": 10**13,
            "accepted": 10**7,
            "opened": 123_456,
            "reused": 98_765_432,
            "closed": 4_567_890,
            "clients": 1060,
            "clients_idle": 321,
            "upstreams": 250,
        },
        "limits": {"max_clients": 4096, "max_upstreams": 4096},
        "last_minute": {
            "seconds": 60.0,
            "upstreams": [
                _outcome("", {"404": 3, "400": 12}, {"http_request_denied": 3}),
                _outcome("app", {"200": 120, "503": 880}, {"connection_limit_reached": 880}),
                _outcome(
                    LONG_NAME,
                    {"200": 4000, "206": 3, "301": 20, "304": 812, "403": 7, "404": 44,
                     "500": 571, "502": 33, "504": 2, "0": 1},
                    {"connection_refused": 31, "http_response_timeout": 2,
                     "http_response_incomplete": 1, "connection_terminated": 1},
                ),
                _outcome("api", {"200": 9_999_999}, {}),
            ],
        },
        "origins": origins,
        "clients": clients,
        "upstreams": upstreams,
    }  # fmt: skip


def closes() -> Row:
    """What `/closes?fold=on&limit=40` answers."""
    reasons = ["peer_reset", "response_timeout", "over_read", "early_answer", "made_room",
               "learned", "bad_request", "head_timeout", "incomplete", "peer_http10"]  # fmt: skip
    rows = [
        {
            "time": round(time.time() - number, 3),
            "hop": "upstream" if number % 3 else "client",
            "owner": ("us", "peer", "timeout", "reset")[number % 4],
            "reason": reasons[number % len(reasons)],
            "peer": (IPV6, LONG_ORIGIN, "127.0.0.1", "unix:/run/app.sock")[number % 4],
            "peer_port": (54321, None)[number % 2],
            "client": (IPV6, None)[number % 2],
            "local_port": 54321,
            "age": 86_400.0,
            "idle": 119.0,
            "requests": 12_345_678,
            "limit": 60.0 if number % 2 else None,
            "limit_from": "learned",
            "close_notify": False,
            "detail": "",
        }
        for number in range(40)
    ]
    counts = [
        {"hop": hop, "owner": "us", "reason": reason, "count": 1_234_567}
        for hop in ("client", "upstream")
        for reason in reasons
    ]
    ordinary = {"peer_closed": 1_234_567, "peer_asked": 45_678, "idle_timeout": 9999}
    folded = {"last": round(time.time(), 3), "reasons": ordinary}
    return {"time": round(time.time(), 3), "closes": rows, "counts": counts, "folded": folded}


_LEARNED = {"idle_limit": 4.0, "limit_from": "learned"}


def _origin(upstream: str, origin: str, **changed: Any) -> Row:
    learned = {
        "idle_limit": 60.0,
        "limit_from": "setting",
        "acknowledged_at_once": False,
        **changed.get("learned", {}),
    }
    return {
        "upstream": upstream,
        "origin": origin,
        "idle": 20,
        "lent": 44,
        "dialling": 7,
        "waiting": changed.get("waiting", 0),
        "opened": 12_345,
        "reused": 99_999,
        "failed_ago": changed.get("failed_ago"),
        "passed_over": False,
        "out": False,
        "why_out": None,
        "times_out": 0,
        "name": None,
        "weight": 1,
        "priority": 0,
        "unused": {},
        "learned": learned,
        "limits": {"max_connections": 256, "max_idle": 64, "queue": changed.get("queue", 1024)},
    }


def _link(number: int, hop: str) -> Row:
    state = STATES[number % len(STATES)]
    if state == ("waiting" if hop == "upstream" else "private"):  # only the other hop has it
        state = "busy"
    idle = state == "idle"
    return {
        "number": number + 98_765_000,
        "hop": hop,
        "state": state,
        "age": (12.0, 7100.0, 100_000.0)[number % 3],
        "idle": 33.3 if idle else 0.0,
        "idle_limit": 75.0 if idle else None,
        "busy": 0.0 if idle else 119.0,
        "requests": (1, 50, 9999, 1_234_567)[number % 4],
        "received": 10**9,
        "sent": 10**9,
        "coupled_to": None,
    }


def _client(number: int) -> Row:
    row = _link(number, "client")
    row["peer"] = row["client"] = ("127.0.0.1", "192.168.100.200", IPV6)[number % 3]
    row["peer_port"] = 54321
    if number % 7 == 0:
        row["client"] = IPV6
    if row["state"] == "busy":
        row["coupled_to"] = number + 98_765_100
    return row


def _upstream(number: int, origin: Row) -> Row:
    row = _link(number, "upstream")
    row["peer"] = row["origin"] = origin["origin"]
    row["upstream"] = origin["upstream"]
    return row


def _outcome(upstream: str, statuses: dict[str, int], causes: dict[str, int]) -> Row:
    return {"upstream": upstream, "statuses": statuses, "causes": causes}

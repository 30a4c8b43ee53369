"""What `check` says of memory: a bound that follows the settings."""

from __future__ import annotations

import pytest

from hopproxy.settings.memory import most_memory, told
from hopproxy.settings.reader import read

APP = "upstreams: {app: {origins: [3000], pool: {max_connections: 16}"
H1 = "listeners: [{protocols: [http/1.1]}]\n"


def most(text: str, workers: int = 1) -> int:
    return most_memory(read(text, file="a", environ={}), workers)


def test_a_small_proxy_is_bounded_by_a_few_hundred_mib() -> None:
    small = most(f"{H1}client: {{max_connections: 256}}\n{APP}}}}}\n")
    assert 200 << 20 < small < 320 << 20


def test_each_limit_counts() -> None:
    base = most(f"{H1}{APP}}}}}\n")
    assert most(f"{H1}{APP}}}}}\n", 4) > base
    assert most(f"{H1}client: {{max_connections: 8000}}\n{APP}}}}}\n") > base
    assert most(f"{H1}client: {{max_head_size: 64KiB}}\n{APP}}}}}\n") > base
    assert most(f"{H1}{APP}, max_head_size: 1MiB}}}}\n") > base
    assert most(f"{APP}}}}}\n") > base, "HTTP/2 carries many requests at a time"
    assert most(f"{H1}max_upstream_connections: 4\n{APP}}}}}\n") < base


TLS = "listeners: [{protocols: [http/1.1], tls: {certificates: [{cert: c, key: k}]}}]\n"
MORE = {
    "TLS towards clients": (TLS + APP + "}}\n", H1 + APP + "}}\n"),
    "TLS towards origins": (APP.replace("3000", "https://10.0.0.1") + "}}\n", APP + "}}\n"),
    "HTTP/2 towards origins": (APP.replace("3000", "h2c://10.0.0.1") + "}}\n", APP + "}}\n"),
    "each address of a name": (APP.replace("3000", "http://a.example") + "}}\n", APP + "}}\n"),
    "collected bodies": (APP + ", buffer_request: 1MiB}}\n", APP + "}}\n"),
    "another upstream": (APP + "}, b: {origins: [3001]}}\nroutes: [{upstream: b}]\n", APP + "}}\n"),
    "a listener of its own": (
        "listeners: [{protocols: [http/1.1], client: {max_head_size: 64KiB}}]\n" + APP + "}}\n",
        H1 + APP + "}}\n",
    ),
    "a protocol that is told": (
        APP.replace("3000", "https://10.0.0.1") + ", protocol: h2}}\n",
        APP.replace("3000", "https://10.0.0.1") + ", protocol: http/1.1}}\n",
    ),
}


@pytest.mark.parametrize(("more", "less"), MORE.values(), ids=MORE)
def test_what_may_be_needed_counts(more: str, less: str) -> None:
    assert most(more) > most(less)


def test_streams_are_bounded_for_each_connection_and_in_total() -> None:
    most_of_all = most(f"client: {{max_connections: 10}}\n{APP}}}}}\n")
    for limit in ("max_total_streams: 100", "max_streams: 10"):
        assert most(f"client: {{max_connections: 10, {limit}}}\n{APP}}}}}\n") < most_of_all / 4


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 MiB"), (212 << 20, "212 MiB"), ((212 << 20) + 1, "213 MiB"), (3 << 29, "1.5 GiB")],
)
def test_sizes_are_reported_rounded_up(size: int, text: str) -> None:
    assert told(size) == text

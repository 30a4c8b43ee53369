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
    assert 100 << 20 < small < 256 << 20


def test_each_limit_counts() -> None:
    base = most(f"{H1}{APP}}}}}\n")
    assert most(f"{H1}{APP}}}}}\n", 4) > base
    assert most(f"{H1}client: {{max_connections: 8000}}\n{APP}}}}}\n") > base
    assert most(f"{H1}client: {{max_head_size: 64KiB}}\n{APP}}}}}\n") > base
    assert most(f"{H1}{APP}, max_head_size: 1MiB}}}}\n") > base
    assert most(f"{APP}}}}}\n") > base, "HTTP/2 carries many requests at a time"
    assert most(f"{H1}max_upstream_connections: 4\n{APP}}}}}\n") < base


def test_requests_in_flight_bound_those_of_http_2() -> None:
    assert most(f"{APP}, max_requests_in_flight: 100}}}}\n") < most(f"{APP}}}}}\n")
    assert most(f"{APP}, max_requests_in_flight: auto}}}}\n") == most(f"{APP}}}}}\n")
    assert most(f"{APP}, max_requests_in_flight: 100000}}}}\n") == most(f"{APP}}}}}\n")


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 MiB"), (212 << 20, "212 MiB"), ((212 << 20) + 1, "213 MiB"), (3 << 29, "1.5 GiB")],
)
def test_sizes_are_told_rounded_up(size: int, text: str) -> None:
    assert told(size) == text

"""The metrics: every one of them against real traffic, read by Prometheus' own parsers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from hopproxy import __version__
from tests.observe.stage import Stage, eventually, stage

Read = Callable[[str], Iterable[Metric]]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

TEXT = ("", read_text, "text/plain")
OPENMETRICS = (
    "Accept: application/openmetrics-text; version=1.0.0",
    read_openmetrics,
    "application/openmetrics-text",
)


class Scrape:
    """What was exposed, by name and labels."""

    def __init__(self, text: str, read: Read) -> None:
        self.families = {family.name: family for family in read(text)}
        self._values: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._values[name, tuple(sorted(labels.items()))]

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of this name, by the values of its labels in the order of their names."""
        return {
            tuple(value for _, value in labels): number
            for (sample, labels), number in self._values.items()
            if sample == name
        }


async def scrape(s: Stage, form: tuple[str, Read, str] = TEXT) -> Scrape:
    accept, read, content_type = form
    looker = await s.admin()
    async with looker.stream:
        response = await looker.ask("/metrics", "GET", *([accept] if accept else []))
    assert response.status == 200
    assert response.fields["content-type"].startswith(content_type)
    return Scrape(response.body.decode(), read)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])
async def test_what_became_of_requests(log: Path, form: tuple[str, Read, str]) -> None:
    async with stage(log) as s:
        client = await s.client()
        await client.stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        )
        await client.answer()
        await client.ask()
        failed = await client.ask("/die")
        await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        refused = await client.answer()
        await client.stream.aclose()  # else it would linger
        await eventually(lambda: len(s.runtime.closes.last) == 3)
        seen = await scrape(s, form)
    assert seen.all("hopproxy_requests_total") == {
        ("200", "app"): 2,
        ("502", "app"): 1,
        ("400", ""): 1,
    }
    assert seen.all("hopproxy_failures_total") == {
        ("connection_terminated", "app"): 1,
        ("http_request_error", ""): 1,
    }
    assert seen("hopproxy_retries_total", upstream="app") == 1
    assert seen("hopproxy_received_bytes_total", upstream="app") == 5
    assert seen("hopproxy_sent_bytes_total", upstream="app") == 26 + len(failed.body)
    assert seen("hopproxy_sent_bytes_total", upstream="") == len(refused.body)
    assert seen.all("hopproxy_link_closes_total") == {
        ("upstream", "peer", "peer_closed"): 2,
        ("client", "us", "bad_request"): 1,
    }


async def test_durations_are_a_histogram(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        for _ in range(4):
            await client.ask()
        seen = await scrape(s)
    assert seen.families["hopproxy_request_duration_seconds"].type == "histogram"
    buckets = {
        labels[0]: value
        for labels, value in seen.all("hopproxy_request_duration_seconds_bucket").items()
        if labels[1] == "app"
    }
    bounds = sorted(buckets, key=float)
    assert (bounds[0], bounds[-2], bounds[-1]) == ("0.001", "60.0", "+Inf")
    assert [buckets[bound] for bound in bounds] == sorted(buckets.values())
    assert buckets["60.0"] == buckets["+Inf"] == 4
    assert seen("hopproxy_request_duration_seconds_count", upstream="app") == 4
    assert 0 < seen("hopproxy_request_duration_seconds_sum", upstream="app") < 10


async def test_links_of_both_hops(log: Path) -> None:
    async with stage(log) as s:
        origin = {"upstream": "app", "origin": f"http://127.0.0.1:{s.origin_port}"}
        busy, first, second = [await s.client() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy.ask, "/hold")
            await eventually(lambda: s.origin.requests)
            await first.ask()
            await second.ask()
            await eventually(lambda: len(s.runtime.clients.idle) == 2)
            seen = await scrape(s)
            s.origin.release.set()
    assert seen.all("hopproxy_client_links") == {("idle",): 2, ("busy",): 1}
    assert seen("hopproxy_client_links_limit") == 4096
    assert seen("hopproxy_client_accepted_total") == 3
    assert seen("hopproxy_upstream_links", **origin, state="idle") == 1
    assert seen("hopproxy_upstream_links", **origin, state="lent") == 1
    assert seen("hopproxy_upstream_links", **origin, state="dialling") == 0
    assert seen("hopproxy_upstream_links_limit", **origin) == 256
    assert seen("hopproxy_upstream_opened_total", **origin) == 2
    assert seen("hopproxy_upstream_reused_total", **origin) == 1
    assert seen("hopproxy_upstream_waiting", **origin) == 0
    assert seen("hopproxy_upstream_reachable", **origin) == 1


async def test_waiting_and_unreached(log: Path) -> None:
    async with stage(log) as s:
        (origin,) = s.runtime.upstreams["app"].balancer.members
        labels = {"upstream": "app", "origin": origin.label}
        origin.max_connections = 1
        first, second = await s.client(), await s.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.ask, "/hold")
            await eventually(lambda: s.origin.requests)
            nursery.start_soon(second.ask)
            await eventually(lambda: origin.waiters)
            origin.reach.failed(origin.reach.begin(0.0), trio.current_time())
            seen = await scrape(s)
            s.origin.release.set()
    assert seen("hopproxy_upstream_waiting", **labels) == 1
    assert seen("hopproxy_upstream_reachable", **labels) == 0
    assert seen("hopproxy_ready") == 0


async def test_the_worker_itself(log: Path) -> None:
    async with stage(log) as s:
        s.access_log.log_writer.dropped = 7
        seen = await scrape(s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon((await s.client()).ask, "/hold")
            await eventually(lambda: s.origin.requests)
            s.worker.stop()
            await eventually(lambda: s.runtime.draining)
            later = await scrape(s)
            s.origin.release.set()
    assert seen("hopproxy_build_info", version=__version__) == 1
    assert abs(seen("hopproxy_start_time_seconds") - time.time()) < 10
    assert (seen("hopproxy_draining"), seen("hopproxy_ready")) == (0, 1)
    assert (later("hopproxy_draining"), later("hopproxy_ready")) == (1, 0)
    assert seen("hopproxy_access_log_dropped_total") == 7
    assert seen("process_open_fds") > 5
    assert seen("process_resident_memory_bytes") > 1e6


async def test_every_metric_of_ours_says_what_it_is(log: Path) -> None:
    async with stage(log) as s:
        seen = await scrape(s)
    ours = [family for name, family in seen.families.items() if name.startswith("hopproxy_")]
    assert len(ours) >= 35
    assert [
        family.name for family in ours if not family.documentation or family.type == "unknown"
    ] == []

"""What several workers show together: sums that are right, and that never fall."""

from __future__ import annotations

from typing import Any

from hopproxy.observe import whole
from hopproxy.observe.exposition import exposition
from hopproxy.observe.families import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Plain,
    lasting,
    of_workers,
)
from hopproxy.observe.families import whole as whole_families
from hopproxy.reasons import CloseReason
from hopproxy.server.past import Past


def families(requests: float, links: float, ready: int = 1) -> list[Plain]:
    """What one worker counts."""
    counted = CounterMetricFamily("hopproxy_requests", "Requests.", labels=["upstream", "status"])
    counted.add_metric(["app", "200"], requests)
    took = HistogramMetricFamily("hopproxy_seconds", "Times.", labels=["upstream"])
    took.add_histogram(["app"], [("1.0", requests - 1), ("+Inf", requests)], 2.5)
    return [
        counted.plain(),
        took.plain(),
        GaugeMetricFamily("hopproxy_client_links", "Links.", links).plain(),
        GaugeMetricFamily("hopproxy_ready", "Ready.", ready).plain(),
        GaugeMetricFamily("hopproxy_start_time_seconds", "Start.", 100.0 + links).plain(),
        InfoMetricFamily("hopproxy_build", "Build.", {"version": "1"}).plain(),
    ]


def shown(*workers: list[Plain], past: dict[Any, float] | None = None) -> list[str]:
    body, _ = exposition(whole_families(workers, past or {}), "")
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


def test_counters_and_links_are_added_up_and_states_are_not() -> None:
    assert shown(families(3, 10), families(4, 5, ready=0)) == [
        'hopproxy_requests_total{status="200",upstream="app"} 7.0',
        'hopproxy_seconds_bucket{le="1.0",upstream="app"} 5.0',
        'hopproxy_seconds_bucket{le="+Inf",upstream="app"} 7.0',
        'hopproxy_seconds_count{upstream="app"} 7.0',
        'hopproxy_seconds_sum{upstream="app"} 5.0',
        "hopproxy_client_links 15.0",
        "hopproxy_ready 1.0",
        "hopproxy_start_time_seconds 105.0",
        'hopproxy_build_info{version="1"} 1.0',
    ]


def test_what_ended_workers_counted_stays_and_their_links_do_not() -> None:
    past = lasting(families(100, 50))
    lines = shown(families(3, 10), past=past)
    assert lines[0] == 'hopproxy_requests_total{status="200",upstream="app"} 103.0'
    assert lines[4] == 'hopproxy_seconds_sum{upstream="app"} 5.0'
    assert "hopproxy_client_links 10.0" in lines


def test_a_series_that_only_an_ended_worker_had_stays() -> None:
    past = {("hopproxy_requests", "hopproxy_requests_total", (("upstream", "b"),)): 7.0}
    assert 'hopproxy_requests_total{upstream="b"} 7.0' in shown(families(3, 1), past=past)
    assert shown(families(3, 1), past={("gone", "gone_total", ()): 1}) == shown(families(3, 1))


def test_a_worker_that_does_not_answer_is_down() -> None:
    lines = shown(of_workers(1, [(0, 12, None), (2, 13, "answer")]))
    assert lines[:3] == [
        'hopproxy_worker_up{worker="0"} 0.0',
        'hopproxy_worker_up{worker="1"} 1.0',
        'hopproxy_worker_up{worker="2"} 1.0',
    ]


def test_connections_lost_with_a_worker_are_closes_of_its_clients() -> None:
    past = Past()
    past.lose(37)
    past.lose(0)
    closes = CounterMetricFamily("hopproxy_link_closes", "Closes.", labels=["hop"])
    reason = CloseReason.WORKER_ENDED
    lines = shown([closes.plain(), *of_workers(0, [])], past=past.counters)
    assert "hopproxy_worker_ends_total 2.0" in lines
    assert lines[0] == (
        f'hopproxy_link_closes_total{{hop="client",owner="{reason.owner.value}",'
        f'reason="{reason.label}"}} 37.0'
    )
    answer = {"time": 0.0, "closes": [], "counts": []}
    counts = whole.closes([answer], None, past.counters)["counts"]
    assert counts == [{"hop": "client", "owner": "us", "reason": reason.label, "count": 37}]


def closes(*times: float, count: int, last: float | None = None) -> dict[str, Any]:
    return {
        "time": 9.0,
        "closes": [{"time": at} for at in times],
        "counts": [{"hop": "client", "owner": "us", "reason": "max_age", "count": count}],
        "folded": {"last": last, "reasons": {"idle_timeout": count}},
    }


def test_last_closes_are_those_of_all_workers() -> None:
    both = whole.closes([closes(5.0, 3.0, count=2), closes(4.0, count=3, last=2.0)], 2, {})
    assert [row["time"] for row in both["closes"]] == [5.0, 4.0]
    assert both["counts"][0]["count"] == 5
    assert both["folded"] == {"last": 2.0, "reasons": {"idle_timeout": 5}}


def test_no_worker_is_ready_until_one_is() -> None:
    assert whole.unready(["draining", "no origin"]) == "draining"
    assert whole.unready(["no origin", ""]) == ""


def test_handshakes_with_an_origin_are_those_of_all_workers() -> None:
    def tls(full: int, version: str | None, **failed: int) -> dict[str, Any]:
        return {"full": full, "resumed": 2 * full, "failed": failed, "version": version}

    assert whole._tls([tls(1, None, tls_alert_received=1), tls(3, "TLSv1.3")]) == {
        "full": 4,
        "resumed": 8,
        "failed": {"tls_alert_received": 1},
        "version": "TLSv1.3",
    }

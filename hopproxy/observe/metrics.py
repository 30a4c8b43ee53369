"""Counters and gauges for Prometheus, read from the runtime on request.

Requests only change plain attributes; only this file knows about metrics.  Sizes are body bytes.
Durations are seconds, from a request's head to the end of its response.  `upstream` is empty for
requests that matched no route.
"""

import os
import time
from collections.abc import Iterator

import trio

from hopproxy import __version__
from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.error_log import ErrorLog
from hopproxy.observe.families import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    Plain,
)
from hopproxy.observe.h2_metrics import Streams
from hopproxy.observe.snapshot import origins, unready
from hopproxy.observe.tls_metrics import Tls
from hopproxy.proxy.tally import BUCKETS, Durations
from hopproxy.server.runtime import Reloads, Runtime


class Metrics:
    """The metrics of one worker."""

    def __init__(
        self, runtime: Runtime, access_log: AccessLog | None, error_log: ErrorLog | None = None
    ) -> None:
        self._collectors = (
            _Exchanges(runtime),
            _Links(runtime),
            _Worker(runtime, access_log, error_log),
            Tls(runtime),
            Streams(runtime),
        )

    def collect(self) -> list[Plain]:
        """What this worker counts now."""
        return [one.plain() for collector in self._collectors for one in collector.collect()]

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) of what this worker counts now."""
        from hopproxy.observe.exposition import exposition, process

        return exposition(self.collect() + process(), accept)


#: The durations in a tally: name and help of each histogram.
_HISTOGRAMS = {
    "durations": (
        "hopproxy_request_duration_seconds",
        "From a request's head to the end of its response; without upgraded connections.",
    ),
    "upgraded": (
        "hopproxy_upgraded_duration_seconds",
        "From an upgrade's head to the end of its connection.",
    ),
    "queued": (
        "hopproxy_queue_seconds",
        "Waits for an upstream link to come free; requests that did not wait are left out.",
    ),
    "connecting": (
        "hopproxy_connect_seconds",
        "Waits for an upstream connection to be made; requests that did not wait are left out.",
    ),
}


class _Exchanges:
    """Counters of requests."""

    def __init__(self, runtime: Runtime) -> None:
        self._tallies = runtime.tallies

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "hopproxy_requests",
            "Requests answered, by the status sent; 0: no response began.",
            labels=["upstream", "status"],
        )
        failures = CounterMetricFamily(
            "hopproxy_failures",
            "Requests that failed, by cause: RFC 9209 error types, and queue_timeout.",
            labels=["upstream", "cause"],
        )
        aborts = CounterMetricFamily(
            "hopproxy_client_aborts",
            "Requests whose client left or stopped reading before the end.",
            labels=["upstream", "cause"],
        )
        retries = CounterMetricFamily(
            "hopproxy_retries", "Requests sent a second time.", labels=["upstream"]
        )
        received = CounterMetricFamily(
            "hopproxy_received_bytes", "Body bytes taken from clients.", labels=["upstream"]
        )
        sent = CounterMetricFamily(
            "hopproxy_sent_bytes", "Body bytes sent to clients.", labels=["upstream"]
        )
        for name, tally in self._tallies.items():
            for status, count in tally.statuses.items():
                requests.add_metric([name, str(status)], count)
            for cause, count in tally.causes.items():
                failures.add_metric([name, cause], count)
            for cause, count in tally.aborts.items():
                aborts.add_metric([name, cause], count)
            retries.add_metric([name], tally.repeated)
            received.add_metric([name], tally.received)
            sent.add_metric([name], tally.sent)
        under_way = GaugeMetricFamily(
            "hopproxy_requests_in_flight",
            "Requests under way in upstreams that limit them.",
            labels=["upstream"],
        )
        most = GaugeMetricFamily(
            "hopproxy_requests_in_flight_limit", "Their limit.", labels=["upstream"]
        )
        for name, tally in self._tallies.items():
            if tally.under_way is not None:
                under_way.add_metric([name], tally.under_way.count)
                most.add_metric([name], tally.under_way.most)
        yield from (under_way, most)
        yield from (requests, failures, aborts, retries, received, sent)
        for kind, (name, what) in _HISTOGRAMS.items():
            yield self._histogram(kind, name, what)

    def _histogram(self, kind: str, name: str, what: str) -> HistogramMetricFamily:
        durations = HistogramMetricFamily(name, what, labels=["upstream"])
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for upstream, tally in self._tallies.items():
            found: Durations = getattr(tally, kind)
            below = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip(bounds, found.buckets, strict=True):
                below += count
                buckets.append((bound, below))
            durations.add_histogram([upstream], buckets, found.seconds)
        return durations


class _Links:
    """The links of both hops, and how they ended."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        clients = self._runtime.clients
        links = GaugeMetricFamily("hopproxy_client_links", "Open client links.", labels=["state"])
        links.add_metric(["idle"], len(clients.idle))
        links.add_metric(["busy"], len(clients.links) - len(clients.idle))
        yield links
        yield GaugeMetricFamily(
            "hopproxy_client_links_limit", "Client links that may be open.", clients.limit
        )
        yield CounterMetricFamily(
            "hopproxy_client_accepted", "Client connections accepted.", clients.accepted
        )
        yield from self._upstreams()
        closes = CounterMetricFamily(
            "hopproxy_link_closes",
            "Links that ended, by hop, reason, and the side that ended them.",
            labels=["hop", "reason", "owner"],
        )
        for (hop, reason), count in self._runtime.closes.counts.items():
            closes.add_metric([hop.value, reason.label, reason.owner.value], count)
        yield closes
        requests = CounterMetricFamily(
            "hopproxy_link_requests",
            "Requests on links that ended; with hopproxy_link_closes: requests a connection.",
            labels=["hop"],
        )
        for hop, count in self._runtime.closes.requests.items():
            requests.add_metric([hop.value], count)
        yield requests

    def _upstreams(self) -> Iterator[Metric]:
        of_origin = ["upstream", "origin"]
        links = GaugeMetricFamily(
            "hopproxy_upstream_links", "Open upstream links.", labels=[*of_origin, "state"]
        )
        limit = GaugeMetricFamily(
            "hopproxy_upstream_links_limit", "Upstream links that may be open.", labels=of_origin
        )
        waiting = GaugeMetricFamily(
            "hopproxy_upstream_waiting", "Requests waiting for a link.", labels=of_origin
        )
        reachable = GaugeMetricFamily(
            "hopproxy_upstream_reachable",
            "0 after a failed dial until one succeeds, else 1.",
            labels=of_origin,
        )
        out = GaugeMetricFamily(
            "hopproxy_upstream_out",
            "1 while an origin gets no requests, because requests or checks failed, else 0.",
            labels=of_origin,
        )
        outs = CounterMetricFamily(
            "hopproxy_upstream_outs", "How often an origin went out.", labels=of_origin
        )
        opened = CounterMetricFamily(
            "hopproxy_upstream_opened", "Upstream links opened.", labels=of_origin
        )
        reused = CounterMetricFamily(
            "hopproxy_upstream_reused", "Requests served by an idle link.", labels=of_origin
        )
        unused = CounterMetricFamily(
            "hopproxy_upstream_unused",
            "Upstream links opened after earlier ones, by the reason why none of those was used.",
            labels=[*of_origin, "reason"],
        )
        limits = GaugeMetricFamily(
            "hopproxy_upstream_idle_limit_seconds",
            "The idle age at which an upstream link is closed, and where this limit comes from.",
            labels=[*of_origin, "from"],
        )
        now = trio.current_time()
        for name, origin in origins(self._runtime):
            labels = [name, origin.label]
            links.add_metric([*labels, "idle"], len(origin.idle) + len(origin.bound_idle))
            links.add_metric([*labels, "lent"], origin.in_use)
            links.add_metric([*labels, "dialling"], origin.dialling)
            limit.add_metric(labels, origin.max_connections)
            waiting.add_metric(labels, len(origin.waiters))
            reachable.add_metric(labels, int(origin.reach.failed_at is None))
            out.add_metric(labels, int(origin.reach.is_out))
            outs.add_metric(labels, origin.reach.times_out)
            opened.add_metric(labels, origin.opened)
            reused.add_metric(labels, origin.reused)
            for why, count in origin.unused.items():
                unused.add_metric([*labels, why.value], count)
            found = origin.limit_at(now)
            limits.add_metric([*labels, found.source.value], found.value)
        yield from (links, limit, waiting, reachable, out, outs, opened, reused, unused, limits)


class _Worker:
    """The process."""

    def __init__(
        self, runtime: Runtime, access_log: AccessLog | None, error_log: ErrorLog | None
    ) -> None:
        self._runtime = runtime
        self._access_log = access_log
        self._error_log = error_log
        self._started = time.time() - (trio.current_time() - runtime.started)

    def collect(self) -> Iterator[Metric]:
        runtime = self._runtime
        yield InfoMetricFamily("hopproxy_build", "Which hopproxy.", {"version": __version__})
        yield GaugeMetricFamily(
            "hopproxy_start_time_seconds", "When serving began, Unix time.", self._started
        )
        yield GaugeMetricFamily(
            "hopproxy_draining", "1 while draining, else 0.", int(runtime.draining)
        )
        yield GaugeMetricFamily(
            "hopproxy_ready",
            "What /readyz says: 1 for 200.",
            int(not unready(runtime)),
        )
        yield from _of_reloads(runtime.reloads)
        dropped = self._access_log.dropped if self._access_log is not None else 0
        yield CounterMetricFamily(
            "hopproxy_access_log_dropped", "Log lines that were never written.", dropped
        )
        dropped = self._error_log.dropped if self._error_log is not None else 0
        yield CounterMetricFamily(
            "hopproxy_error_log_dropped",
            "Lines for standard error that were never written.",
            dropped,
        )
        used = os.times()
        yield CounterMetricFamily(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            round(used.user + used.system, 2),
        )


def _of_reloads(reloads: Reloads) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        "hopproxy_config_reloads",
        "How often the settings file was read anew, by outcome.",
        labels=["outcome"],
    )
    counts.add_metric(["done"], reloads.done)
    counts.add_metric(["failed"], reloads.failed)
    yield counts
    yield GaugeMetricFamily(
        "hopproxy_config_last_reload_successful",
        "0 if the last reload failed and the settings before it are in use, else 1.",
        int(not reloads.last_failed),
    )
    yield GaugeMetricFamily(
        "hopproxy_config_last_reload_success_timestamp_seconds",
        "When the settings in use were read, Unix time.",
        reloads.in_use_since,
    )
    yield GaugeMetricFamily(
        "hopproxy_config_last_reload_timestamp_seconds",
        "When the settings file was last read, with or without success, Unix time.",
        reloads.last_at,
    )

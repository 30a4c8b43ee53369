"""Counters and gauges of the streams on HTTP/2 links to origins."""

from collections.abc import Iterator

from hopproxy.observe.families import CounterMetricFamily, GaugeMetricFamily, Metric
from hopproxy.observe.snapshot import origins
from hopproxy.server.runtime import Runtime
from hopproxy.wire.h2_frames import code_name


def streams_of(runtime: Runtime) -> Iterator[Metric]:
    """The streams lent now, and those that origins have reset."""
    lent = GaugeMetricFamily(
        "hopproxy_upstream_streams",
        "Requests under way on HTTP/2 links.",
        labels=["upstream", "origin"],
    )
    for name, origin in origins(runtime):
        if origin.protocol != "http/1.1":
            lent.add_metric([name, origin.label], origin.streams)
    yield lent
    resets = CounterMetricFamily(
        "hopproxy_upstream_stream_resets",
        "HTTP/2 streams that origins have reset, by error code.",
        labels=["code"],
    )
    for code, count in runtime.pool.shared.resets.items():
        resets.add_metric([code_name(code)], count)
    yield resets

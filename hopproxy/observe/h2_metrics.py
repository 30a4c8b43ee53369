"""Counters and gauges of HTTP/2 streams on both hops."""

from collections.abc import Iterator

from hopproxy.link.h2 import H2Link
from hopproxy.observe.families import CounterMetricFamily, GaugeMetricFamily, Metric
from hopproxy.observe.snapshot import origins
from hopproxy.server.runtime import Runtime
from hopproxy.wire.h2_frames import code_name


class Streams:
    """The streams of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        yield from self._clients()
        yield from self.of_origins()

    def _clients(self) -> Iterator[Metric]:
        """Streams of clients' HTTP/2 links."""
        clients = self._runtime.clients
        links = [link for link in clients.links if isinstance(link, H2Link)]
        yield GaugeMetricFamily("hopproxy_client_h2_links", "Open HTTP/2 client links.", len(links))
        streams = GaugeMetricFamily(
            "hopproxy_client_streams", "Requests on HTTP/2 client links.", labels=["state"]
        )
        streams.add_metric(["busy"], sum(len(link.streams) for link in links))
        streams.add_metric(["waiting"], sum(len(link.parked) for link in links))
        yield streams
        yield CounterMetricFamily(
            "hopproxy_client_streams_opened",
            "Requests that came on HTTP/2 client links.",
            clients.streams.opened,
        )
        resets = CounterMetricFamily(
            "hopproxy_client_stream_resets",
            "Streams of HTTP/2 client links that were reset, by whom and with which error code.",
            labels=["by", "code"],
        )
        for (by, code), count in clients.streams.resets.items():
            resets.add_metric([by, code_name(code)], count)
        yield resets

    def of_origins(self) -> Iterator[Metric]:
        """The streams lent now, and those that origins have reset."""
        lent = GaugeMetricFamily(
            "hopproxy_upstream_streams",
            "Requests under way on HTTP/2 links.",
            labels=["upstream", "origin"],
        )
        for name, origin in origins(self._runtime):
            if origin.protocol != "http/1.1":
                lent.add_metric([name, origin.label], origin.streams)
        yield lent
        resets = CounterMetricFamily(
            "hopproxy_upstream_stream_resets",
            "HTTP/2 streams that origins have reset, by error code.",
            labels=["code"],
        )
        for code, count in self._runtime.pool.shared.resets.items():
            resets.add_metric([code_name(code)], count)
        yield resets

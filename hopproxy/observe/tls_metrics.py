"""Metrics of TLS on both hops: handshakes, those that were saved, and certificates."""

import time
from collections.abc import Iterator

from hopproxy.link.handshake import TlsTransport
from hopproxy.observe.families import CounterMetricFamily, GaugeMetricFamily, Metric
from hopproxy.reasons import Hop
from hopproxy.server.runtime import Runtime


class Tls:
    """The TLS of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        done = CounterMetricFamily(
            "hopproxy_tls_handshakes",
            "TLS handshakes by hop, version (empty if they failed) and outcome: full, resumed or "
            "failed.",
            labels=["hop", "version", "outcome"],
        )
        for (hop, version, outcome), count in self._runtime.handshakes.done.items():
            done.add_metric([hop.value, version, outcome], count)
        saved = CounterMetricFamily(
            "hopproxy_tls_handshakes_saved",
            "Requests over TLS on a connection that had served one before: no handshake was "
            "needed.",
            labels=["hop"],
        )
        for hop, count in saved_of(self._runtime).items():
            saved.add_metric([hop.value], count)
        left = GaugeMetricFamily(
            "hopproxy_certificate_days_left",
            "Days until a certificate of the settings expires; negative after that.",
            labels=["setting", "subject"],
        )
        now = time.time()
        for path, facts in self._runtime.certificates:
            left.add_metric([path, facts.subject], facts.days_left(now))
        yield from (done, saved, left)


def saved_of(runtime: Runtime) -> dict[Hop, int]:
    """How many handshakes were saved on each hop, open connections included."""
    saved = dict(runtime.handshakes.saved)
    links = [(link.hop, link.transport, link.served) for link in runtime.clients.links]
    links += [(link.hop, link.transport, link.served) for link in runtime.pool.links]
    for hop, transport, served in links:
        if isinstance(transport, TlsTransport):
            saved[hop] += transport.saves(served)
    return saved

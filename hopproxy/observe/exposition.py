"""Metrics as a scraper reads them.

Imported on first use, since importing `prometheus_client` takes a tenth of the start-up time.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hopproxy.observe.families import Plain


def process() -> list[Plain]:
    """Memory, descriptors and start time of this process, by the usual names.

    The CPU time is among the worker's counters, since it must outlive the worker.
    """
    found: list[Plain] = []
    for metric in ProcessCollector(registry=CollectorRegistry()).collect():
        if metric.name != "process_cpu_seconds":
            samples = {(one.name, tuple(one.labels.items())): one.value for one in metric.samples}
            found.append((metric.name, metric.documentation, metric.type, samples))
    return found


def exposition(families: Iterable[Plain], accept: str) -> tuple[bytes, str]:
    """(body, content type): OpenMetrics if it is accepted, else the Prometheus text format."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return encode(registry), content_type


class _Families(Collector):
    def __init__(self, families: Iterable[Plain]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, what, kind, samples in self._families:
            metric = Metric(name, what, kind)
            for (sample, labels), value in samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def describe(self) -> Iterator[Metric]:
        return iter(())

"""Metrics as plain values, which workers send to each other and add up.

The classes are used like those of `prometheus_client`, which writes the result.
"""

from collections.abc import Iterable, Sequence
from typing import Any

#: The labels of a sample, in order.
Labels = tuple[tuple[str, str], ...]
#: A sample of a counter, as it outlives a worker: family, name of the sample, labels.
Key = tuple[str, str, Labels]
#: (name, what it is, type, samples), as `Metric.plain` writes it.
Plain = tuple[str, str, str, dict[tuple[str, Labels], float]]

COUNTER, GAUGE, HISTOGRAM, INFO = "counter", "gauge", "histogram", "info"
#: Types of samples that are added up over all workers, and kept when one ends.
LASTING = (COUNTER, HISTOGRAM)


class Metric:
    """One metric: its samples by their name and labels, in the order in which they are written."""

    type = GAUGE
    suffix = ""

    def __init__(
        self, name: str, what: str, value: float | None = None, *, labels: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.what = what
        self.labels = labels
        self.samples: dict[tuple[str, Labels], float] = {}
        if value is not None:
            self.add_metric((), value)

    def add_metric(self, values: Sequence[str], value: float) -> None:
        """Add one sample."""
        labels = tuple(zip(self.labels, values, strict=True))
        self.samples[self.name + self.suffix, labels] = value

    def plain(self) -> Plain:
        """This family as plain values."""
        return self.name, self.what, self.type, self.samples


class GaugeMetricFamily(Metric):
    """A number that goes up and down."""


class CounterMetricFamily(Metric):
    """A number that only grows."""

    type = COUNTER
    suffix = "_total"


class InfoMetricFamily(Metric):
    """Words, as labels of a 1."""

    type = INFO

    def __init__(self, name: str, what: str, words: dict[str, str]) -> None:
        super().__init__(name, what)
        self.samples[name + "_info", tuple(words.items())] = 1


class HistogramMetricFamily(Metric):
    """Observed values, counted below bounds."""

    type = HISTOGRAM

    def add_histogram(
        self, values: Sequence[str], buckets: Iterable[tuple[str, float]], total: float
    ) -> None:
        """Add one histogram: the counts up to each bound, the last one `+Inf`, and the sum."""
        labels = tuple(zip(self.labels, values, strict=True))
        count = 0.0
        for bound, count in buckets:
            self.samples[f"{self.name}_bucket", (*labels, ("le", bound))] = count
        self.samples[f"{self.name}_count", labels] = count
        self.samples[f"{self.name}_sum", labels] = total


def lasting(families: Iterable[Plain]) -> dict[Key, float]:
    """The samples that must not be lost when this worker ends."""
    return {
        (name, sample, labels): value
        for name, _, kind, samples in families
        if kind in LASTING
        for (sample, labels), value in samples.items()
    }


#: Gauges that are not added up over all workers, and how they are combined.
_TOLD = {
    "hopproxy_draining": max,
    "hopproxy_ready": max,
    "hopproxy_certificate_days_left": min,
    "hopproxy_config_last_reload_successful": min,
    "hopproxy_upstream_reachable": max,
    "hopproxy_upstream_out": max,
    "hopproxy_upstream_idle_limit_seconds": min,
    "hopproxy_start_time_seconds": min,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}


def whole(workers: Sequence[Iterable[Plain]], past: dict[Any, float]) -> list[Plain]:
    """The families of all workers together, including the counts of workers that have ended."""
    found: dict[str, Plain] = {}
    for families in workers:
        for name, what, kind, samples in families:
            ours = found.setdefault(name, (name, what, kind, {}))[3]
            told = _TOLD.get(name)
            if kind == INFO or (told is None and kind == GAUGE and name.endswith("_seconds")):
                told = max
            for key, value in samples.items():
                if key not in ours:
                    ours[key] = value
                else:
                    ours[key] = ours[key] + value if told is None else told(ours[key], value)
    for key, value in past.items():
        if key[0] in found:
            name, sample, labels = key
            samples = found[name][3]
            samples[sample, labels] = samples.get((sample, labels), 0) + value
    return list(found.values())


def of_workers(place: int, others: Iterable[tuple[int, int, object]]) -> list[Plain]:
    """Which workers answer: the one at `place`, and (place, pid, answer or None) of the others."""
    up = GaugeMetricFamily(
        "hopproxy_worker_up", "1 for a worker that answers, else 0.", labels=["worker"]
    )
    found = {place: 1, **{other: int(answer is not None) for other, _, answer in others}}
    for number, answers in sorted(found.items()):
        up.add_metric([str(number)], answers)
    ends = CounterMetricFamily("hopproxy_worker_ends", "Workers that crashed or were killed.", 0)
    return [up.plain(), ends.plain()]

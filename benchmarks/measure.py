"""Numbers of a scenario: readings by proxy and round, medians, ratios paired by round.

Rounds are interleaved (A B C, A B C), so a ratio compares two readings a few seconds apart: a
machine that is slower for a minute slows both, and the median of the ratios stays true where the
ratio of the medians would not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Reading = Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """One number of a reading: its key, its heading, and how many decimals are worth printing."""

    key: str
    heading: str
    decimals: int = 0


@dataclass
class Outcome:
    """Everything read in one scenario: proxy name to its readings, in order of rounds.

    A round that failed for a proxy holds None there, so that rounds stay paired.
    """

    scenario: str
    readings: dict[str, list[Reading | None]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reading: Reading | None) -> None:
        self.readings.setdefault(name, []).append(reading)

    def middle(self, name: str, key: str) -> float | None:
        """The median over the rounds, or None without any reading."""
        values = [reading[key] for reading in self.readings.get(name, []) if reading is not None]
        return median(values) if values else None

    def total(self, name: str, key: str) -> float:
        """The sum over the rounds: for errors, where a median would hide one bad round."""
        return sum(reading[key] for reading in self.readings.get(name, []) if reading is not None)

    def ratio(self, ours: str, theirs: str, key: str) -> float | None:
        """The median of the ratios ours/theirs of each round, or None without a pair."""
        return median_ratio(self._column(ours, key), self._column(theirs, key))

    def _column(self, name: str, key: str) -> list[float | None]:
        return [
            None if reading is None else reading[key] for reading in self.readings.get(name, [])
        ]


def median_ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> float | None:
    """The median of ours/theirs over the rounds in which both were read and theirs is not zero."""
    ratios = [
        mine / other
        for mine, other in zip(ours, theirs, strict=False)
        if mine is not None and other is not None and other != 0
    ]
    return median(ratios) if ratios else None


def spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart: (largest - smallest) / median; 0 for one round."""
    return (max(values) - min(values)) / median(values) if values and median(values) else 0.0


def per_request(cpu_seconds: float, requests: int) -> float:
    """Microseconds of CPU for each request; 0 without requests."""
    return cpu_seconds / requests * 1e6 if requests else 0.0

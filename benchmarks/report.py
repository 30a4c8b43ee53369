"""Tables for people, JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Column, Outcome, spread
from benchmarks.peers.catalog import HOPPROXY
from benchmarks.scenarios import Scenario

SUMMED = frozenset({"errors", "lost"})
NOTHING = "-"


def number(value: float | None, decimals: int = 0) -> str:
    """A number with thousands separated, or a dash."""
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def rows(scenario: Scenario, outcome: Outcome) -> list[list[str]]:
    """The table of one scenario: its heading, then a row for each proxy."""
    ratio_heading = f"hopproxy / it, by {_heading(scenario)}"
    table = [["proxy", *(column.heading for column in scenario.columns), ratio_heading, "spread"]]
    for name in outcome.readings:
        ratio = None if name == HOPPROXY else outcome.ratio(HOPPROXY, name, scenario.ratio)
        values = [
            reading[scenario.ratio] for reading in outcome.readings[name] if reading is not None
        ]
        cells = [_cell(outcome, name, column) for column in scenario.columns]
        table.append([name, *cells, number(ratio, 2), f"{100 * spread(values):.0f} %"])
    return table


def text_table(table: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces, in a form that Markdown reads as a table."""
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    lines = []
    for place, row in enumerate(table):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |")
        if place == 0:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            lines.append("| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def machine(files: int, shared: bool) -> dict[str, object]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "open_files": files,
        "proxy_shares_a_core": shared,
        "load_average": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def write_json(
    folder: Path,
    about: Mapping[str, object],
    versions: Mapping[str, str],
    outcomes: Sequence[Outcome],
) -> Path:
    """All readings of a run, none averaged, in a file named by its time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    scenarios = {
        outcome.scenario: {"readings": outcome.readings, "failures": outcome.failures}
        for outcome in outcomes
    }
    whole = {"machine": dict(about), "versions": dict(versions), "scenarios": scenarios}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    return path


def _cell(outcome: Outcome, name: str, column: Column) -> str:
    if not any(reading is not None for reading in outcome.readings[name]):
        return NOTHING
    if column.key in SUMMED:
        return number(outcome.total(name, column.key))
    return number(outcome.middle(name, column.key), column.decimals)


def _heading(scenario: Scenario) -> str:
    return next(column.heading for column in scenario.columns if column.key == scenario.ratio)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

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
    compared = scenario.compared if set(outcome.readings) > {HOPPROXY} else ()
    ratios = [f"ratio {key}" for key in compared]
    table = [["proxy", *(column.heading for column in scenario.columns), *ratios, "spread"]]
    for name, readings in outcome.readings.items():
        cells = [_cell(outcome, name, column) for column in scenario.columns]
        for key in compared:
            ratio = None if name == HOPPROXY else outcome.ratio(HOPPROXY, name, key)
            cells.append(number(ratio, 2))
        values = [reading[scenario.main] for reading in readings if reading is not None]
        apart = f"{100 * spread(values):.0f} %" if values else NOTHING
        table.append([name, *cells, apart])
    return table


def text_table(table: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns in a form that Markdown reads as a table; the first `left` hold words."""
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    rule = ["-" * w if place < left else "-" * (w - 1) + ":" for place, w in enumerate(widths)]
    lines = []
    for row in (table[0], rule, *table[1:]):
        words = [cell.ljust(w) for cell, w in zip(row[:left], widths[:left], strict=True)]
        numbers = [cell.rjust(w) for cell, w in zip(row[left:], widths[left:], strict=True)]
        lines.append("| " + " | ".join([*words, *numbers]) + " |")
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


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

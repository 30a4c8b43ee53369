"""The picture of a run: a panel for each scenario, a bar for each proxy, as plain SVG.

The picture brings its own background in the reader's colour scheme, so that it can be read on a
light page, on a dark one, and where page and reader disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.measure import Outcome
from benchmarks.scenarios import Scenario

WIDTH = 960
COLUMNS = 2
MARGIN = 24
GAP = 32
TOP = 78
BAR = 15
STEP = 21
PANEL_HEAD = 40
NAME_WIDTH = 76
LABEL_WIDTH = 126

_STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de }
  text { font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 }
  .panel { font-size: 13px; font-weight: 600 }
  .quiet { fill: #59636e }
  .ours { fill: #1f6feb }
  .theirs { fill: #afb8c1 }
  .name { text-anchor: end }
  .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #30363d }
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .theirs { fill: #484f58 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One proxy in a panel: how long the bar is, what stands at its end, whether it is ours."""

    name: str
    value: float
    label: str
    ours: bool


@dataclass(frozen=True)
class Panel:
    """One scenario: its name, what was done, which way is better, its bars."""

    name: str
    what: str
    unit: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return PANEL_HEAD + STEP * len(self.bars)


def panel(scenario: Scenario, outcome: Outcome, ours: str) -> Panel:
    """The medians of one scenario; proxies without any reading are left out."""
    column = next(column for column in scenario.columns if column.key == scenario.main)
    bars = []
    for name in outcome.readings:
        value = outcome.middle(name, scenario.main)
        if value is None:
            continue
        cpu = outcome.middle(name, "cpu") if scenario.main == "rate" else None
        label = f"{value:,.{column.decimals}f}" + ("" if cpu is None else f"  ({cpu:,.0f} us)")
        bars.append(Bar(name, value, label, name == ours))
    reading = "  (CPU us each)" if scenario.main == "rate" else ", less is better"
    return Panel(scenario.name, scenario.what, column.heading + reading, bars)


def picture(panels: Sequence[Panel], note: str) -> str:
    """The whole SVG: title, note, panels in rows of two."""
    width = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) // COLUMNS
    drawn = []
    y = TOP
    for first in range(0, len(panels), COLUMNS):
        row = panels[first : first + COLUMNS]
        for place, one in enumerate(row):
            drawn.append(_draw(one, MARGIN + place * (width + GAP), y, width))
        y += max(one.height for one in row) + GAP
    height = y - GAP + MARGIN
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title note">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" x="1" y="1" rx="8" width="{WIDTH - 2}" height="{height - 2}"/>',
            f'<text class="title" id="title" x="{MARGIN}" y="36">'
            "Speed of one worker on one core</text>",
            f'<text class="quiet" id="note" x="{MARGIN}" y="56">{escape(note)}</text>',
            *drawn,
            "</svg>\n",
        )
    )


def note(about: Mapping[str, object], rounds: int) -> str:
    """Where and how the numbers were read, in one line."""
    return (
        f"Medians of {rounds} interleaved rounds; {about['cpu']}, Linux {about['kernel']}, "
        f"Python {about['python']}"
    )


def _draw(one: Panel, x: int, y: int, width: int) -> str:
    longest = max((bar.value for bar in one.bars), default=0.0) or 1.0
    room = width - NAME_WIDTH - LABEL_WIDTH
    parts = [
        f'<text class="panel" x="{x}" y="{y + 12}">{escape(one.name)}'
        f'<tspan class="quiet" font-weight="400" dx="8">{escape(one.what)}</tspan></text>',
        f'<text class="quiet" x="{x + NAME_WIDTH}" y="{y + 29}">{escape(one.unit)}</text>',
    ]
    for place, bar in enumerate(one.bars):
        top = y + PANEL_HEAD + STEP * place
        length = max(1.0, room * bar.value / longest)
        weight = " strong" if bar.ours else ""
        parts += [
            f'<text class="name{weight}" x="{x + NAME_WIDTH - 8}" y="{top + 12}">'
            f"{escape(bar.name)}</text>",
            f'<rect class="{"ours" if bar.ours else "theirs"}" x="{x + NAME_WIDTH}" y="{top}" '
            f'width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text class="{weight.strip() or "quiet"}" x="{x + NAME_WIDTH + length + 6:.1f}" '
            f'y="{top + 12}">{escape(bar.label)}</text>',
        ]
    return "\n".join(parts)

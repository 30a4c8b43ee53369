"""The live page at every usual width, light and dark: nothing leaves its card or is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import hopproxy, write_settings
from tests.dev.browser import Browser
from tests.observe import busy
from tests.ports import free_port

WIDTHS = (360, 400, 540, 720, 800, 1024, 1081, 1100, 1180, 1280, 1440, 1920)

#: From now on the page shows this, whatever its worker says.
SHOW = """
const links = %s, closes = %s;
window.fetch = async path => ({ ok: true, json: async () => structuredClone(
  path.startsWith("links") ? links : closes) });
"""

#: Every fault of the layout, in words.
FAULTS = """
const faults = [], near = 0.6;
const named = e => e.tagName.toLowerCase() + (e.className.baseVal ?? "." + e.className) +
  " " + JSON.stringify((e.textContent || "").slice(0, 40));
const seen = e => { const s = getComputedStyle(e); const r = e.getBoundingClientRect();
  return s.display !== "none" && s.visibility !== "hidden" && r.width && r.height; };
const page = document.scrollingElement;
if (page.scrollWidth > innerWidth) faults.push("the page scrolls sideways: " + page.scrollWidth);
for (const card of document.querySelectorAll(".sheet, .tile, header, #gone, .legend")) {
  if (!seen(card)) continue;
  const c = card.getBoundingClientRect();
  if (c.left < -near || c.right > innerWidth + near)
    faults.push("out of the window: " + named(card));
  for (const e of card.querySelectorAll("*")) {
    if (!seen(e) || e.closest("svg")) continue;
    const r = e.getBoundingClientRect();
    if (r.left < c.left - near || r.right > c.right + near || r.bottom > c.bottom + near)
      faults.push("out of its card: " + named(e));
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
      faults.push("cut or overflowing: " + named(e));
  }
}
for (const row of document.querySelectorAll(".row, tr, .outcome, .title, header, .tile")) {
  if (!seen(row)) continue;
  const r = row.getBoundingClientRect();
  const lines = [];
  const walk = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
  for (let text; (text = walk.nextNode());) {
    if (!text.data.trim() || !seen(text.parentElement)) continue;
    const range = document.createRange(); range.selectNodeContents(text);
    for (const box of range.getClientRects()) {
      if (box.top < r.top - 2 || box.bottom > r.bottom + 2)
        faults.push("out of its row: " + named(text.parentElement));
      for (const other of lines)
        if (other.text !== text && box.left < other.box.right - 1 && other.box.left < box.right - 1
            && box.top < other.box.bottom - 3 && other.box.top < box.bottom - 3)
          faults.push("printed over each other: " + named(text.parentElement) + " and "
            + named(other.text.parentElement));
      lines.push({ box, text });
    }
  }
}
const rows = [...document.querySelectorAll(".row")].filter(seen);
for (const row of rows)
  for (const cell of row.querySelectorAll(".number, .state, .requests, .age"))
    if (cell.getClientRects().length > 1 || cell.getBoundingClientRect().height > 24)
      faults.push("wrapped: " + named(cell));
return [rows.length, document.querySelectorAll(".row.idle .limit i").length, faults];
"""


#: Ends of lines at which there is no dot.
LOST_ENDS = """
const dots = [...document.querySelectorAll(".row .dot")].map(e => e.getBoundingClientRect());
const frame = document.querySelector("#hops").getBoundingClientRect(), lost = [];
const paths = [...document.querySelectorAll(".hops path")];
if (!paths.length) lost.push("no line is drawn");
for (const path of paths)
  for (const at of [0, path.getTotalLength()]) {
    const end = path.getPointAtLength(at), x = end.x + frame.left, y = end.y + frame.top;
    if (!dots.some(d => Math.abs(x - (d.left + d.right) / 2) < 6
                     && Math.abs(y - (d.top + d.bottom) / 2) < 2)) lost.push([x, y]);
  }
return lost;
"""


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's URL; it shows a busy worker."""
    admin = free_port()
    directory = tmp_path_factory.mktemp("page")
    file, _ = write_settings(directory, free_port(), f"admin: {{bind: 127.0.0.1:{admin}}}")
    with hopproxy("run", "--config", str(file), until="listening"):
        browser.open(f"http://127.0.0.1:{admin}")
        browser.run(SHOW % (json.dumps(busy.links()), json.dumps(busy.closes())))
        browser.wait_for("#upstreams", busy.LONG_NAME)
        yield f"http://127.0.0.1:{admin}"
    browser.size(1280, 900)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_its_card_overlaps_or_is_cut(
    browser: Browser, page: str, width: int, dark: bool
) -> None:
    browser.size(width, 1000, dark=dark)
    rows, idle, faults = browser.run(FAULTS)
    assert rows == 40 + 39
    assert idle > 5
    assert faults == []
    ground: Any = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(246, 246, 243)")


@pytest.mark.parametrize("width", [1280, 1920])
def test_lines_join_the_dots_as_soon_as_the_window_has_another_width(
    browser: Browser, page: str, width: int
) -> None:
    browser.size(1100, 1000)
    browser.run("window.fetch = () => new Promise(() => {});")  # no new look
    browser.size(width, 1000)
    lost = browser.run(LOST_ENDS)
    assert lost == []


def test_the_check_sees_a_row_that_runs_out_of_its_card(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    browser.size(1280, 1000)
    browser.run("document.querySelector('.row .state').style.marginRight = '-400px';")
    browser.run("document.querySelector('.row .state').textContent = 'busy '.repeat(99);")
    _, _, faults = browser.run(FAULTS)
    assert faults

"""SECURITY.md says what the settings and the table of refusals say."""

from __future__ import annotations

import re
from pathlib import Path

from hopproxy.link import splice
from hopproxy.link.link import MAX_EMPTY_LINES
from hopproxy.observe.admin import MOST_CONNECTIONS
from hopproxy.pool import resolver
from hopproxy.proxy.upload import KEPT
from hopproxy.rules.framing import MAX_OPTIONS
from hopproxy.settings.reference import reference
from hopproxy.wire.chunked import MAX_EXTENSIONS, MAX_LINE, MAX_TRAILERS
from tests.faults.test_refusals import TABLE

TEXT = (Path(__file__).parents[2] / "SECURITY.md").read_text()
#: Settings that bound something, by how they are named.
BOUND = re.compile(r"timeout|keepalive|backlog|queue|max_|linger|body_rate")


def rows(name: str) -> list[list[str]]:
    """The cells of one marked table."""
    inside = TEXT.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
    return [
        [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        for line in inside.splitlines()[2:]
    ]


def test_every_limit_is_there_with_its_default() -> None:
    shown = {path: default for path, default, _ in rows("limits")}
    meant = {row.path: row.default for row in reference() if BOUND.search(row.path)}
    assert shown == meant


def test_every_refusal_is_there_by_its_status_and_no_other() -> None:
    shown = {int(status) for status, _ in rows("refusals")}
    assert shown == {row.values[1] for row in TABLE}


def test_what_is_fixed_is_what_the_code_says() -> None:
    (fixed,) = re.findall(
        r"^Limits that cannot be changed: (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL
    )
    assert [int(number) for number in re.findall(r"\d+", fixed)] == [
        MAX_OPTIONS,
        MAX_EMPTY_LINES,
        MAX_LINE // 1024,
        MAX_TRAILERS // 1024,
        MAX_EXTENSIONS // 1024,
        KEPT // 1024,
        splice.SIZE // 1024,
        MOST_CONNECTIONS,
        resolver.MOST,
    ]

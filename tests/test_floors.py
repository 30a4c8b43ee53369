"""A file of hopproxy imports only from lower floors.

The floors are read from the table in hopproxy/DESIGN.md, so that page cannot go stale.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "hopproxy"
PURE_FLOORS = {1, 2, 3}
FORBIDDEN_IN_PURE = {"trio", "socket", "ssl", "time", "logging", "threading", "asyncio", "select"}


class Floor(NamedTuple):
    """The place of a file: `step` is its row in the table, since a floor may have several."""

    step: int
    number: int


def floors() -> dict[str, Floor]:
    """The floor of each file, by its path below hopproxy/ ("rules/hop.py")."""
    table: dict[str, Floor] = {}
    for step, line in enumerate((PACKAGE / "DESIGN.md").read_text().splitlines()):
        row = re.match(r"\|\s*(\d+)[^|]*\|([^|]*)\|", line)
        if row:
            for file in re.findall(r"`([\w/]+\.py)`", row[2]):
                table[file] = Floor(step, int(row[1]))
    return table


FLOORS = floors()
FILES = sorted(
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob("*.py")
    if path.read_text().strip() and str(path.relative_to(PACKAGE)) != "__init__.py"
)


def imported(file: str) -> tuple[set[str], set[str]]:
    """(files of hopproxy that `file` imports, top-level names of other modules it imports)."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] != "hopproxy":
                others.add(parts[0])
                continue
            for end in range(len(parts), 1, -1):
                path = "/".join(parts[1:end]) + ".py"
                if (PACKAGE / path).exists():
                    ours.add(path)
                    break
    return ours, others


def test_each_file_has_a_floor() -> None:
    missing = [file for file in FILES if file not in FLOORS]
    assert not missing, "without a floor in hopproxy/DESIGN.md"


def test_each_floor_has_its_file() -> None:
    missing = [file for file in FLOORS if not (PACKAGE / file).exists()]
    assert not missing, "named by hopproxy/DESIGN.md, and not there"


def test_each_file_imports_only_from_lower_floors() -> None:
    wrong = []
    for file in FILES:
        ours, others = imported(file)
        floor = FLOORS[file]
        wrong += [f"{file} imports {one}" for one in ours if FLOORS[one].step >= floor.step]
        if floor.number in PURE_FLOORS:
            wrong += [f"{file} is pure, yet imports {one}" for one in others & FORBIDDEN_IN_PURE]
    assert not wrong


def test_each_file_has_at_most_330_lines() -> None:
    lines = {file: len((PACKAGE / file).read_text().splitlines()) for file in FILES}
    long = {file: count for file, count in lines.items() if count > 330}
    assert not long, "split them"

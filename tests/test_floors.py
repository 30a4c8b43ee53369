"""The house stands: a file of hopproxy imports only from floors below its own.

The floors are read from the table in hopproxy/DESIGN.md, so that page cannot go stale.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "hopproxy"
PURE_FLOORS = {1, 2, 3}
FORBIDDEN_IN_PURE = {"trio", "socket", "ssl", "time", "logging", "threading", "asyncio", "select"}


class Floor(NamedTuple):
    """Where a room stands: `step` orders the rows of the table, a floor may have several."""

    step: int
    number: int


def floors() -> dict[str, Floor]:
    """Floor of each room, keyed by its path below hopproxy/ ("rules/hop.py")."""
    table: dict[str, Floor] = {}
    for step, line in enumerate((PACKAGE / "DESIGN.md").read_text().splitlines()):
        row = re.match(r"\|\s*(\d+)[^|]*\|([^|]*)\|", line)
        if row:
            for room in re.findall(r"`([\w/]+\.py)`", row[2]):
                table[room] = Floor(step, int(row[1]))
    return table


FLOORS = floors()
ROOMS = sorted(
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob("*.py")
    if path.read_text().strip() and str(path.relative_to(PACKAGE)) != "__init__.py"
)


def imported(room: str) -> tuple[set[str], set[str]]:
    """(rooms of hopproxy that `room` imports, top names of other modules it imports)."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / room).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{room}: relative import"
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


@pytest.mark.parametrize("room", ROOMS)
def test_room_has_a_floor(room: str) -> None:
    assert room in FLOORS, f"{room} stands on no floor of hopproxy/DESIGN.md"


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_floor_has_its_room(room: str) -> None:
    assert (PACKAGE / room).exists(), f"DESIGN.md names {room}, which is not there"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_from_lower_floors(room: str) -> None:
    ours, others = imported(room)
    for lower in ours:
        assert FLOORS[lower].step < FLOORS[room].step, f"{room} imports {lower} from above"
    if FLOORS[room].number in PURE_FLOORS:
        assert not others & FORBIDDEN_IN_PURE, f"{room} is pure, yet imports {others}"


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_of_a_human_size(room: str) -> None:
    lines = len((PACKAGE / room).read_text().splitlines())
    assert lines <= 330, f"{room} has {lines} lines: cut it where the idea ends"

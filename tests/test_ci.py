"""What `.ci/run` and the Makefile ask for is what the tests and the floors need."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests import conftest
from tests.conftest import needs
from tests.test_floors import FLOORS, PURE_FLOORS

ROOT = Path(__file__).parent.parent
RUN = ROOT / ".ci" / "run"


def test_every_program_that_a_test_needs_is_installed() -> None:
    asked = set()
    for file in (ROOT / "tests").rglob("*.py"):
        for program, debian in re.findall(
            r'needs\("([\w-]+)"(?:, debian="([\w-]+)")?\)', file.read_text()
        ):
            asked.add((program, debian or program))
    assert ("chromedriver", "chromium-driver") in asked
    listed = RUN.read_text().partition("needed=(")[2].partition("\n)")[0]
    installed = set(re.findall(r"([\w-]+):([\w-]+)", listed))
    assert asked <= installed


def test_full_coverage_is_asked_of_every_pure_room() -> None:
    makefile = [needs("make"), "--no-print-directory", "--eval", "pure: ; @echo $(PURE)", "pure"]
    said = subprocess.run(makefile, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pure = {f"hopproxy/{room}" for room, floor in FLOORS.items() if floor.number in PURE_FLOORS}
    assert set(said.strip().split(",")) == pure


@pytest.mark.parametrize("driver", ["tasks", "mixed"])
def test_check_runs_the_tests_that_serve_requests_with_each_driver(driver: str) -> None:
    planned = [needs("make"), "--dry-run", "check"]
    said = subprocess.run(planned, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (run,) = [line for line in said.splitlines() if f"HOPPROXY_TEST_DRIVER={driver}" in line]
    folders = run.partition(" -m exchanges ")[2].split()
    assert {"tests/conformance", "tests/links"} <= set(folders)
    assert all((ROOT / folder).is_dir() for folder in folders)


def _skipped(reason: str) -> pytest.TestReport:
    where = ("file.py", 1, f"Skipped: {reason}")
    return pytest.TestReport("x", ("file.py", 1, "x"), {}, "skipped", where, "call")


@pytest.mark.parametrize(
    ("required", "reason", "outcome"),
    [
        ("1", "missing: nginx (apt-get install nginx)", "failed"),
        ("1", "this machine has no IPv6", "skipped"),
        ("", "missing: nginx (apt-get install nginx)", "skipped"),
    ],
)
def test_a_missing_program_fails_where_all_are_required(
    monkeypatch: pytest.MonkeyPatch, required: str, reason: str, outcome: str
) -> None:
    monkeypatch.setenv("HOPPROXY_REQUIRE_ALL", required)
    report = _skipped(reason)
    conftest._require(report)
    assert report.outcome == outcome


def test_a_missing_program_is_named_with_its_package() -> None:
    program, package = "no-such-program", "box"
    with pytest.raises(pytest.skip.Exception, match=rf"^missing: {program} .*install {package}\)$"):
        needs(program, debian=package)

"""Searches of the tests keep what they find for themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import search


@pytest.fixture(autouse=True)
def _findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FINDINGS", tmp_path / "findings")

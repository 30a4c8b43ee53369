"""Both hops in virtual time, as in tests/links."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.links.conftest import directory, hops, tcp_hops
from tests.wire_pair import in_virtual_time

__all__ = ["directory", "hops", "tcp_hops"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time is virtual in this folder."""
    in_virtual_time(items, Path(__file__).parent)

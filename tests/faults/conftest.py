"""The two hops of `tests/links` in virtual time; after each test the proof that nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.links.conftest import directory, hops, tcp_hops
from tests.wire_pair import virtual_time

__all__ = ["directory", "hops", "tcp_hops"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the async tests of this folder in virtual time, in front of what trio_mode has set."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=virtual_time), append=False)

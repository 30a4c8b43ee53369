"""Two hops for each test, and the proof after it that nothing of them is left."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.wire_pair import Hops, nothing_left, virtual_time


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the async tests of this folder in virtual time, in front of what trio_mode has set."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=virtual_time), append=False)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hops") as made:
        yield Path(made)


@pytest.fixture
async def hops(directory: Path) -> AsyncIterator[Hops]:
    """Both hops on Unix sockets; time is virtual and jumps when nothing moves."""
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = Hops(nursery, directory)
            yield made
            await made.end()


@pytest.fixture
async def tcp_hops(directory: Path) -> AsyncIterator[Hops]:
    """The same on loopback TCP, whose delivery may lag behind the system call for a moment."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.autojump_threshold = 0.03
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = Hops(nursery, directory)
            made.tcp = True
            yield made
            await made.end()

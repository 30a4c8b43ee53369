"""Two hops for each test, and the proof after it that nothing of them is left."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.wire_pair import Hops, in_virtual_time, nothing_left


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time is virtual in this folder."""
    in_virtual_time(items, Path(__file__).parent)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hops") as made:
        yield Path(made)


@pytest.fixture
async def hops(directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[Hops]:
    """Both hops on Unix sockets; time is virtual and jumps when nothing moves.

    A file of tests may have a kind of its own, as `HOPS`.
    """
    kind: type[Hops] = getattr(request.module, "HOPS", Hops)
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = kind(nursery, directory)
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

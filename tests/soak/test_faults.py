"""A fault of hopproxy fails a soak, whatever its clients allow at that time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.raw_peers import Peer
from tests.soak.clients import SCENARIOS, Crowd
from tests.soak.multiplexed import Multiplexed
from tests.soak.origin import Origin
from tests.soak.proxy import FaultLogged, running

#: Read by Python before hopproxy begins: what routes requests has a fault.
PLANTED = """\
from hopproxy.routing.table import Table

def find(*_):
    raise ValueError("planted")

Table.find = find
"""


async def test_a_planted_fault_is_told_by_the_clients_and_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FaultLogged, match="planted"):
        await meet_faults(tmp_path)


async def meet_faults(folder: Path) -> None:
    """Three clients, each answered 500."""
    origin = Origin()
    origin.restarts.append((0.0, float("inf")))  # under which much is allowed
    with running(folder, [1]) as proxy:
        crowd = Crowd(proxy.port, origin)
        for name in ("keep-alive", "upgrade", "pipeline"):
            await SCENARIOS[name][0](crowd, random.Random(1))
            assert "500" in crowd.wrong.pop(), name
        closed, failed, *logged = await trio.to_thread.run_sync(proxy.faults)
        assert closed == "3 client links were closed as internal_error"
        assert failed.endswith(" 3.0")
        assert len(logged) == 6, "for each a line that names it, and a traceback"


async def test_without_a_fault_nothing_is_reported(tmp_path: Path) -> None:
    origin = Origin()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(origin.serve, 0)
        with running(tmp_path, [port]) as proxy:
            crowd = Crowd(proxy.port, origin)
            for name in ("keep-alive", "upgrade", "pipeline"):
                await SCENARIOS[name][0](crowd, random.Random(1))
            assert crowd.wrong == []
            assert await trio.to_thread.run_sync(proxy.faults) == []
        nursery.cancel_scope.cancel()


async def test_a_task_that_is_cancelled_sends_the_frames_of_others_first() -> None:
    """A lost WINDOW_UPDATE would stop every upload to this origin."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        end = Multiplexed(Peer(ours), client=True)
        await end.begin()
        end.h2.ping(b"for them")
        async with trio.open_nursery() as nursery:
            end._sending.acquire_nowait()
            nursery.start_soon(end.push)
            await trio.testing.wait_all_tasks_blocked()
            end._sending.release()  # its turn comes, and in the same moment its stream is reset
            nursery.cancel_scope.cancel()
        assert b"for them" in await theirs.recv(65536)

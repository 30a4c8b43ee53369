"""What came of the last minute's requests, and closes without those that are ordinary."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from hopproxy.observe.recent import KEPT, Recent
from hopproxy.proxy.tally import Tally
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ORDINARY, CloseRecord, Closes
from tests.observe.stage import eventually, stage


def counted(recent: Recent, name: str = "app") -> tuple[dict[str, int], dict[str, int]]:
    """(statuses, causes) of the last minute."""
    (row,) = (row for row in recent.row()["upstreams"] if row["upstream"] == name)
    return row["statuses"], row["causes"]


async def test_what_was_a_minute_ago_is_left_out(autojump_clock: trio.testing.MockClock) -> None:
    tally = Tally()
    tally.statuses[200] = 1000  # before anybody looked
    recent = Recent({"app": tally})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recent.run)
        assert counted(recent) == ({}, {})
        tally.statuses[200] += 3
        tally.causes["dns_error"] = 2
        assert counted(recent) == ({"200": 3}, {"dns_error": 2})
        await trio.sleep(30.5)
        tally.statuses[502] = 1
        assert counted(recent) == ({"200": 3, "502": 1}, {"dns_error": 2})
        assert recent.row()["seconds"] == 30.5
        await trio.sleep(31)
        assert counted(recent) == ({"502": 1}, {})
        assert KEPT - 1 <= recent.row()["seconds"] <= KEPT
        await trio.sleep(60)
        assert counted(recent) == ({}, {})
        nursery.cancel_scope.cancel()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_links_tell_of_the_last_minute(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        await client.ask()
        await client.ask("/die")
        await eventually(lambda: sum(s.runtime.tallies["app"].statuses.values()) == 2)
        minute = (await s.look("/links"))["last_minute"]
        assert minute["upstreams"] == [
            {"upstream": "", "statuses": {}, "causes": {}},
            {
                "upstream": "app",
                "statuses": {"200": 1, "502": 1},
                "causes": {"connection_terminated": 1},
            },
        ]


async def test_closes_can_be_folded(log: Path) -> None:
    async with stage(log) as s:
        for target in ("/", "/", "/close"):
            client = await s.client()
            await client.ask(target)
            client.stream.socket.close()
        await eventually(lambda: len(s.runtime.closes.last) == 4)
        plain, folded = await s.look("/closes?limit=9"), await s.look("/closes?limit=9&fold=on")
    assert [row["hop"] for row in plain["closes"]].count("client") == 3
    assert "folded" not in plain
    assert [(row["hop"], row["reason"]) for row in folded["closes"]] == [("upstream", "peer_asked")]
    assert folded["folded"]["reasons"] == {"peer_closed": 3}
    assert abs(folded["folded"]["last"] - folded["time"]) < 10
    assert folded["counts"] == plain["counts"]


def test_many_ordinary_closes_of_clients_displace_no_other() -> None:
    closes = Closes()
    closes.add(CloseRecord(Hop.CLIENT, "a", CloseReason.BAD_REQUEST, 1.0, 1.0, 1.0, 1))
    for reason in ORDINARY:
        closes.add(CloseRecord(Hop.UPSTREAM, "b", reason, 1.0, 1.0, 1.0, 1))
    for _ in range(2 * Closes.KEPT):
        closes.add(CloseRecord(Hop.CLIENT, "c", CloseReason.PEER_CLOSED, 2.0, 1.0, 1.0, 1))
    assert [record.peer for record in closes.notable] == ["a"] + ["b"] * len(ORDINARY)
    assert closes.folded_at == 2.0
    assert {record.peer for record in closes.last} == {"c"}

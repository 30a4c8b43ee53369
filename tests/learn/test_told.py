"""What is learned, and lost links, in /links, /closes, the metrics and both kinds of log line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.metrics import Metrics
from hopproxy.observe.snapshot import closes_of, links_of
from hopproxy.record import ExchangeRecord
from tests.raw_peers import GET
from tests.wire_pair import Hops, virtual_time


async def suffer(hops: Hops) -> None:
    """A GET is sent on a link that ended while idle after 20 s, and is retried on another."""
    await hops.start(client={"idle_timeout": 600.0})
    client, stale = await hops.pair()
    await trio.sleep(20)
    await client.send(GET)
    await stale.message()
    stale.close()
    await hops.origins[0].accept_and_answer()
    await client.message()
    await hops.quiet()


@pytest.fixture
async def suffered(hops: Hops) -> Hops:
    """After that."""
    await suffer(hops)
    return hops


def logged(style: str, record: ExchangeRecord, path: Path) -> str:
    """The line of one exchange."""

    async def write() -> None:
        with path.open("wb") as file:
            log = AccessLog(style, file.fileno())
            log(record)
            with trio.move_on_after(0.5):
                await log.run()

    trio.run(write)
    return path.read_text()


async def test_links_show_what_is_learned(suffered: Hops) -> None:
    (origin,) = (await links_of(suffered.runtime))["origins"]
    assert origin["unused"] == {"repetition": 1}
    learned = origin["learned"]
    assert learned["closes_idle_at"] == 20.0
    assert (learned["idle_limit"], learned["limit_from"]) == (60.0, "setting")
    assert learned["silent_at"] is None
    assert (learned["young"], learned["certain"]) == (9.0, False)


async def test_closes_show_the_limit_that_applied(suffered: Hops) -> None:
    (lost,) = closes_of(suffered.runtime)["closes"]
    assert (lost["reason"], lost["owner"], lost["idle"]) == ("peer_closed", "peer", 20.0)
    assert (lost["limit"], lost["limit_from"]) == (60.0, "setting")


async def test_metrics_count_why_and_show_the_limit(suffered: Hops) -> None:
    exposed = Metrics(suffered.runtime, None).exposition("")[0].decode()
    origin = f'origin="{suffered.origins[0].address}"'
    assert f'unused_total{{{origin},reason="repetition",upstream="app"}} 1.0' in exposed
    assert f'idle_limit_seconds{{from="setting",{origin},upstream="app"}} 60.0' in exposed


def test_a_line_shows_which_link_was_lost(directory: Path, tmp_path: Path) -> None:
    records: list[ExchangeRecord] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            hops = Hops(nursery, directory)
            await suffer(hops)
            records.extend(hops.records.kept)
            await hops.end()

    virtual_time(run)
    record = records[-1]
    text = logged("text", record, tmp_path / "text")
    assert "new(repetition) after 1 failed lost:peer_closed(idle 20.0s of 60s by setting)" in text
    line = msgspec.json.decode(logged("json", record, tmp_path / "json"))
    assert line["unused"] == "repetition"
    assert line["suffered"] == {
        "owner": "peer",
        "reason": "peer_closed",
        "age": 20.0,
        "idle": 20.0,
        "requests": 2,
        "limit": 60.0,
        "limit_from": "setting",
        "local_port": 0,
    }

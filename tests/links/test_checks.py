"""Active checks: they keep requests away from an origin, and bring it back."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from hopproxy.observe.snapshot import unready
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.schema import Admin
from hopproxy.settings.units import Bind
from hopproxy.settings.upstream import Check, Health
from tests.links.test_one_of_two import BAD, Serving, hangs, member, well
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops

CHECK = Check(path="/healthz?deep=1", interval=5.0, timeout=2.0, fall=3, rise=2)
HEALTH = Health(failures=0, check=CHECK, slow_start=0.0)


async def ask(hops: Hops, times: int) -> None:
    client = await hops.client()
    for _ in range(times):
        await client.send(GET)
        assert (await client.message()).status == 200
    client.close()


def answers(serving: Serving, status: bytes) -> None:
    async def answer(_: Serving, peer: Peer) -> None:
        checked = serving.seen[-1][1].startswith(b"GET /healthz?deep=1 ")
        await peer.send(BAD.replace(b"500", status) if checked else OK)

    serving.answer = answer


async def test_checks_that_fail_keep_requests_away_until_they_pass(
    hops: Hops, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hopproxy")
    first, second = (Serving(hops, hops.add_origin()) for _ in range(2))
    await hops.start(upstream={"health": HEALTH})
    await trio.sleep(1)
    await ask(hops, 4)
    assert [start for _, start in first.seen] == [
        b"GET /healthz?deep=1 HTTP/1.1", b"GET / HTTP/1.1", b"GET / HTTP/1.1",
    ]  # fmt: skip
    answers(first, b"503")
    await trio.sleep(10)
    assert not member(hops, 0).reach.is_out
    await trio.sleep(5)
    assert member(hops, 0).reach.is_out
    first.seen.clear()
    await ask(hops, 4)
    assert first.seen == []
    assert "out: 3 checks failed, the last by: status 503" in caplog.text
    first.answer = well
    await trio.sleep(11)
    assert not member(hops, 0).reach.is_out
    assert "is up: 2 checks passed" in caplog.text
    await ask(hops, 4)
    assert sum(start == b"GET / HTTP/1.1" for _, start in first.seen) >= 2
    assert set(hops.closes(Hop.UPSTREAM)) == {CloseReason.CHECKED}
    hops.check_ledger()
    first.stop()
    second.stop()


async def test_an_origin_that_hangs_or_refuses_fails_its_checks_and_is_not_ready(
    hops: Hops,
) -> None:
    serving = Serving(hops, hops.add_origin())
    admin = Admin(bind=Bind("tcp", host="127.0.0.1", port=0))
    await hops.start(upstream={"health": HEALTH}, admin=admin)
    await trio.sleep(1)
    assert unready(hops.runtime) == ""
    serving.answer = hangs
    await trio.sleep(20)
    assert member(hops, 0).reach.is_out
    assert unready(hops.runtime) == "no origin of app can be reached"
    serving.answer = well
    await trio.sleep(13)
    assert unready(hops.runtime) == ""
    await ask(hops, 1)
    serving.stop()


async def test_a_stop_ends_a_check_that_is_under_way(hops: Hops) -> None:
    serving = Serving(hops, hops.add_origin(), hangs)
    await hops.start(upstream={"health": HEALTH})
    await trio.sleep(0.5)
    began = trio.current_time()
    hops.worker.stop()
    await hops.ended.wait()
    assert trio.current_time() - began < 1.0
    serving.stop()


async def test_interim_responses_without_an_end_fail_a_check(hops: Hops) -> None:
    first, second = (Serving(hops, hops.add_origin()) for _ in range(2))
    await hops.start(upstream={"health": HEALTH})

    async def endless(_: Serving, peer: Peer) -> None:
        with suppress(OSError):
            while True:
                await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await trio.sleep(0.5)

    first.answer = endless
    await trio.sleep(25)
    assert member(hops, 0).reach.is_out
    first.stop()
    second.stop()

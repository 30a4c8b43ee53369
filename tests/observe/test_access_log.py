"""The access log: every field against real traffic, and nothing a peer sends can forge a line."""

from __future__ import annotations

import calendar
import json
import logging
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hopproxy.observe.access_line import Line
from hopproxy.observe.access_log import BATCH, AccessLog
from hopproxy.reasons import CloseReason
from hopproxy.record import ExchangeRecord
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import Network
from tests.observe.stage import eventually, stage


def record(target: bytes | None = b"/", **changes: Any) -> ExchangeRecord:
    """A record as the gateway leaves it."""
    made = ExchangeRecord("192.0.2.7", 3, 17, trio.current_time() - 0.25)
    made.ended = trio.current_time()
    made.first_byte = made.ended - 0.05
    made.method, made.host = b"GET", b"site.test"
    made.target = target  # type: ignore[assignment]
    made.status, made.sent, made.attempts, made.upstream_number = 200, 13, 1, 9
    made.route, made.origin = "app", "http://127.0.0.1:3000"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


async def logged(style: str, *records: ExchangeRecord, path: Path) -> str:
    """What is written of these records by a log that is then cancelled."""
    with path.open("wb") as file:
        log = AccessLog(style, file.fileno())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            for one in records:
                log(one)
            nursery.cancel_scope.cancel()
    return await trio.Path(path).read_text()


# -- real traffic ----------------------------------------------------------------------------


async def test_every_field_of_an_exchange(tmp_path: Path) -> None:
    before = time.time()
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        await client.ask("/a?b=c")
        await client.ask("/a", "POST", "Content-Length: 0")
        first, second = await s.records(2)
        ports = await s.look("/links")
    stamp = first.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    told = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) + float(stamp[19:23])
    assert before - 0.01 <= told <= time.time() + 0.2
    assert 0 < first["first_byte_ms"] <= first.pop("duration_ms")
    assert first.pop("first_byte_ms") < 10_000
    assert 0 < first.pop("connect_ms") < 10_000
    assert 0 <= first.pop("queue_ms") < 10_000  # zero, unless the machine is busy
    assert second["connect_ms"] == 0.0
    (upstream,) = ports["upstreams"]
    (link,) = ports["clients"]
    assert first == {
        "client": "127.0.0.1",
        "peer": "127.0.0.1",
        "peer_port": client.port,
        "client_link": link["number"],
        "client_request": 1,
        "method": "GET",
        "host": "site.test",
        "target": "/a?b=c",
        "status": 200,
        "received": 0,
        "sent": 13,
        "upstream": "app",
        "origin": f"http://127.0.0.1:{s.origin_port}",
        "upstream_link": upstream["number"],
        "local_port": upstream["local_port"],
        "reused": False,
        "attempts": 1,
        "cause": "",
        "detail": "",
        "upstream_close": None,
        "upgraded": False,
        "unused": None,
        "suffered": None,
        "passed": None,
        "failed_origin": None,
        "request_id": "",
        "client_stream": 0,
        "upstream_stream": 0,
    }
    assert (second["method"], second["client_request"], second["reused"]) == ("POST", 2, True)
    assert (second["client_link"], second["upstream_link"]) == (link["number"], upstream["number"])


async def test_a_person_finds_both_links_by_their_ports(tmp_path: Path) -> None:
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        await client.ask("/")
        await client.ask("/close")
        first, second = await s.records(2)
        closed = await s.look("/closes")
    assert (first["peer"], first["peer_port"]) == ("127.0.0.1", client.port)
    assert first["local_port"] == second["local_port"] == s.origin.peers[-1]
    (close,) = closed["closes"]
    assert (close["hop"], close["local_port"]) == ("upstream", s.origin.peers[-1])


@pytest.mark.parametrize("style", ["json", "text"])
async def test_behind_a_trusted_front_the_client_and_the_front_are_reported(
    tmp_path: Path, style: str
) -> None:
    trusted = (parse_network("127.0.0.0/8"),)
    async with stage(tmp_path / "log", style, trusted_proxies=trusted) as s:
        client = await s.client()
        await client.ask("/", "GET", "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.2")
        await client.ask("/", "GET", 'Forwarded: for="[2001:db8::9]:4711"')
        await client.ask("/", "GET")
        await client.ask("/", "OPTIONS", "Max-Forwards: 0", "X-Forwarded-For: 203.0.113.10")
        lines = await s.lines(4)
        (row,) = (await s.look("/links"))["clients"]
    peer = f"127.0.0.1:{client.port}"
    named = ["203.0.113.9", "2001:db8::9", "", "203.0.113.10"]
    if style == "text":
        told = [line.split(' "')[0].split(" ", 1)[1] for line in lines]
        assert told == [f"{one} by {peer}" if one else peer for one in named]
    else:
        records = [json.loads(line) for line in lines]
        assert [one["client"] for one in records] == [one or "127.0.0.1" for one in named]
        assert {(one["peer"], one["peer_port"]) for one in records} == {("127.0.0.1", client.port)}
    assert (row["client"], row["peer"], row["peer_port"]) == (
        "203.0.113.10", "127.0.0.1", client.port,
    )  # fmt: skip


@pytest.mark.parametrize("trusted", [(), (parse_network("192.0.2.0/24"),)])
async def test_a_stranger_names_no_client(tmp_path: Path, trusted: tuple[Network, ...]) -> None:
    async with stage(tmp_path / "log", trusted_proxies=trusted) as s:
        client = await s.client()
        await client.ask("/", "GET", "X-Forwarded-For: 203.0.113.9")
        (only,) = await s.records(1)
        (row,) = (await s.look("/links"))["clients"]
    assert (only["client"], row["client"]) == ("127.0.0.1", "127.0.0.1")


async def test_a_name_of_any_length_does_not_fill_the_log(tmp_path: Path) -> None:
    trusted = (parse_network("127.0.0.0/8"),)
    async with stage(tmp_path / "log", trusted_proxies=trusted) as s:
        client = await s.client()
        await client.ask("/", "GET", "X-Forwarded-For: _" + "x" * 9000)
        (only,) = await s.records(1)
    assert only["client"] == "_" + "x" * 63


async def test_a_stale_link_a_retry_and_a_failure(tmp_path: Path) -> None:
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        await client.ask("/close")
        await client.ask("/")
        assert (await client.ask("/die")).status == 502
        closed, _, failed = await s.records(3)
    assert closed["upstream_close"] == "peer_asked"
    assert failed["status"] == 502
    assert failed["attempts"] == 2
    assert failed["reused"] is False  # the second attempt took a link of its own
    assert failed["first_byte_ms"] is None
    assert failed["cause"] == "connection_terminated"
    assert "before it answered" in failed["detail"]
    assert failed["upstream_close"] == "peer_closed"
    assert failed["unused"] == "repetition"
    assert (failed["suffered"]["owner"], failed["suffered"]["reason"]) == ("peer", "peer_closed")


async def test_bodies_are_counted_both_ways(tmp_path: Path) -> None:
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        await client.stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        )
        await client.answer()
        (only,) = await s.records(1)
    assert (only["received"], only["sent"], only["host"]) == (5, 13, "a")


async def test_an_upgraded_exchange_is_reported_when_it_ends(tmp_path: Path) -> None:
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        answer = await client.ask("/socket", "GET", "Connection: Upgrade", "Upgrade: echo")
        assert answer.status == 101
        await client.stream.send_all(b"ping")
        assert await client.stream.receive_some(4) == b"ping"
        await client.stream.aclose()
        (only,) = await s.records(1)
    assert (only["status"], only["upgraded"]) == (101, True)
    assert (only["received"], only["sent"]) == (4, 4)
    assert only["upstream_close"] == "tunnel_ended"


async def test_what_no_route_and_no_parser_took_is_logged_too(tmp_path: Path) -> None:
    async with stage(tmp_path / "log") as s:
        client = await s.client()
        await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n")
        assert (await client.answer()).status == 400
        (only,) = await s.records(1)
    assert (only["status"], only["cause"], only["upstream"]) == (400, "http_request_error", "")
    assert (only["upstream_link"], only["reused"], only["attempts"]) == (0, False, 0)


async def test_text_is_a_line_for_people(tmp_path: Path) -> None:
    async with stage(tmp_path / "log", "text") as s:
        client = await s.client()
        await client.ask("/a")
        await client.ask("/close")
        await client.ask("/die")
        first, second, third = await s.lines(3)
    stamp = rf"\d\d:\d\d:\d\d\.\d{{3}} 127\.0\.0\.1:{client.port} "
    wait = r"(queue \d+\.\dms )?connect"  # on a busy machine it takes a moment to begin a dial
    assert re.fullmatch(
        stamp + rf'"GET /a" 200 13B \d+\.\dms {wait} \d+\.\dms app #\d+:\d+ new', first
    )
    assert re.fullmatch(
        stamp + r'"GET /close" 200 13B \d+\.\dms app #\d+:\d+ reused closed:peer_asked', second
    )
    assert re.fullmatch(
        stamp
        + rf'"GET /die" 502 \d+B \d+\.\dms {wait} \d+\.\dms app #\d+:\d+ new\(closed_by_origin\) '
        r"closed:peer_closed ! connection_terminated: "
        r"the origin closed the connection before it answered",
        third,
    )


async def test_the_last_exchange_before_the_end_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with stage(path) as s:
        client = await s.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask, "/hold")
            await eventually(lambda: s.origin.requests == 1)
            s.worker.stop()
            await eventually(lambda: s.runtime.draining)
            s.origin.release.set()
        await s.ended.wait()
    (only,) = path.read_text().splitlines()
    assert json.loads(only)["target"] == "/hold"


# -- what peers send -------------------------------------------------------------------------

FORGERIES = [
    b'/"}\n{"status":200,"client":"10.0.0.1"',
    b"/\r\n127.0.0.1 forged",
    b"/\x1b[2J\x9b31m\x7f",
    b"/\xff\xfe\x85\xe2\x80\xa8",
    b"/" + b"\x00" * 5,
]


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("where", ["target", "host", "method", "detail"])
@pytest.mark.parametrize("forged", FORGERIES)
async def test_no_peer_forges_a_line(
    style: str, where: str, forged: bytes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one = record(cause="http_request_error", detail="a sentence")
    setattr(one, where, forged.decode("latin-1") if where == "detail" else forged)
    text = await logged(style, one, record(b"/after"), path=tmp_path / "log")
    assert re.fullmatch(r"([ -~]+\n){2}", text), "only printable ASCII, one line each"
    if style == "json":
        first, second = (json.loads(line) for line in text.splitlines())
        assert first["client"] == "192.0.2.7"
        assert first["status"] == 200
        assert second["target"] == "/after"
    elif where != "detail":
        assert text.splitlines()[0].count('"') == 2


async def test_obs_text_is_reported_byte_by_byte(tmp_path: Path, autojump_clock: MockClock) -> None:
    text = await logged("json", record(b"/caf\xc3\xa9"), path=tmp_path / "log")
    assert json.loads(text)["target"] == r"/caf\xc3\xa9"


async def test_a_long_target_is_clipped(tmp_path: Path, autojump_clock: MockClock) -> None:
    text = await logged("json", record(b"/" + b"a" * 9000), path=tmp_path / "log")
    assert json.loads(text)["target"] == "/" + "a" * 1023 + "..."


async def test_many_lines_in_the_order_of_their_exchanges(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    records = [record(b"/%d" % number) for number in range(5000)]
    text = await logged("json", *records, path=tmp_path / "log")
    targets = [json.loads(line)["target"] for line in text.splitlines()]
    assert targets == [f"/{number}" for number in range(5000)]


# -- batches ---------------------------------------------------------------------------------


async def test_lines_are_written_each_tenth_of_a_second(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            log(record())
            await trio.sleep(0.099)
            assert path.read_bytes() == b""
            await trio.sleep(0.002)
            assert path.read_bytes().count(b"\n") == 1
            nursery.cancel_scope.cancel()


async def test_a_log_at_rest_wakes_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            for count in (1, 2):
                await trio.sleep(1)
                for _ in range(count):
                    log(record())
                await trio.sleep(0.3)
                assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
            assert path.read_bytes().count(b"\n") == 3
            nursery.cancel_scope.cancel()


async def test_much_is_written_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno())
        for _ in range(BATCH * 4):
            log(record(b"/" + b"a" * 500))
        assert path.stat().st_size > 64 * 1024


async def test_who_is_cut_with_the_log_still_gets_a_line(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno())
        with trio.move_on_after(1):
            await log.run()
        log(record(b"/late"))
    assert json.loads(path.read_text())["target"] == "/late"


async def test_a_link_that_was_closed_is_named(tmp_path: Path, autojump_clock: MockClock) -> None:
    one = record(upstream_close=CloseReason.OVER_READ, fresh=True, attempts=2)
    text = await logged("text", one, path=tmp_path / "log")
    assert text.endswith("app #9 new after 1 failed closed:over_read\n")
    assert '"GET /" 200 13B 250.0ms' in text


async def test_an_exchange_without_an_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    one = record(status=0, first_byte=0.0, cause="stopped")
    text = await logged("text", one, path=tmp_path / "log")
    assert '"GET /" - 13B' in text
    assert text.endswith("! stopped: \n")


# -- a log that cannot be written ------------------------------------------------------------


async def test_a_full_disk_affects_no_others(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = AccessLog("json", fd)
        with caplog.at_level(logging.WARNING, "hopproxy"):
            for _ in range(3):
                log(record())
                with trio.move_on_after(0.35):
                    await log.run()
    finally:
        os.close(fd)
    assert log.dropped == 3
    (warning,) = caplog.messages
    assert warning == "access log: 1 lines dropped so far: No space left on device"


async def test_a_fault_of_the_log_costs_lines_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno())
        log(record(target=None))
        with trio.move_on_after(1):
            await log.run()
        log(record(b"/next"))
    assert log.dropped == 1
    assert caplog.messages == ["access log: 1 lines could not be made"]
    assert json.loads(path.read_text())["target"] == "/next"


def test_the_readme_names_every_field() -> None:
    table = (Path(__file__).parents[2] / "README.md").read_text()
    table = table.partition("## The access log")[2].partition("## Settings")[0]
    named = [name for row in re.findall(r"(?m)^\| (`.*?) \|", table)
             for name in re.findall(r"`(\w+)`", row)]  # fmt: skip
    assert sorted(named) == sorted(Line.__struct_fields__)

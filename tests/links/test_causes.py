"""What the log and the metrics say: who was the cause, how long was waited, and for what."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.metrics import Metrics
from hopproxy.observe.snapshot import summary
from hopproxy.reasons import CloseReason, Unused
from hopproxy.record import ExchangeRecord
from tests.raw_peers import GET, OK, Peer, get
from tests.wire_pair import Hops

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
LEFT = "the client closed the connection before the response"


def exposed(hops: Hops) -> dict[str, float]:
    """What /metrics shows: the value of each line, by what stands before it."""
    lines = Metrics(hops.runtime, None).exposition("")[0].decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith("hopproxy_")]
    return {name: float(value) for name, _, value in pairs}


def failures(hops: Hops) -> dict[str, float]:
    """The failures that are counted, by cause; beside them the aborts of clients."""
    found = {}
    for name, value in exposed(hops).items():
        match = re.match(r'hopproxy_(failures|client_aborts)_total\{cause="(\w+)"', name)
        if match is not None:
            found[f"{match[1]} {match[2]}"] = value
    return found


def line(record: ExchangeRecord, style: str, path: Path) -> str:
    """What is logged of a record: in a run of its own, since time jumps in this one."""

    async def write() -> None:
        with path.open("wb") as file:
            log = AccessLog(style, file.fileno())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.run)
                await trio.testing.wait_all_tasks_blocked()
                log(record)
                nursery.cancel_scope.cancel()

    writer = threading.Thread(target=trio.run, args=(write,))
    writer.start()
    writer.join()
    return path.read_text()


def told(record: ExchangeRecord, path: Path) -> Any:
    """The line in the JSON log."""
    return msgspec.json.decode(line(record, "json", path))


# -- clients that leave ------------------------------------------------------------------------


async def test_a_client_that_leaves_before_its_response_is_no_failure(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    client.close()
    assert await upstream.rest() == b""
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.status, record.cause, record.detail) == (499, "client_closed", LEFT)
    assert failures(hops) == {"client_aborts client_closed": 1}
    assert summary(hops.runtime, 0.0)["totals"]["failures"] == 0


async def test_a_client_that_leaves_a_stream_is_reported_to_have_left_it(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(CHUNKED)
    await client.until(b"data:")
    await trio.sleep(50)
    client.close()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.status, record.cause) == (200, "client_closed")
    assert record.detail == f"{LEFT} had ended"
    assert failures(hops) == {"client_aborts client_closed": 1}


async def test_a_client_that_resets_is_reported_to_have_reset(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    await upstream.send(CHUNKED)
    await client.until(b"data:")
    client.reset()
    await tcp_hops.quiet()
    with contextlib.suppress(OSError):
        for _ in range(20):
            await upstream.send(b"5\r\ndata:\r\n")
            await tcp_hops.quiet()
    [record] = tcp_hops.records.kept
    assert record.cause == "client_closed"
    assert record.detail.endswith("the connection before the response had ended")
    assert failures(tcp_hops) == {"client_aborts client_closed": 1}


async def test_a_client_that_leaves_inside_its_request(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(POST + b"abc")
    upstream = await hops.origins[0].accept()
    await upstream.until(b"abc")
    client.close()
    await hops.quiet()
    [record] = hops.records.kept
    assert record.cause == "client_closed"
    assert failures(hops) == {"client_aborts client_closed": 1}


async def test_a_client_that_takes_nothing_more_is_no_failure(hops: Hops) -> None:
    await hops.start(client={"write_timeout": 20.0})
    _, upstream = await hops.asked()
    with contextlib.suppress(OSError):
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9000000))
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, record.passed) == ("client_timeout", ("write_timeout", 20.0))
    assert failures(hops) == {"client_aborts client_timeout": 1}


async def test_a_client_that_leaves_the_queue_is_no_failure(hops: Hops) -> None:
    await hops.start(pool={"max_connections": 1})
    await hops.asked()
    waiting = await hops.client()
    await waiting.send(GET)
    await trio.sleep(1)
    waiting.close()
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, record.detail) == ("client_closed", LEFT)
    assert (record.queued, record.connecting) == (1.0, 0.0)
    assert failures(hops) == {"client_aborts client_closed": 1}


async def test_an_origin_that_leaves_is_a_failure(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    upstream.close()
    assert (await client.message()).status == 502
    await hops.quiet()
    assert failures(hops) == {"failures connection_terminated": 1}


# -- what the next line says -------------------------------------------------------------------


async def switched(hops: Hops) -> tuple[Peer, Peer]:
    """Both ends of an upgraded connection."""
    client, upstream = await hops.asked(UPGRADE)
    await upstream.send(SWITCH)
    await client.message()
    return client, upstream


async def test_after_a_tunnel_nothing_has_failed(hops: Hops) -> None:
    await hops.start()
    client, upstream = await switched(hops)
    client.close()
    upstream.close()
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.UPGRADED


@pytest.mark.parametrize("side", ["client", "origin"])
async def test_after_a_tunnel_that_was_reset_nothing_has_failed(tcp_hops: Hops, side: str) -> None:
    await tcp_hops.start()
    client, upstream = await switched(tcp_hops)
    (client if side == "client" else upstream).reset()
    await tcp_hops.quiet()
    await tcp_hops.pair()
    assert tcp_hops.records.kept[-1].unused is Unused.UPGRADED


async def test_after_a_client_has_left_nothing_has_failed(hops: Hops) -> None:
    await hops.start()
    client, _ = await hops.asked()
    client.close()
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.CLIENT_GONE


async def test_after_an_early_answer_nothing_has_failed(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await client.send(POST + b"abc")
    upstream = await hops.origins[0].accept()
    await upstream.until(b"abc")
    await upstream.send(OK)
    await client.message()
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.EARLY_ANSWER


async def test_after_a_bad_response_the_last_link_has_failed(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
    assert (await client.message()).status == 502
    await hops.pair()
    assert hops.records.kept[-1].unused is Unused.FAILED


async def test_a_tunnel_is_as_long_as_people_stay_and_not_in_the_durations(hops: Hops) -> None:
    await hops.start(upstream={"tunnel_timeout": 9000.0})
    client, upstream = await switched(hops)
    await trio.sleep(5000)
    client.close()
    upstream.close()
    await hops.pair()
    seen = exposed(hops)
    assert seen['hopproxy_request_duration_seconds_count{upstream="app"}'] == 1
    assert seen['hopproxy_request_duration_seconds_sum{upstream="app"}'] == 0
    assert seen['hopproxy_upgraded_duration_seconds_count{upstream="app"}'] == 1
    assert seen['hopproxy_upgraded_duration_seconds_sum{upstream="app"}'] == 5000
    assert seen['hopproxy_requests_total{status="101",upstream="app"}'] == 1


# -- links that fail under a request -----------------------------------------------------------


async def test_a_fresh_link_that_was_too_slow_was_not_idle(hops: Hops, tmp_path: Path) -> None:
    await hops.start(upstream={"response_timeout": 5.0})
    client, _ = await hops.asked()
    assert (await client.message()).status == 504
    await hops.quiet()
    [record] = hops.records.kept
    text = line(record, "text", tmp_path / "log")
    assert "lost:response_timeout(after 5.0s of 5s by setting)" in text
    assert "! http_response_timeout: no response came in time (response_timeout: 5s)\n" in text
    seen = told(record, tmp_path / "log")
    assert (seen["suffered"]["idle"], seen["suffered"]["age"]) == (0.0, 5.0)
    assert seen["passed"] == {"limit": "response_timeout", "value": 5.0}


async def test_a_link_that_was_idle_and_then_too_slow_was_each_for_its_time(hops: Hops) -> None:
    await hops.start(upstream={"response_timeout": 5.0}, client={"idle_timeout": 600.0})
    client, upstream = await hops.pair()
    await trio.sleep(20)
    await client.send(GET)
    await upstream.message()
    assert (await client.message()).status == 504
    await hops.quiet()
    close = hops.records.kept[-1].suffered
    assert close is not None
    assert [close.idle, close.busy] == pytest.approx([20.0, 5.0])


async def test_a_link_that_is_closed_behind_its_response_was_not_idle(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    await trio.sleep(9)
    await client.send(GET)
    await upstream.message()
    await upstream.send(OK.replace(b"Date", b"Connection: close\r\nDate"))
    await client.message()
    await hops.quiet()
    [close] = hops.runtime.closes.last
    assert (close.reason, close.idle, close.busy) == (CloseReason.PEER_ASKED, 0.0, 0.0)


# -- requests that are refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "seen", "passed"),
    [
        (
            b"GET /%b HTTP/1.1\r\nHost: site.test\r\n\r\n" % (b"x" * 9000),
            414,
            (b"GET", b"/" + b"x" * 9000, b"site.test"),
            ("max_target_size", 8192),
        ),
        (
            b"PUT /big HTTP/1.1\r\nHost: site.test\r\nX: %b\r\n\r\n" % (b"x" * 70000),
            431,
            (b"PUT", b"/big", b"site.test"),
            ("max_head_size", 65536),
        ),
        (
            b"GET /many HTTP/1.1\r\nHost: site.test\r\n%b\r\n" % (b"X: y\r\n" * 200),
            431,
            (b"GET", b"/many", b"site.test"),
            ("max_fields", 128),
        ),
        (
            b"HEAD /a HTTP/1.1\r\nHost: site.test\r\nX: \x01\r\n\r\n",
            400,
            (b"HEAD", b"/a", b"site.test"),
            None,
        ),
        (
            b"GET /late HTTP/1.1\r\nHost: site.test\r\n",
            408,
            (b"GET", b"/late", b"site.test"),
            ("head_timeout", 10.0),
        ),
        (
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            405,
            (b"CONNECT", b"a:443", b"a:443"),
            None,
        ),
    ],
    ids=["target", "head", "fields", "control byte", "late", "connect"],
)
async def test_a_refused_request_is_reported_as_far_as_it_was_read(
    hops: Hops,
    sent: bytes,
    status: int,
    seen: tuple[bytes, bytes, bytes],
    passed: tuple[str, float] | None,
) -> None:
    limits = {"max_target_size": 8192, "max_head_size": 65536, "max_fields": 128}
    await hops.start(client={**limits, "head_timeout": 10.0})
    client = await hops.client()
    await client.send(sent)
    assert int((await client.until(b"\r\n"))[9:12]) == status
    await trio.sleep(60)
    [record] = hops.records.kept
    assert (record.method, record.target, record.host) == seen
    assert (record.status, record.passed) == (status, passed)


async def test_a_limit_is_reported_with_its_value_in_both_logs(hops: Hops, tmp_path: Path) -> None:
    await hops.start(client={"max_body_size": 5})
    client = await hops.client()
    await client.send(POST + b"123456789")
    assert (await client.message()).status == 413
    await hops.quiet()
    [record] = hops.records.kept
    text = line(record, "text", tmp_path / "log")
    assert "the body is larger than max_body_size (max_body_size: 5B)\n" in text
    seen = told(record, tmp_path / "log")
    assert seen["passed"] == {"limit": "max_body_size", "value": 5}


# -- waits -------------------------------------------------------------------------------------


async def test_requests_over_one_link_tell_how_long_they_waited_for_it(
    hops: Hops, tmp_path: Path
) -> None:
    await hops.start(pool={"max_connections": 1})
    clients = [await hops.client() for _ in range(3)]
    for number, client in enumerate(clients):
        await client.send(get(b"/%d" % number))
        await hops.quiet()  # tasks that can run at the same time run in any order
    upstream = await hops.origins[0].accept()
    for client in clients:
        await upstream.message()
        await trio.sleep(0.7)
        await upstream.send(OK)
        await client.message()
    await hops.quiet()
    kept = hops.records.kept
    assert [record.queued for record in kept] == pytest.approx([0.0, 0.7, 1.4])
    assert [record.connecting for record in kept] == [0.0, 0.0, 0.0]
    assert "1400.0ms queue 700.0ms app #" in line(kept[1], "text", tmp_path / "log")
    seen = told(kept[2], tmp_path / "log")
    assert (seen["queue_ms"], seen["connect_ms"]) == (pytest.approx(1400, abs=0.01), 0.0)
    shown = exposed(hops)
    assert shown['hopproxy_queue_seconds_count{upstream="app"}'] == 2
    assert shown['hopproxy_queue_seconds_sum{upstream="app"}'] == pytest.approx(2.1)
    assert shown['hopproxy_queue_seconds_bucket{le="0.5",upstream="app"}'] == 0
    assert shown['hopproxy_queue_seconds_bucket{le="1.0",upstream="app"}'] == 1
    assert shown['hopproxy_connect_seconds_count{upstream="app"}'] == 0


@pytest.mark.parametrize("pieces", [[GET], [POST, b"123456789"]], ids=["GET", "POST in pieces"])
async def test_a_request_tells_how_long_its_connection_took(
    hops: Hops, tmp_path: Path, pieces: list[bytes]
) -> None:
    hops.add_origin(backlog=0)
    await hops.start()
    client = await hops.client()
    async with hops.origins[0].full():
        for piece in pieces:
            await client.send(piece)
            await hops.quiet()
        await trio.sleep(0.6)
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).status == 200
    await hops.quiet()
    [record] = hops.records.kept
    assert record.queued == 0.0
    assert record.connecting == pytest.approx(0.6, abs=0.02)
    text = line(record, "text", tmp_path / "log")
    assert re.search(r"6\d\d\.\dms connect 6\d\d\.\dms app #\d+ new\n", text)
    assert exposed(hops)['hopproxy_connect_seconds_count{upstream="app"}'] == 1
    assert exposed(hops)['hopproxy_queue_seconds_count{upstream="app"}'] == 0


async def test_a_request_that_takes_an_idle_link_waits_for_nothing(
    hops: Hops, tmp_path: Path
) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    await hops.again(client, upstream)
    await hops.quiet()
    record = hops.records.kept[-1]
    assert not record.has_waited
    assert not record.has_waited
    text = line(record, "text", tmp_path / "log")
    assert "queue" not in text
    assert "connect" not in text
    seen = told(record, tmp_path / "log")
    assert (seen["queue_ms"], seen["connect_ms"]) == (0.0, 0.0)


async def test_a_connection_that_was_never_made_is_reported_with_its_time(hops: Hops) -> None:
    hops.add_origin(backlog=0)
    await hops.start(upstream={"connect_timeout": 3.0})
    client = await hops.client()
    async with hops.origins[0].full():
        await client.send(GET)
        assert (await client.message()).status == 504
    await hops.quiet()
    [record] = hops.records.kept
    assert (record.cause, record.passed) == ("connection_timeout", ("connect_timeout", 3.0))
    assert [record.queued, record.connecting] == pytest.approx([0.0, 3.0])

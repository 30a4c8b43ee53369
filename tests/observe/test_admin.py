"""The admin listener: what it answers, that it only reads, and that it goes on while draining."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hopproxy.observe import admin as admin_module
from hopproxy.observe.page import HTML
from hopproxy.observe.snapshot import unready
from hopproxy.proxy.tally import CLIPPED, KEPT, SLOW, Tally
from hopproxy.record import ExchangeRecord
from hopproxy.settings.client import ClientSettings
from hopproxy.settings.upstream import Pool
from tests.observe.stage import Client, Stage, eventually, stage


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def ask(s: Stage, path: str, method: str = "GET") -> tuple[int, str]:
    looker = await s.admin()
    async with looker.stream:
        response = await looker.ask(path, method)
    return response.status, response.body.decode()


# -- probes ----------------------------------------------------------------------------------


async def test_probes_of_a_worker_that_serves(log: Path) -> None:
    async with stage(log) as s:
        assert await ask(s, "/healthz") == (200, "alive\n")
        await eventually_ready(s)
        assert await ask(s, "/readyz") == (200, "ready\n")


async def test_a_draining_worker_is_alive_and_not_ready(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask, "/hold")
            await eventually(lambda: s.origin.requests)
            s.worker.stop()
            await eventually(lambda: s.runtime.draining)
            assert await ask(s, "/healthz") == (200, "alive\n")
            assert await ask(s, "/readyz") == (503, "draining\n")
            assert (await s.look("/links"))["draining"] is True
            s.origin.release.set()


async def test_an_origin_that_cannot_be_reached(log: Path) -> None:
    async with stage(log) as s:
        await eventually_ready(s)
        (origin,) = s.runtime.upstreams["app"].balancer.members
        origin.reach.failed(origin.reach.begin(0.0), trio.current_time())
        assert await ask(s, "/readyz") == (503, "no origin of app can be reached\n")
        row = (await s.look("/links"))["origins"][0]
        assert row["reached"] is False
        assert 0 <= row["failed_ago"] < 10


async def eventually_ready(s: Stage) -> None:
    """A dial has succeeded, although there was no request."""
    await eventually(lambda: not unready(s.runtime))
    assert s.origin.requests == 0


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/links", "application/json"),
        ("/closes", "application/json"),
        ("/origins", "application/json"),
    ],
)
async def test_each_answer_names_its_media_type(log: Path, path: str, media_type: str) -> None:
    async with stage(log) as s:
        looker = await s.admin()
        async with looker.stream:
            response = await looker.ask(path)
    assert response.fields["content-type"] == media_type


# -- links -----------------------------------------------------------------------------------


async def test_both_hops_of_a_request_under_way(log: Path) -> None:
    async with stage(log, pool=Pool(idle_timeout=30.0, max_connections=7)) as s:
        client = await s.client()
        await client.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask, "/hold")
            await eventually(lambda: s.origin.requests == 2)
            seen = await s.look("/links")
            s.origin.release.set()
    (ours,), (theirs,) = seen["clients"], seen["upstreams"]
    assert ours["coupled_to"] == theirs["number"]
    assert theirs["coupled_to"] == ours["number"]
    for row, hop in ((ours, "client"), (theirs, "upstream")):
        assert (row["hop"], row["state"], row["requests"]) == (hop, "busy", 2)
        assert (row["idle"], row["idle_limit"]) == (0.0, None)
        assert 0 <= row["busy"] <= row["age"] < 10
    assert (ours["peer"], theirs["peer"]) == ("127.0.0.1", theirs["origin"])
    assert ours["received"] > 0 < theirs["sent"]
    (origin,) = seen["origins"]
    assert origin == {
        "upstream": "app",
        "origin": f"http://127.0.0.1:{s.origin_port}",
        "idle": 0,
        "lent": 1,
        "dialling": 0,
        "streams": 0,
        "waiting": 0,
        "opened": 1,
        "reused": 1,
        "reached": True,
        "failed_ago": None,
        "passed_over": False,
        "out": False,
        "why_out": None,
        "times_out": 0,
        "name": None,
        "weight": 1,
        "priority": 0,
        "unused": {},
        "tls": None,
        "learned": {
            "idle_limit": 30.0,
            "limit_from": "setting",
            "young": 1.0,
            "hint": None,
            "closes_idle_at": None,
            "silent_at": None,
            "certain": False,
            "closes_after": None,
            "proven": 1.0,
            "serves_at_once": None,
            "sends_no_100": False,
            "acknowledged_at_once": False,
        },
        "limits": {
            "max_connections": 7,
            "max_idle": 256,
            "queue": 1024,
            "idle_timeout": 30.0,
            "max_requests": 0,
            "max_age": 0.0,
        },
    }


async def test_idle_links_and_how_long_they_may_be_idle(log: Path) -> None:
    pool = Pool(idle_timeout=30.0)
    async with stage(log, client=ClientSettings(idle_timeout=20.0), pool=pool) as s:
        client = await s.client()
        await client.ask()
        await eventually(lambda: s.runtime.clients.idle)
        seen = await s.look("/links")
    (ours,), (theirs,) = seen["clients"], seen["upstreams"]
    assert (ours["state"], ours["idle_limit"], ours["coupled_to"]) == ("idle", 20.0, None)
    assert (theirs["state"], theirs["idle_limit"], theirs["coupled_to"]) == ("idle", 30.0, None)
    assert theirs["upstream"] == "app"
    assert 0 < ours["idle"] <= ours["age"]
    assert ours["busy"] == theirs["busy"] == 0.0
    assert seen["origins"][0]["idle"] == 1
    totals = seen["totals"]
    assert (totals["requests"], totals["sent"], totals["accepted"]) == (1, 13, 1)
    assert (totals["clients"], totals["clients_idle"], totals["upstreams"]) == (1, 1, 1)
    assert (totals["opened"], totals["reused"], totals["failures"]) == (1, 0, 0)
    assert seen["limits"] == {"max_clients": 4096, "max_upstreams": 4096}
    assert (seen["unready"], seen["draining"]) == ("", False)


async def test_a_client_that_waits_for_room(log: Path) -> None:
    async with stage(log, pool=Pool(max_connections=1)) as s:
        first, second = await s.client(), await s.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.ask, "/hold")
            await eventually(lambda: s.origin.requests)
            nursery.start_soon(second.ask)
            await eventually(lambda: s.runtime.upstreams["app"].balancer.members[0].waiters)
            seen = await s.look("/links")
            s.origin.release.set()
    assert [row["state"] for row in seen["clients"]] == ["busy", "waiting"]
    assert seen["origins"][0]["waiting"] == 1


async def test_an_upgraded_pair(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        await client.ask("/socket", "GET", "Connection: Upgrade", "Upgrade: echo")
        seen = await s.look("/links")
        await client.stream.aclose()
    assert seen["clients"][0]["state"] == seen["upstreams"][0]["state"] == "upgraded"
    assert seen["clients"][0]["coupled_to"] == seen["upstreams"][0]["number"]


async def test_where_not_all_links_are_asked_for_the_busy_ones_come_first(log: Path) -> None:
    async with stage(log) as s:
        async with trio.open_nursery() as nursery:
            busy = await s.client()
            nursery.start_soon(busy.ask, "/hold")
            await eventually(lambda: s.origin.requests)
            for _ in range(5):
                await (await s.client()).ask()
            await eventually(lambda: len(s.runtime.clients.idle) == 5)
            every = await s.look("/links")
            some = await s.look("/links?limit=2")
            s.origin.release.set()
    assert len(every["clients"]) == 6
    assert [row["number"] for row in some["clients"]] == [
        every["clients"][0]["number"],
        every["clients"][-1]["number"],
    ]
    assert some["clients"][0]["state"] == "busy"
    assert some["totals"] == every["totals"]


async def test_more_links_than_one_stride_are_all_told(log: Path) -> None:
    async with stage(log) as s:
        for _ in range(230):
            await s.client()
        await eventually(lambda: len(s.runtime.clients.idle) == 230)
        seen = await s.look("/links")
    assert len({row["number"] for row in seen["clients"]}) == 230


# -- closes ----------------------------------------------------------------------------------


async def test_the_last_closes_newest_first(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        await client.ask("/close")
        await client.stream.aclose()
        await eventually(lambda: len(s.runtime.closes.last) == 2)
        seen = await s.look("/closes")
        one = await s.look("/closes?limit=1")
    newest, oldest = seen["closes"]
    assert (newest["hop"], newest["owner"], newest["reason"]) == ("client", "peer", "peer_closed")
    assert (oldest["hop"], oldest["owner"], oldest["reason"]) == ("upstream", "us", "peer_asked")
    assert (newest["peer"], newest["requests"]) == ("127.0.0.1", 1)
    assert oldest["peer"] == f"http://127.0.0.1:{s.origin_port}"
    assert 0 <= newest["idle"] <= newest["age"] < 10
    assert 0 <= seen["time"] - newest["time"] < 10
    assert one["closes"] == [newest | {"time": one["closes"][0]["time"]}]
    assert {(row["hop"], row["reason"]): row["count"] for row in seen["counts"]} == {
        ("client", "peer_closed"): 1,
        ("upstream", "peer_asked"): 1,
    }


# -- HTTP ------------------------------------------------------------------------------------


async def test_the_page_may_run_nothing_but_itself(log: Path) -> None:
    async with stage(log) as s:
        response = await (await s.admin()).ask("/")
    assert response.body == HTML
    policy = response.fields["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert response.fields["x-content-type-options"] == "nosniff"
    assert response.fields["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_only_reads(log: Path, method: str) -> None:
    async with stage(log) as s:
        response = await (await s.admin()).ask("/links", method)
    assert (response.status, response.fields["allow"]) == (405, "GET, HEAD")


async def test_unknown_paths_are_answered_with_the_known_ones(log: Path) -> None:
    async with stage(log) as s:
        status, body = await ask(s, "/nope")
        assert (await ask(s, "/links/"))[0] == 404
    assert status == 404
    known = "/ /healthz /readyz /links /closes /origins /requests /config /metrics"
    assert body == f"not found; there are: {known}\n"


async def test_a_connection_is_kept_and_a_head_has_no_body(log: Path) -> None:
    async with stage(log) as s:
        looker = await s.admin()
        head = await looker.ask("/healthz", "HEAD")
        again = await looker.ask("/healthz")
    assert (head.status, head.fields["content-length"]) == (200, "6")
    assert again.body == b"alive\n"


@pytest.mark.parametrize("limit", ["-1", "x", "9" * 5000, "", "%00"])
async def test_a_limit_of_none_is_left_out(log: Path, limit: str) -> None:
    async with stage(log) as s:
        assert (await ask(s, f"/closes?limit={limit}"))[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 200),
    ],
)
async def test_what_cannot_be_trusted_ends_the_connection(
    log: Path, sent: bytes, status: int
) -> None:
    async with stage(log) as s:
        looker = await s.admin()
        await looker.stream.send_all(sent)
        response = await looker.answer()
        assert (response.status, response.fields["connection"]) == (status, "close")
        assert await is_closed(looker)


async def is_closed(looker: Client) -> bool:
    try:
        with trio.fail_after(5):
            return await looker.stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


async def test_the_longest_silent_connection_makes_room(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_module, "MOST_CONNECTIONS", 3)
    async with stage(log) as s:
        first, second, third = [await s.admin() for _ in range(3)]
        for one in (first, second, third, first):
            await one.ask("/healthz")
        assert await ask(s, "/healthz") == (200, "alive\n")
        assert await is_closed(second)
        assert (await first.ask("/healthz")).status == 200
        assert (await third.ask("/healthz")).status == 200


async def test_a_silent_connection_is_closed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "IDLE_TIMEOUT", 0.05)
    async with stage(log) as s:
        assert await is_closed(await s.admin())


async def test_a_fault_in_an_answer_costs_that_connection_only(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(_: Any) -> bytes:
        raise ValueError("a fault")

    async with stage(log) as s:
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "hopproxy"):
            patched.setattr(msgspec.json, "encode", fault)
            looker = await s.admin()
            await looker.stream.send_all(b"GET /links HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await is_closed(looker)
        assert (await ask(s, "/links"))[0] == 200
        assert (await (await s.client()).ask()).status == 200
    assert "the admin listener could not answer" in caplog.messages


# -- who may ask, and what went wrong --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, ("Host: localhost:1",)),
        (200, ("Host: app.localhost",)),
        (200, ("Host: [::1]:9901",)),
        (200, ("Host: 10.0.0.7",)),
        (403, ("Host: evil.example:9901",)),
        (403, ("Host: localhost.evil.example",)),
        (403, ("Host: 127.0.0.1.evil.example",)),
        (403, ("Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")),
        (403, ("Host: localhost", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors")),
        (403, ("Host: localhost", "Origin: http://localhost:3000")),
        (403, ("Host: localhost", "Origin: null")),
        (200, ("Host: localhost:1", "Origin: http://localhost:1")),
        (200, ("Host: localhost", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors")),
        (
            200,
            (
                "Host: localhost",
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Mode: navigate",
                "Sec-Fetch-Dest: document",
            ),
        ),
    ],
)
async def test_pages_of_other_sites_are_refused(
    log: Path, status: int, fields: tuple[str, ...]
) -> None:
    async with stage(log) as s:
        looker = await s.admin()
        async with looker.stream:
            assert (await looker.ask("/links", "GET", *fields)).status == status


@pytest.mark.parametrize("style", ["json", "text", "off"])
async def test_the_last_requests_that_failed(log: Path, style: str) -> None:
    async with stage(log, style) as s:
        client = await s.client()
        await client.ask("/fine")
        assert (await client.ask("/die", "POST", "Content-Length: 0")).status == 502
        await client.ask("/fine")
        (row,) = (await s.look("/requests"))["requests"]
    assert (row["method"], row["target"], row["status"]) == ("POST", "/die", 502)
    assert row["cause"]
    assert row["upstream"] == "app"
    assert row["time"].endswith("Z")


async def test_a_flood_of_failures_is_cut_short(log: Path) -> None:
    async with stage(log) as s:
        client = await s.client()
        for number in range(KEPT + 5):
            await client.ask(f"/die?{number:06}{'x' * 2 * CLIPPED}", "POST", "Content-Length: 0")
        rows = (await s.look("/requests"))["requests"]
        assert len(rows) == KEPT
        assert rows[0]["target"].startswith(f"/die?{KEPT + 4:06}")
        assert {len(row["target"]) for row in rows} == {CLIPPED}
        assert len((await s.look("/requests?limit=3"))["requests"]) == 3


def test_slow_requests_are_kept_and_refused_ones_only_counted() -> None:
    tally = Tally()
    for cause, took in (("", SLOW / 2), ("", SLOW), ("rate_limited", 0.0), ("overloaded", 0.0)):
        record = ExchangeRecord("10.0.0.1:5", 1, 1, 7.0, b"GET", b"/", b"a")
        record.cause, record.first_byte, record.ended = cause, 7.0 + took, 9.0 + took
        tally.add(record)
    assert [record.first_byte - record.started for record in tally.notable] == [SLOW]
    assert tally.causes == {"rate_limited": 1, "overloaded": 1}


async def test_the_settings_in_use(log: Path) -> None:
    async with stage(log) as s:
        found = await s.look("/config")
    assert found["in_use_since"] > 0
    assert found["settings"]["drain_timeout"] == "10s"
    assert found["settings"]["upstreams"]["app"]["origins"] == [f"http://127.0.0.1:{s.origin_port}"]

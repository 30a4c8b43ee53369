"""`hopproxy probe` against scripted origins, under virtual time; and the YAML it proposes."""

from __future__ import annotations

import pytest
import trio

from hopproxy.errors import HopError
from hopproxy.probe.asker import Target
from hopproxy.probe.report import Findings
from hopproxy.probe.run import probe, probed_risks
from hopproxy.probe.width import MOST_AT_ONCE
from hopproxy.settings.lint import risks
from hopproxy.settings.reader import read
from tests.raw_peers import OK, Peer
from tests.wire_pair import Hops


class Scripted:
    """An origin with habits: idle limit (silent or with FIN), request limit, fields."""

    def __init__(self, hops: Hops, **habits: object) -> None:
        self.origin = hops.add_origin()
        self.limit = float(str(habits.get("limit", 1000.0)))
        self.silent = bool(habits.get("silent"))
        self.requests = int(str(habits.get("requests", 1000)))
        self.fields = str(habits.get("fields", "")).encode()
        self.says_100 = bool(habits.get("says_100"))
        self.workers = trio.Semaphore(int(str(habits.get("workers", 1000))))
        self.slow = float(str(habits.get("slow", 0.0)))
        self.slow_from = int(str(habits.get("slow_from", 0)))
        self.accepted = 0
        self.compresses = bool(habits.get("compresses"))
        self.minds_via = bool(habits.get("minds_via"))
        self.agents: set[bytes] = set()
        self.methods: set[bytes] = set()
        self.open = self.most_open = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self.workers.acquire()
                peer = await self.origin.accept()
                nursery.start_soon(self._serve, peer)

    async def _serve(self, peer: Peer) -> None:
        self.open += 1
        self.accepted += 1
        self.most_open = max(self.most_open, self.open)
        for served in range(1, self.requests + 1):
            with trio.move_on_after(self.limit) as idle:
                try:
                    await self._answer(peer, last=served == self.requests)
                except (EOFError, BrokenPipeError):
                    break
            if idle.cancelled_caught:
                if self.silent:
                    await trio.sleep_forever()
                break
        self.open -= 1
        peer.close()
        self.workers.release()

    async def _answer(self, peer: Peer, *, last: bool) -> None:
        head = await peer.until(b"\r\n\r\n")
        await trio.sleep(self.slow if self.accepted >= self.slow_from else 0.0)
        method, _, rest = head.partition(b" ")
        self.methods.add(method)
        self.agents |= {line for line in rest.split(b"\r\n") if line.startswith(b"User-Agent")}
        if b"Expect" in rest and self.says_100:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        for line in rest.split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                await peer.exactly(int(line[16:]))
        fields = self.fields + (b"\r\nConnection: close" if last else b"")
        offered = b"Accept-Encoding: gzip" in rest and not (self.minds_via and b"\nVia: " in rest)
        if self.compresses and offered:
            fields += b"\r\nContent-Encoding: gzip"
        await peer.send(OK.replace(b"\r\n\r\n", fields + b"\r\n\r\n", 1))


async def probed(origin: Scripted, most: float = 90.0) -> Findings:
    """What a probe finds; the origin is gone afterwards."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        findings = await probe(Target(origin.origin.address), most=most, tell=lambda _: None)
        nursery.cancel_scope.cancel()
    origin.origin.end()
    return findings


@pytest.fixture
async def peers(hops: Hops) -> Hops:
    """A gateway that is not asked: only its origins are."""
    await hops.start()
    return hops


@pytest.mark.parametrize("limit", [0.8, 2.0, 5.0, 17.0, 75.0])
async def test_an_idle_limit_is_found(peers: Hops, limit: float) -> None:
    findings = await probed(Scripted(peers, limit=limit))
    assert findings.idle.seconds == pytest.approx(limit, abs=0.1)
    assert findings.idle.how == "FIN"
    assert f"{limit:.1f} s, then FIN" in findings.table()


@pytest.mark.parametrize("limit", [3.0, 20.0])
async def test_a_limit_that_is_kept_in_silence_is_searched(peers: Hops, limit: float) -> None:
    began = trio.current_time()
    findings = await probed(Scripted(peers, limit=limit, silent=True), most=60.0)
    assert findings.idle.seconds == pytest.approx(limit, abs=0.5)
    assert findings.idle.how == "silent"
    assert trio.current_time() - began < 240


async def test_an_origin_that_outlasts_the_probe(peers: Hops) -> None:
    findings = await probed(Scripted(peers), most=30.0)
    assert findings.idle.seconds is None
    assert "more than 30 s" in findings.table()


async def test_habits(peers: Hops) -> None:
    origin = Scripted(
        peers, limit=5.0, requests=100, says_100=True,
        fields="\r\nServer: Apache/2.4\r\nKeep-Alive: timeout=5, max=100",
    )  # fmt: skip
    findings = await probed(origin)
    table = dict(line.split("  ", 1) for line in findings.table().splitlines())
    seen = {name.strip(): value.strip() for name, value in table.items()}
    assert seen["server"] == "Apache/2.4 (known as apache)"
    assert seen["Keep-Alive"] == "timeout=5, max=100"
    assert seen["requests"] == "100, then Connection: close"
    assert seen["100-continue"] == "100 Continue, then 200"
    assert seen["early answer"] == "reads the whole body before it answers"
    assert seen["pipelining"] == "answers both"
    assert seen["responses"] == "in one piece"
    assert seen["HTTP/1.0"] == "answers HTTP/1.1, says no keep-alive, kept"


async def test_it_is_gentle(peers: Hops) -> None:
    origin = Scripted(peers, limit=5.0)
    await probed(origin)
    assert origin.most_open <= MOST_AT_ONCE
    assert origin.methods == {b"GET", b"OPTIONS"}
    assert all(agent.startswith(b"User-Agent: hopproxy-probe/") for agent in origin.agents)


@pytest.mark.parametrize(
    ("habits", "written"),
    [
        ({"limit": 5.0}, "idle_timeout: 4s "),
        ({"limit": 0.8}, "max_idle: 0 "),
        ({"requests": 1}, "max_idle: 0 "),
        ({"limit": 75.0, "requests": 50}, "max_requests: 50"),
        (
            {"limit": 2.6, "fields": "\r\nServer: gunicorn"},
            "server: gunicorn\n    pool:\n      idle_timeout: 1s",
        ),
        (
            {"limit": 30.0, "fields": "\r\nServer: gunicorn"},
            "]\n    pool:\n      idle_timeout: 27s",
        ),
        ({"limit": 6.0, "fields": "\r\nKeep-Alive: timeout=5"}, "idle_timeout: 4s"),
        ({"silent": True, "limit": 20.0}, "idle_timeout: 1"),
        ({"compresses": True, "minds_via": True}, "\nvia: response "),
        ({"fields": "\r\nServer: nginx/1.27", "limit": 75.0}, "\nvia: response "),
    ],
)
async def test_the_settings_it_proposes_load_and_are_without_risk(
    peers: Hops, habits: dict[str, object], written: str
) -> None:
    findings = await probed(Scripted(peers, **habits))
    text = findings.settings()
    assert written in text
    assert list(risks(read(text, file="probe", environ={}))) == []


async def test_an_origin_that_is_not_there(peers: Hops) -> None:
    origin = Scripted(peers)
    origin.origin.end()
    with pytest.raises(HopError):
        await probe(Target(origin.origin.address), tell=lambda _: None)


async def test_check_asks_the_origins_themselves(peers: Hops) -> None:
    short, long = Scripted(peers, limit=4.0), Scripted(peers, limit=75.0)
    gone = Scripted(peers)
    gone.origin.end()
    text = "upstreams:\n  app:\n    origins:\n" + "".join(
        f"      - {one.origin.address}\n" for one in (short, long, gone)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(short.run)
        nursery.start_soon(long.run)
        found = await probed_risks(read(text, file="a", environ={}))
        nursery.cancel_scope.cancel()
    assert [risk.path for risk in found] == [
        "upstreams.app.origins",
        "upstreams.app.pool.idle_timeout",
    ]
    assert (
        f"60s is longer than the measured idle timeout of {short.origin.address}, "
        in found[1].message
    )
    short.origin.end()
    long.origin.end()


@pytest.mark.parametrize(
    ("habits", "seen", "warned"),
    [
        ({}, "compresses nothing here", False),
        ({"compresses": True}, "compresses", False),
        (
            {"compresses": True, "minds_via": True},
            "compresses, but not a response to a request with Via",
            True,
        ),
        ({"fields": "\r\nServer: nginx"}, "compresses nothing here", True),
        ({"fields": "\r\nServer: nginx", "compresses": True}, "compresses", False),
    ],
)
async def test_what_via_costs_is_found_and_told(
    peers: Hops, habits: dict[str, object], seen: str, warned: bool
) -> None:
    origin = Scripted(peers, **habits)
    text = f"upstreams:\n  app:\n    origins: [{origin.origin.address}]\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        for via in ("both", "request", "response", "off"):
            found = await probed_risks(read(f"{text}via: {via}\n", file="a", environ={}))
            costs = warned and via in ("both", "request")
            assert [risk.path for risk in found] == ["via"] * costs
        findings = await probe(Target(origin.origin.address), tell=lambda _: None)
        nursery.cancel_scope.cancel()
    assert dict(findings.habits)["gzip"] == seen
    origin.origin.end()


# -- origins that serve few connections at a time --------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("habits", [{}, {"limit": 5.0}])
async def test_few_connections_at_a_time_are_counted(
    peers: Hops, workers: int, habits: dict[str, object]
) -> None:
    findings = await probed(Scripted(peers, workers=workers, **habits), most=20.0)
    text = "1 connection:" if workers == 1 else f"{workers} connections:"
    assert f"at a time     {text}" in findings.table()
    assert "fails" not in findings.table()
    assert (findings.idle.seconds is None) == (not habits)
    settings = findings.settings()
    assert f"max_connections: {workers} " in settings
    assert list(risks(read(settings, file="probe", environ={}))) == []


@pytest.mark.parametrize("habits", [{}, {"slow": 0.4}, {"slow": 2.0}, {"limit": 0.6}])
async def test_many_connections_are_no_limit(peers: Hops, habits: dict[str, object]) -> None:
    findings = await probed(Scripted(peers, **habits), most=10.0)
    assert findings.at_once == MOST_AT_ONCE
    assert f"at least {MOST_AT_ONCE} connections" in findings.table()
    assert "max_connections" not in findings.settings()


async def test_an_origin_that_becomes_slow_is_not_taken_for_one_with_few(peers: Hops) -> None:
    findings = await probed(Scripted(peers, slow=4.5, slow_from=4), most=5.0)
    assert findings.at_once is None
    assert "unknown: it answers too slowly" in findings.table()
    assert "max_connections" not in findings.settings()


async def test_check_warns_of_more_connections_than_are_served(peers: Hops) -> None:
    origin = Scripted(peers, workers=2)
    text = "upstreams:\n"
    for name, most in (("app", 256), ("api", 2)):
        text += f"  {name}:\n    origins: [{origin.origin.address}]\n    pool:\n"
        text += f"      max_connections: {most}\n      idle_timeout: 5s\n"
    text += "routes: [{path: /api, upstream: api}, {upstream: app}]\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run)
        found = await probed_risks(read(text, file="a", environ={}))
        nursery.cancel_scope.cancel()
    assert [(risk.path, risk.hint) for risk in found] == [
        ("upstreams.app.pool.max_connections", "write max_connections: 2")
    ]
    origin.origin.end()

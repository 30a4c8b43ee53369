"""The scenarios: what is sent to each proxy, and what is read.

A scenario's trial makes one reading of one proxy; `__main__` runs the rounds over all proxies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.request import urlopen

from benchmarks import h2load, handshakes, load
from benchmarks.idle_links import burst, held_links
from benchmarks.measure import Column, Reading
from benchmarks.peers.catalog import Peer
from benchmarks.processes import wait_until_good
from benchmarks.stage import DEFAULT, Stage, Wish, rest
from benchmarks.websocket import echo_round_trips

RATE_COLUMNS = (
    Column("rate", "requests/s"),
    Column("cpu", "CPU us/request", 1),
    Column("busy", "proxy core %"),
    Column("p50", "p50 us"),
    Column("p99", "p99 us"),
    Column("errors", "errors"),
)
ROUND_TRIPS = (Column("rate", "round trips/s"), *RATE_COLUMNS[1:])
MANY_LINKS = 10_000
MEMORY_LINKS = 5_000
#: Seconds after which links count as idle: proxies may give memory back then.
SETTLED = 4
GROWTH_SAMPLES = 6
BURST = 250
IDLE_UPSTREAM = re.compile(r'(?m)^hopproxy_upstream_links\{[^}]*state="idle"[^}]*\} (\S+)$')

Trial = Callable[[Stage, Peer], Reading]


@dataclass(frozen=True)
class Scenario:
    """One question: what is done, how one proxy is read, which number above all is compared."""

    name: str
    what: str
    trial: Trial
    columns: Sequence[Column] = RATE_COLUMNS
    main: str = "rate"
    peers: bool = True
    tls: bool = False

    @property
    def compared(self) -> tuple[str, ...]:
        """The numbers that get a ratio: beside a rate the CPU, true where the load is the limit."""
        return ("rate", "cpu") if self.main == "rate" else (self.main,)


def under(what: load.Load) -> Trial:
    """The trial that sends this load to a warm proxy."""
    return lambda stage, peer: stage.measured(stage.running(peer), what)


def in_h2(what: h2load.H2Load, *, origin: bool = False, tls: str = "") -> Trial:
    """The trial that sends this load in HTTP/2, with an `origin` that speaks it too, or TLS."""
    wish = Wish(h2=True, h2_origin=origin, tls=tls)
    return lambda stage, peer: stage.measured(stage.running(peer, wish), what)


def over_tls(what: load.Load, hops: str = "clients") -> Trial:
    """The same with TLS to clients, or on both hops."""
    return lambda stage, peer: stage.measured(stage.running(peer, Wish(tls=hops)), what)


def websocket(stage: Stage, peer: Peer) -> Reading:
    """Echo round trips on several tunnels: a round trip is a frame there and a frame back."""
    proxy = stage.running(peer, Wish(echo=True))
    return echo_round_trips(stage, proxy)


def idle_links(stage: Stage, peer: Peer) -> Reading:
    """The rate of a hundred active connections, without and with ten thousand idle ones."""
    proxy = stage.running(peer, Wish(links=MANY_LINKS + 2048))
    without = stage.measured(proxy, load.HUNDRED)
    with held_links(stage, proxy.port, MANY_LINKS) as links:
        reading = stage.measured(proxy, load.HUNDRED)
        lost = links.lost()
    return {**_kept(reading, without), "lost": lost}


def idle_memory(tls: str = "", *, h2: bool = False) -> Trial:
    """Memory (PSS) of a fresh proxy after one answer, and what each idle client link adds to it."""

    def trial(stage: Stage, peer: Peer) -> Reading:
        with stage.alone(peer, Wish(links=MEMORY_LINKS + 1024, tls=tls, h2=h2)) as proxy:
            rest(1)
            at_rest = proxy.process.pss()
            with held_links(stage, proxy.port, MEMORY_LINKS, tls=proxy.tls, h2=h2) as links:
                rest(SETTLED)
                grown = proxy.process.pss() - at_rest
                lost = links.lost()
        return {"rest": at_rest / 2**20, "link": grown / MEMORY_LINKS / 1024, "lost": lost}

    return trial


def startup(stage: Stage, peer: Peer) -> Reading:
    """Milliseconds from exec to the first good answer, and the CPU time until then."""
    started = time.monotonic()
    proxy = stage.launch(peer)
    try:
        answered = wait_until_good(proxy.process, proxy.port, "/plain")
        return {"ms": 1000 * (answered - started), "cpu_ms": 1000 * proxy.process.cpu_seconds()}
    finally:
        proxy.process.stop()


def beside(wish: Wish, without: Wish = DEFAULT, what: load.Load = load.PLAIN) -> Trial:
    """A proxy with a wish beside itself without."""

    def trial(stage: Stage, peer: Peer) -> Reading:
        off = stage.measured(stage.running(peer, without), what)
        return _kept(stage.measured(stage.running(peer, wish), what), off)

    return trial


def full_pool(stage: Stage, peer: Peer) -> Reading:
    """hopproxy with hundreds of idle upstream links, beside itself with those that 32 clients need.

    `idle` is how many there were, by its own metrics.
    """
    proxy = stage.running(peer, Wish(idle=BURST))
    off = stage.measured(proxy, load.PLAIN)
    burst(proxy.port, BURST)
    on = _kept(stage.measured(proxy, load.PLAIN), off)
    with urlopen(f"http://127.0.0.1:{proxy.admin}/metrics", timeout=10) as answer:
        found = IDLE_UPSTREAM.findall(answer.read().decode())
    return {**on, "idle": sum(map(float, found))}


def _kept(on: Reading, off: Reading) -> Reading:
    """How much of the rate, and of the CPU, is kept."""
    kept = on["rate"] / off["rate"] if off["rate"] else 0.0
    return {**on, "without": off["rate"], "cpu_off": off["cpu"], "kept": 100 * kept}


def growth(stage: Stage, peer: Peer) -> Reading:
    """Rate and resident memory over time: the first sample beside the last one."""
    with stage.alone(peer) as proxy:
        each = max(stage.seconds, round(60 * stage.minutes / GROWTH_SAMPLES))
        samples: dict[str, float] = {}
        for number in range(1, GROWTH_SAMPLES + 1):
            reading = stage.measured(proxy, load.UNIQUE, each)
            samples[f"rate{number}"] = reading["rate"]
            samples[f"rss{number}"] = proxy.process.rss() / 2**20
    return samples


_MEMORY = (
    Column("rest", "at rest MiB", 1),
    Column("link", "KiB/link", 1),
    Column("lost", "links lost"),
)
_KEPT = (Column("without", "without"), Column("kept", "kept %", 1))
_BESIDE = (*RATE_COLUMNS, *_KEPT, Column("cpu_off", "CPU us off", 1))
_GROWTH = tuple(
    column
    for number in range(1, GROWTH_SAMPLES + 1)
    for column in (
        Column(f"rate{number}", f"{number}: req/s"),
        Column(f"rss{number}", "RSS MiB", 1),
    )
)

SCENARIOS = (
    Scenario("plain", "GET, 13-byte body, 32 connections", under(load.PLAIN)),
    Scenario("browser", "GET with the 12 fields a browser sends", under(load.BROWSER)),
    Scenario("unique", "trace id, request id, cookie never seen before", under(load.UNIQUE)),
    Scenario("one", "one connection, one request at a time", under(load.ONE)),
    Scenario("body10k", "10 KiB response body", under(load.BODY_10K)),
    Scenario("body1m", "1 MiB response body", under(load.BODY_1M)),
    Scenario("chunked", "2 KiB response body in chunks", under(load.CHUNKED)),
    Scenario("post16k", "POST of 16 KiB, small response", under(load.POST_16K)),
    Scenario("client-close", "the client closes after each request", under(load.CLIENT_CLOSE)),
    Scenario("origin-close", "the origin closes after each response", under(load.ORIGIN_CLOSE)),
    Scenario("h2", "HTTP/2, GET, one connection with 32 streams", in_h2(h2load.PLAIN)),
    Scenario("h2-browser", "HTTP/2, the fields a browser sends", in_h2(h2load.BROWSER)),
    Scenario(
        "h2-unique",
        "HTTP/2, the fields a browser sends, a path never seen before",
        in_h2(h2load.UNIQUE),
    ),
    Scenario("h2-eight", "HTTP/2, 8 connections with 32 streams each", in_h2(h2load.EIGHT)),
    Scenario("h2-hundred", "HTTP/2, one connection with 100 streams", in_h2(h2load.HUNDRED)),
    Scenario(
        "h2-both",
        "HTTP/2 on both hops (nginx: HTTP/1.1 to the origin)",
        in_h2(h2load.PLAIN, origin=True),
    ),
    Scenario(
        "h2-tls",
        "HTTP/2 over TLS, GET, one connection with 32 streams",
        in_h2(h2load.PLAIN, tls="clients"),
        tls=True,
    ),
    Scenario("websocket", "16 WebSockets, echo of 32-byte messages", websocket, ROUND_TRIPS),
    Scenario(
        "idle-links",
        "100 active connections beside 10,000 idle client links",
        idle_links,
        (*RATE_COLUMNS, *_KEPT, Column("lost", "links lost")),
    ),
    Scenario(
        "idle-memory",
        "PSS at rest, and for each of 5,000 idle client links",
        idle_memory(),
        _MEMORY,
        "link",
    ),
    Scenario("tls", "plain, with TLS to clients", over_tls(load.PLAIN), tls=True),
    Scenario("tls-both", "plain, with TLS on both hops", over_tls(load.PLAIN, "both"), tls=True),
    Scenario("tls-1m", "1 MiB with TLS to clients", over_tls(load.BODY_1M), tls=True),
    Scenario(
        "tls-close",
        "with TLS, a connection and a full handshake a request",
        over_tls(load.CLIENT_CLOSE),
        tls=True,
    ),
    Scenario(
        "tls-burst",
        "the longest wait of a client that is served while 200 ClientHellos arrive at once",
        handshakes.burst,
        (Column("quiet", "p99 before ms", 1), Column("longest", "longest wait ms", 1)),
        "longest",
        tls=True,
    ),
    Scenario(
        "tls-stuck",
        "32 connections beside 2,000 that never end their handshakes",
        handshakes.stuck,
        (
            Column("before", "p99 us before"),
            Column("p99", "p99 us"),
            Column("times", "times", 1),
            Column("rate", "requests/s"),
        ),
        "p99",
        tls=True,
    ),
    Scenario(
        "tls-memory",
        "PSS at rest, and for each of 5,000 idle client links with TLS",
        idle_memory("clients"),
        _MEMORY,
        "link",
        tls=True,
    ),
    Scenario(
        "h2-memory",
        "PSS at rest, and for each of 5,000 idle client links in HTTP/2",
        idle_memory(h2=True),
        _MEMORY,
        "link",
    ),
    Scenario(
        "h2-tls-memory",
        "PSS at rest, and for each of 5,000 idle client links in HTTP/2 over TLS",
        idle_memory("clients", h2=True),
        _MEMORY,
        "link",
        tls=True,
    ),
    Scenario(
        "startup",
        "from exec to the first good answer",
        startup,
        (Column("ms", "ms"), Column("cpu_ms", "CPU ms")),
        "ms",
    ),
    Scenario(
        "workers",
        "100 connections to two workers on two cores, beside one on one core",
        beside(Wish(workers=2), what=load.HUNDRED),
        _BESIDE,
    ),
    Scenario(
        "log",
        "plain with the JSON access log to /dev/null, beside off",
        beside(Wish(log=True)),
        _BESIDE,
        peers=False,
    ),
    Scenario(
        "routes",
        "plain by the last of 101 routes, beside three",
        beside(Wish(routes=100), Wish(routes=2)),
        _BESIDE,
        peers=False,
    ),
    Scenario(
        "pool",
        "plain beside hundreds of idle upstream links",
        full_pool,
        (*_BESIDE, Column("idle", "idle upstream links")),
        peers=False,
    ),
    Scenario("growth", "unique over time", growth, _GROWTH, "rate1", peers=False),
)

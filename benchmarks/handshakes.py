"""Clients of TLS that begin all at once, or never go on, beside one that is served already.

Run by the benchmark as: python -m benchmarks.handshakes PORT burst, or PORT stuck.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context

from benchmarks import load
from benchmarks.idle_links import REQUEST
from benchmarks.measure import Reading
from benchmarks.peers.catalog import Peer
from benchmarks.processes import connected, holding, raise_file_limit
from benchmarks.stage import Stage, Wish, rest
from benchmarks.tls import client_context

#: Clients that begin at once; how often they do; clients that never go on with their handshakes.
BURST, TIMES, STUCK = 200, 7, 2000
#: Bytes of a ClientHello that a client sends which never goes on.
PART = 60
#: Seconds for which the client that is served looks at its waits, and until it goes on.
LOOK, PAUSE = 0.4, 0.5


def client_hello() -> bytes:
    """The first flight of a client."""
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def burst(stage: Stage, peer: Peer) -> Reading:
    """The longest wait of a client that is served, while 200 ClientHellos arrive at once."""
    proxy = stage.running(peer, Wish(tls="clients", links=4096))
    with holding(stage.cores.load, "benchmarks.handshakes", str(proxy.port), "burst") as (_, said):
        quiet, longest = (float(word) for word in said.readline().split())
    return {"quiet": quiet, "longest": longest}


def stuck(stage: Stage, peer: Peer) -> Reading:
    """The waits of 32 clients, without and with 2,000 others that never end their handshakes."""
    with stage.alone(peer, Wish(tls="clients", links=STUCK + 2048)) as proxy:
        without = stage.measured(proxy, load.PLAIN)
        with holding(stage.cores.load, "benchmarks.handshakes", str(proxy.port), "stuck"):
            what = replace(load.PLAIN, tls=True)
            beside = load.send(what, proxy.port, stage.seconds, stage.folder, stage.cores.load)
    rest(0.2)
    ratio = beside.p99 / without["p99"] if without["p99"] else 0.0
    return {"p99": beside.p99, "before": without["p99"], "times": ratio, "rate": beside.rate}


def _begin_at_once(port: int, told: Callable[[], object]) -> None:
    """Connect, then send all ClientHellos when told; the connections end with this process."""
    hello = client_hello()
    while True:
        links = [socket.create_connection(("127.0.0.1", port)) for _ in range(BURST)]
        told()
        for link in links:
            link.send(hello)
        told()
        for link in links:
            link.close()


def _look(link: ssl.SSLSocket, seconds: float) -> list[float]:
    """The waits for the answers to requests in turn, in milliseconds."""
    waits = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        link.sendall(REQUEST)
        answer = link.recv(4096)
        while b"Hello, world" not in answer:
            answer += link.recv(4096)
        waits.append(1000 * (time.perf_counter() - began))
    return waits


def look_at_bursts(port: int) -> None:
    """Print the 99th percentile of quiet waits, and the median of the longest of each burst."""
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    crowd = fork.Process(target=_begin_at_once, args=(port, theirs.recv), daemon=True)
    crowd.start()
    link = connected(port, tls=True, seconds=30)
    print("ready", flush=True)
    assert isinstance(link, ssl.SSLSocket)
    time.sleep(PAUSE)
    quiet = sorted(_look(link, 2 * LOOK))
    longest = []
    for _ in range(TIMES):
        ours.send("begin")
        longest.append(max(_look(link, LOOK)))
        ours.send("end")
        time.sleep(PAUSE)
    crowd.kill()
    print(quiet[len(quiet) * 99 // 100], sorted(longest)[TIMES // 2])


def stay_in_the_handshake(port: int) -> None:
    """Begin handshakes and never go on."""
    raise_file_limit()
    part = client_hello()[:PART]
    links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(STUCK)]
    for link in links:
        link.send(part)
    print("ready", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[2] == "burst":
        look_at_bursts(int(sys.argv[1]))
    else:
        stay_in_the_handshake(int(sys.argv[1]))

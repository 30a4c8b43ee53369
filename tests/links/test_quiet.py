"""Connections without traffic free memory."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hopproxy.link.openssl import shrinking
from hopproxy.link.quiet import SOON, TICK, TURN, Quiet, Sheds
from tests.links.test_tls_links import asked, start
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

MIB = 1 << 20


class Wire:
    """Counts how often it was told."""

    def __init__(self, told: list[Wire]) -> None:
        self.received = self.sent = 0
        self._told = told

    def shed(self) -> None:
        self._told.append(self)

    def on_fault(self, error: Exception) -> None:
        raise error


class Clock:
    """The part of the watch that is needed; it also plays the time."""

    def __init__(self) -> None:
        self.time = 0.0
        self.quiet = Quiet(self)

    def now(self) -> float:
        return self.time

    def wake_at(self, timed: Quiet, deadline: float) -> None:
        timed.timer_at = deadline

    def play(self, seconds: float) -> None:
        until = self.time + seconds
        while self.quiet.timer_at <= until:
            self.time, self.quiet.timer_at = self.quiet.timer_at, math.inf
            self.quiet.timer_at = self.quiet.on_time(self.time)
        self.time = until


def test_a_wire_frees_memory_once_it_was_quiet_between_two_looks() -> None:
    clock, told = Clock(), list[Wire]()
    wire, busy, ended = Wire(told), Wire(told), Wire(told)
    for one in (wire, busy, ended):
        clock.quiet.note(one)
    for _ in range(8):
        clock.play(TICK / 2)
        busy.received += 1
        clock.quiet.note(busy)
        clock.quiet.forget(ended)
    assert told == [wire]
    clock.play(10 * TICK)
    assert told == [wire, busy]
    assert clock.quiet.timer_at == math.inf, "there is nothing to look at"
    clock.quiet.note(wire)
    clock.play(3 * TICK)
    assert told == [wire, busy, wire]


def test_many_take_turns_and_what_moves_meanwhile_is_left_alone() -> None:
    clock, told = Clock(), list[Wire]()
    wires = [Wire(told) for _ in range(3 * TURN)]
    for wire in wires:
        clock.quiet.note(wire)
    clock.play(2 * TICK)
    assert told == wires[:TURN]
    wires[-1].sent += 1
    clock.quiet.forget(wires[-2])
    clock.play(2 * SOON)
    assert told == wires[:-2]


def test_wires_are_what_it_expects() -> None:
    wire: Sheds = Wire([])
    assert wire.received == 0


#: In a process of its own: memory that others have freed would be used again.
GROWN = """
import ssl
from hopproxy.link.openssl import shrinking
from tests.links.test_quiet import MIB, resident

buffers = shrinking()
bios = [ssl.MemoryBIO() for _ in range(64)]
before = resident()
for bio in bios:
    bio.write(bytes(MIB))
    assert len(bio.read()) == MIB
assert resident() - before > 60 * MIB
for bio in bios:
    buffers.shrink(bio)
assert resident() - before < 8 * MIB
bios[0].write(b"kept")
buffers.shrink(bios[0])
assert bios[0].read() == b"kept"
assert bios[0].read() == b""
bios[0].write_eof()
assert bios[0].eof
"""


@pytest.mark.skipif(shrinking() is None, reason="missing: OpenSSL 3 as a library")
def test_a_memory_bio_that_has_grown_gives_its_memory_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWN], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_tls_goes_on_after_its_buffers_were_given_back(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    body, length = os.urandom(100_000), b"Content-Length: 100000\r\n\r\n"
    client, upstream = await asked(hops)
    for _ in range(3):
        await upstream.send(b"HTTP/1.1 200 OK\r\n" + length + body)
        assert (await client.message()).body == body
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + length + body)
        await upstream.until(b"\r\n\r\n")
        assert await upstream.exactly(len(body)) == body
        await upstream.send(OK)
        assert (await client.message()).body == b"ok"
        await trio.sleep(3 * TICK)
        await client.send(GET)
        await upstream.message()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

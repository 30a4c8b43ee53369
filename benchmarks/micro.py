"""Single steps inside hopproxy: microseconds of CPU, instructions where the machine counts them.

Run: python -m benchmarks.micro [--only read-plain] [--instructions].  A step is run in batches; the
fastest batch counts, since all that disturbs one only makes it slower.  Instructions are those of
user space, as the difference of two runs of different length, so that start-up cancels out.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import one_exchange
from benchmarks.__main__ import chosen
from benchmarks.load import BROWSER_FIELDS
from benchmarks.report import number, text_table
from hopproxy.message import Body
from hopproxy.pool.ledger import Ledger, Share
from hopproxy.rules import forwarding, hop
from hopproxy.settings.client import ClientSettings
from hopproxy.wire import http1

BATCHES = 40
BATCH_SECONDS = 0.005
FEWER, MORE = 20_000, 40_000

PLAIN_REQUEST = b"GET /plain HTTP/1.1\r\nHost: localhost:8080"
BROWSER_REQUEST = "\r\n".join(
    ("GET /plain HTTP/1.1", "Host: localhost:8080", *BROWSER_FIELDS)
).encode()
ODD_REQUEST = BROWSER_REQUEST.replace(b"Host: ", b"Host:  ")
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive"
)
ODD_RESPONSE = RESPONSE.replace(b"Server: ", b"Server:")
LIMITS = ClientSettings()
VIA = (b"Via: 1.0 hopproxy\r\n", b"Via: 1.1 hopproxy\r\n")
SENDER = forwarding.Sender("127.0.0.1", b"http", ())

Step = Callable[[], object]


def read_plain() -> Step:
    """Read a request with Host alone."""
    return lambda: http1.read_request(PLAIN_REQUEST, LIMITS)


def read_browser() -> Step:
    """Read a browser's request that has come before."""
    return lambda: http1.read_request(BROWSER_REQUEST, LIMITS)


def read_unique() -> Step:
    """Read a browser's request with one line never seen before."""
    count = itertools.count()

    def read() -> object:
        return http1.read_request(
            b"%s\r\nX-Request-Id: %d" % (BROWSER_REQUEST, next(count)), LIMITS
        )

    return read


def read_h11() -> Step:
    """Read a browser's request that is left to h11."""
    return lambda: http1.read_request(ODD_REQUEST, LIMITS)


def read_response() -> Step:
    """Read a response as nginx sends it."""
    return lambda: http1.read_response(RESPONSE, b"GET")


def read_response_h11() -> Step:
    """Read a response that is left to h11."""
    return lambda: http1.read_response(ODD_RESPONSE, b"GET")


def write_request() -> Step:
    """Write a browser's request for the upstream hop."""
    head = http1.read_request(BROWSER_REQUEST, LIMITS)

    def write() -> bytes:
        head.rewritten = None
        via = forwarding.via_line(head, VIA, b"hopproxy")
        return hop.request_for_upstream(head, SENDER.block(head), via, hop.Underscores.SHADOW)

    return write


def write_response() -> Step:
    """Write a response for the client hop."""
    head = http1.read_response(RESPONSE, b"GET")
    assert head.body is Body.SIZED

    def write() -> bytes:
        head.rewritten = None
        return http1.write_response(head, b"Via: 1.1 hopproxy\r\n")

    return write


class Token:
    """What the ledger needs of a link."""

    idle_stamp = 0


def ledger() -> Step:
    """Lend the warmest of 32 idle links and take it back."""
    books: Ledger[Token] = Ledger(1024)
    share: Share[Token] = Share(max_connections=256, max_idle=64, queue_size=1024)
    books.add(share)
    books.total = share.in_use = 32
    for _ in range(32):
        books.give_back(share, Token())

    def lend() -> object:
        link = books.take_idle(share)
        assert link is not None
        return books.give_back(share, link)

    return lend


STEPS: dict[str, Callable[[], Step]] = {
    "read-plain": read_plain,
    "read-browser": read_browser,
    "read-unique": read_unique,
    "read-h11": read_h11,
    "read-response": read_response,
    "read-response-h11": read_response_h11,
    "write-request": write_request,
    "write-response": write_response,
    "ledger": ledger,
}


EXCHANGES = {"exchange-plain": PLAIN_REQUEST, "exchange-browser": BROWSER_REQUEST}


def repeat(step: Step, count: int) -> int:
    """Run the step so many times; returns nanoseconds of this thread's CPU."""
    times = range(count)
    before = time.thread_time_ns()
    for _ in times:
        step()
    return time.thread_time_ns() - before


def microseconds(step: Step) -> float:
    """CPU microseconds of one run in the fastest batch, the loop around it included."""
    count = 1
    while (spent := repeat(step, count)) < BATCH_SECONDS * 1e9 / 4:
        count *= 2
    count = max(1, round(count * BATCH_SECONDS * 1e9 / spent))
    return min(repeat(step, count) for _ in range(BATCHES)) / count / 1000


def counted(output: str) -> int | None:
    """The number in what `perf stat -x,` wrote, None where the machine does not count."""
    for line in output.splitlines():
        value, _, rest = line.partition(",")
        if "instructions" in rest and value.isdigit():
            return int(value)
    return None


def instructions(name: str) -> float | None:
    """User-space instructions of one run, None without perf or without a counter."""
    if shutil.which("perf") is None:
        return None
    totals = []
    for count in (FEWER, MORE):
        run = [sys.executable, "-m", "benchmarks.micro", "--only", name, "--count", str(count)]
        done = subprocess.run(
            ["perf", "stat", "-x,", "-e", "instructions:u", *run],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        total = counted(done.stderr)
        if total is None:
            return None
        totals.append(total)
    return (totals[1] - totals[0]) / (MORE - FEWER)


def table(names: Sequence[str], count_instructions: bool) -> list[list[str]]:
    """A row for each step."""
    found = [["step", "what", "us", "instructions"]]
    for name in names:
        if name in EXCHANGES:
            spent = one_exchange.microseconds((EXCHANGES[name], RESPONSE))
            found.append([name, "One whole exchange, system calls included", number(spent, 2), "-"])
            continue
        make = STEPS[name]
        what = (make.__doc__ or "").rstrip(".")
        count = instructions(name) if count_instructions else None
        found.append([name, what, number(microseconds(make()), 2), number(count)])
    return found


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("--only", default="", help="steps, with commas")
    parser.add_argument("--instructions", action="store_true", help="count them through perf")
    parser.add_argument("--count", type=int, default=0, help="run so often, measure nothing")
    asked = parser.parse_args(argv)
    names = chosen(asked.only, [*STEPS, *EXCHANGES], "step")
    gc.freeze()
    if asked.count:
        for name in [name for name in names if name in STEPS]:
            repeat(STEPS[name](), asked.count)
        return 0
    rows = table(names, asked.instructions)
    print(text_table(rows, left=2))
    if asked.instructions and all(row[-1] == "-" for row in rows[1:]):
        print("instructions: perf is missing, or this machine does not count them")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

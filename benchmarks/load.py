"""Load through wrk: what is sent, and what came back.

wrk runs with one thread on the load core.  A script for each load writes one line of JSON at its
end, so nothing is read from rounded text; only `unique` calls Lua for each request.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Launch, NotReady, Process

INSTALL = "apt install wrk"
MARK = "result "

_DONE = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\nresult {"requests": %d, "seconds": %.6f, "p50": %.1f, "p99": %.1f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""

_UNIQUE = """
local count = 0
math.randomseed(os.time())
local run = string.format("%08x", math.random(0, 0x7fffffff))
request = function()
  count = count + 1
  local id = string.format("%s%08x", run, count)
  return "GET /plain HTTP/1.1\\r\\nHost: localhost\\r\\nAccept: */*\\r\\n"
    .. "traceparent: 00-0af76519" .. id .. "16cd43dd-" .. id .. "-01\\r\\n"
    .. "X-Request-Id: " .. id .. "\\r\\nCookie: session=" .. id .. "\\r\\n\\r\\n"
end
"""

_POST = 'wrk.method = "POST"\nwrk.body = string.rep("0123456789abcdef", 1024)\n'

BROWSER_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: http://localhost/start",
    "Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
)


@dataclass(frozen=True)
class Load:
    """What wrk sends: a path, on so many connections, with these fields beside Host."""

    path: str = "/plain"
    connections: int = 32
    fields: Sequence[str] = ()
    script: str = ""
    tls: bool = False


PLAIN = Load()
BROWSER = Load(fields=BROWSER_FIELDS)
UNIQUE = Load(script=_UNIQUE)
ONE = Load(connections=1)
BODY_10K = Load("/body10k")
BODY_1M = Load("/body1m")
CHUNKED = Load("/chunked")
POST_16K = Load("/post", script=_POST)
CLIENT_CLOSE = Load(fields=("Connection: close",))
ORIGIN_CLOSE = Load("/close")
HUNDRED = Load(connections=100)


@dataclass(frozen=True)
class Answered:
    """What came back: latencies in microseconds; errors are failed connections, reads and writes,
    time-outs, and every status that is neither 2xx nor 3xx.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests for each second."""
        return self.requests / self.seconds if self.seconds else 0.0


def wrk_program() -> str | None:
    return shutil.which("wrk")


def read_wrk(output: str) -> Answered:
    """What wrk's last line says.  Raises NotReady when it has none."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise NotReady(f"wrk wrote no result: {output.strip()[-500:]}")
    told = json.loads(lines[-1].removeprefix(MARK))
    return Answered(
        requests=int(told["requests"]),
        seconds=float(told["seconds"]),
        p50=float(told["p50"]),
        p99=float(told["p99"]),
        errors=int(told["errors"]),
    )


def wrk_launch(load: Load, port: int, seconds: int, folder: Path) -> Launch:
    """The command for wrk, for whole seconds; writes the load's script into the folder."""
    script = folder / "wrk.lua"
    script.write_text(load.script + _DONE)
    argv = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "-s", str(script)]
    for field in load.fields:
        argv += ["-H", field]
    scheme = "https" if load.tls else "http"
    return Launch([*argv, f"{scheme}://127.0.0.1:{port}{load.path}"])


def send(load: Load, port: int, seconds: int, folder: Path, core: int) -> Answered:
    """Run wrk for so many seconds on this core.  Raises NotReady when it fails."""
    process = Process(wrk_launch(load, port, seconds, folder), core, folder / "wrk.out")
    try:
        return read_wrk(process.wait(seconds + 30))
    finally:
        process.stop()

"""Load in HTTP/2 through h2load: so many connections, each with so many streams at a time.

h2load writes a line for each request into a file; nothing is read from rounded text.
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import BROWSER_FIELDS, Answered
from benchmarks.processes import Launch, NotReady, Process

#: More than any proxy remembers; h2load begins anew at the end of its list.
UNIQUE_PATHS = 100_000
INSTALL = "apt install nghttp2-client"
_DONE = re.compile(
    r"finished in [^,]+, .*\nrequests: (\d+) total, .* (\d+) succeeded, (\d+) failed"
)


@dataclass(frozen=True)
class H2Load:
    """What h2load sends: a path, on so many connections with so many streams, with these fields.

    With `unique` each request has a path of its own.
    """

    connections: int = 1
    streams: int = 32
    fields: Sequence[str] = ()
    path: str = "/plain"
    unique: bool = False
    tls: bool = False


PLAIN = H2Load()
BROWSER = H2Load(fields=BROWSER_FIELDS)
UNIQUE = H2Load(fields=BROWSER_FIELDS, unique=True)
EIGHT = H2Load(connections=8)
HUNDRED = H2Load(streams=100)


def h2load_program() -> str | None:
    return shutil.which("h2load")


def h2load_launch(load: H2Load, port: int, seconds: float, log: Path) -> Launch:
    """The command for h2load, which writes its requests into `log`."""
    argv = ["h2load", "-t1", f"-c{load.connections}", f"-m{load.streams}"]
    argv += ["-D", str(seconds), f"--log-file={log}"]
    for field in load.fields:
        argv += ["-H", field]
    url = f"{'https' if load.tls else 'http'}://127.0.0.1:{port}{load.path}"
    if not load.unique:
        return Launch([*argv, url])
    urls = log.with_suffix(".urls")
    run = secrets.token_hex(4)
    urls.write_text("".join(f"{url}?{run}{count:08}\n" for count in range(UNIQUE_PATHS)))
    return Launch([*argv, "-i", str(urls)])


def read_h2load(output: str, log: str, seconds: float) -> Answered:
    """What h2load has measured.  Raises NotReady if it says nothing of that."""
    done = _DONE.search(output)
    if done is None:
        raise NotReady(f"h2load wrote no result: {output.strip()[-500:]}")
    rows = [line.split() for line in log.splitlines()]
    good = sorted(float(row[2]) for row in rows if len(row) == 3 and row[1][:1] in ("2", "3"))
    if not good:
        raise NotReady(f"h2load got no good response: {output.strip()[-500:]}")
    return Answered(
        requests=len(rows),
        seconds=seconds,
        p50=good[len(good) // 2],
        p99=good[len(good) * 99 // 100],
        errors=len(rows) - len(good) + int(done[3]),
    )


def wait_until_good(
    process: Process, port: int, within: float = 20.0, *, tls: bool = False
) -> None:
    """Wait until a request in HTTP/2 is answered well: nginx speaks nothing else on such a port.

    Raises NotReady.
    """
    if h2load_program() is None:
        raise NotReady(f"h2load is missing: {INSTALL}")
    deadline = time.monotonic() + within
    argv = ["h2load", "-n1", "-c1", "-m1", f"{'https' if tls else 'http'}://127.0.0.1:{port}/plain"]
    while time.monotonic() < deadline and not process.ended():
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if "status codes: 1 2xx" in done.stdout:
            return
        time.sleep(0.05)
    raise NotReady(f"no good answer in {within:g} s; it printed: {process.output().strip()}")


def send(load: H2Load, port: int, seconds: float, folder: Path, core: int) -> Answered:
    """Run h2load for so many seconds on this core.  Raises NotReady when it fails."""
    if h2load_program() is None:
        raise NotReady(f"h2load is missing: {INSTALL}")
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    process = Process(h2load_launch(load, port, seconds, log), core, folder / "h2load.out")
    try:
        output = process.wait(seconds + 30)
        return read_h2load(output, log.read_text() if log.exists() else "", seconds)
    finally:
        process.stop()

"""The stage of a benchmark: cores, folder, origins, and the proxies that run on it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import h2load, load
from benchmarks.measure import Reading, per_request
from benchmarks.origin import origin_launch
from benchmarks.peers.catalog import Peer, Setup
from benchmarks.processes import (
    Cores,
    Launch,
    NotReady,
    Process,
    free_port,
    pick_cores,
    raise_file_limit,
    wait_until_good,
)
from benchmarks.tls import make_certificate

WARM_UP = 1


@dataclass(frozen=True)
class Running:
    """A proxy that answers: its process, its port, hopproxy's admin port, whether it speaks TLS."""

    process: Process
    port: int
    admin: int
    tls: bool = False


@dataclass(frozen=True)
class Wish:
    """What a scenario asks beside the defaults: as in `Setup`, and the origin that echoes.

    With several `workers` the proxy may use every core.  `tls` is "clients" for TLS on that hop,
    "both" for both hops.  With `h2` clients speak HTTP/2, with `h2_origin` so does the origin.
    """

    links: int = 4096
    workers: int = 1
    log: bool = False
    echo: bool = False
    routes: int = 1
    idle: int = 64
    tls: str = ""
    h2: bool = False
    h2_origin: bool = False


DEFAULT = Wish()


@dataclass
class Stage:
    """One run's cores, folder and origins.  Proxies asked for stay up until `clear`."""

    folder: Path
    cores: Cores
    files: int
    seconds: int
    minutes: float
    origin_port: int
    echo_port: int
    secure_port: int
    h2_port: int
    _running: dict[tuple[str, Wish], Running] = field(default_factory=dict)
    _proxies: ExitStack = field(default_factory=ExitStack)

    def setup(self, wish: Wish) -> Setup:
        """Fresh ports and the wish, as a proxy's settings need them."""
        origin = self.echo_port if wish.echo else self.origin_port
        if wish.tls == "both":
            origin = self.secure_port
        return Setup(
            self.folder,
            free_port(),
            free_port(),
            origin,
            wish.links,
            wish.workers,
            wish.log,
            wish.routes,
            wish.idle,
            tls=bool(wish.tls),
            secure_origin=wish.tls == "both",
            h2=wish.h2,
            h2_origin_port=self.h2_port if wish.h2_origin else 0,
        )

    def launch(self, peer: Peer, wish: Wish = DEFAULT) -> Running:
        """Start the proxy on its own core, not yet answering."""
        setup = self.setup(wish)
        output = Path("/dev/null") if wish.log else self.folder / f"{setup.port}-{peer.name}.out"
        core = self.cores.proxy if wish.workers == 1 else None
        process = Process(peer.launch(setup), core, output)
        return Running(process, setup.port, setup.admin_port, tls=setup.tls)

    @contextmanager
    def alone(self, peer: Peer, wish: Wish = DEFAULT) -> Iterator[Running]:
        """A fresh proxy that answers, stopped at the end.  Raises NotReady."""
        proxy = self.launch(peer, wish)
        try:
            if wish.h2:
                h2load.wait_until_good(proxy.process, proxy.port, tls=proxy.tls)
            else:
                wait_until_good(proxy.process, proxy.port, "/plain", tls=proxy.tls)
            yield proxy
        finally:
            proxy.process.stop()

    def running(self, peer: Peer, wish: Wish = DEFAULT) -> Running:
        """The proxy of this scenario, started and warmed when first asked for.  Raises NotReady."""
        key = (peer.name, wish)
        if key not in self._running:
            self._running[key] = self._proxies.enter_context(self.alone(peer, wish))
        return self._running[key]

    def clear(self) -> None:
        """Stop every proxy of this scenario."""
        self._running.clear()
        self._proxies.close()

    def measured(
        self, proxy: Running, what: load.Load | h2load.H2Load, seconds: int = 0
    ) -> Reading:
        """Warm up for a second, then read rate, CPU, latency and errors under this load."""
        self._send(what, proxy, WARM_UP)
        before = proxy.process.cpu_seconds()
        answered = self._send(what, proxy, seconds or self.seconds)
        return as_reading(answered, proxy.process.cpu_seconds() - before)

    def _send(self, what: load.Load | h2load.H2Load, proxy: Running, seconds: int) -> load.Answered:
        if isinstance(what, h2load.H2Load):
            in_h2 = replace(what, tls=proxy.tls)
            return h2load.send(in_h2, proxy.port, seconds, self.folder, self.cores.load)
        what = replace(what, tls=proxy.tls)
        return load.send(what, proxy.port, seconds, self.folder, self.cores.load)


def as_reading(answered: load.Answered, cpu_seconds: float) -> Reading:
    """The columns of a rate.  Raises NotReady past one error in a hundred: that is no rate."""
    if answered.errors * 100 > answered.requests or not answered.requests:
        raise NotReady(f"{answered.requests} answers and {answered.errors} errors")
    return {
        "rate": answered.rate,
        "cpu": per_request(cpu_seconds, answered.requests),
        "busy": 100 * cpu_seconds / answered.seconds,
        "p50": answered.p50,
        "p99": answered.p99,
        "errors": answered.errors,
    }


@contextmanager
def set_up(seconds: int, minutes: float) -> Iterator[Stage]:
    """Origins on the load core in a folder of their own; everything ends with the block."""
    cores = pick_cores()
    files = raise_file_limit()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hopproxy-bench-")))
        folder.chmod(0o755)  # the origin's worker is another user when the benchmark is run by root
        make_certificate(folder)
        ports = free_port(), free_port(), free_port(), free_port()
        stage = Stage(folder, cores, files, seconds, minutes, *ports)
        commands = {
            stage.origin_port: origin_launch(
                folder, stage.origin_port, stage.secure_port, stage.h2_port, files
            ),
            stage.echo_port: Launch(
                [sys.executable, "-m", "benchmarks.websocket", "origin", str(stage.echo_port)]
            ),
        }
        for port, command in commands.items():
            process = Process(command, cores.load, folder / f"origin-{port}.out")
            stack.callback(process.stop)
            wait_until_good(process, port, "/plain")
        stack.callback(stage.clear)
        yield stage


def rest(seconds: float) -> None:
    """Let sockets close and timers run between two readings."""
    with contextlib.suppress(InterruptedError):
        time.sleep(seconds)

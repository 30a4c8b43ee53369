"""The hopproxy process of a soak: its settings, and what it holds, seen from outside."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hopproxy.reasons import CloseReason
from tests.authority import authority, certificate, files_of
from tests.cli.command import Command, hopproxy
from tests.ports import free_port
from tests.soak.secure import NAME

SETTINGS = """\
listeners:
  - {{bind: "127.0.0.1:{port}", protocols: [h2, http/1.1]}}
  - {{bind: "127.0.0.1:{tls_port}", tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}}}
admin: {{bind: "127.0.0.1:{admin}"}}
client: {{head_timeout: {head_timeout}, idle_timeout: 5s, body_timeout: 3s, write_timeout: 5s,
  linger_timeout: 1s}}
upstreams:
  app:
    origins: [{origins}]
    connect_timeout: 1s
    response_timeout: 1500ms
    body_timeout: 2s
    pool: {{max_connections: 48, idle_timeout: 2s, queue_timeout: 4s}}
  secure:
    origins: [{secure}]
    tls: {{ca: {ca}}}
    connect_timeout: 1s
    response_timeout: 1500ms
    body_timeout: 2s
    pool: {{max_connections: 48, idle_timeout: 2s, queue_timeout: 4s}}
  streams:
    origins: [{streams}]
    connect_timeout: 1s
    response_timeout: 1500ms
    body_timeout: 2s
    pool: {{max_connections: 48, idle_timeout: 2s, queue_timeout: 4s}}
  gone: {{origins: ["http://127.0.0.1:{gone}"], connect_timeout: 1s}}
routes:
  - {{upstream: gone, path: /refuse}}
  - {{upstream: secure, host: secure}}
  - {{upstream: streams, host: streams}}
  - {{upstream: app}}
"""


class Held(NamedTuple):
    """What a process holds at one moment."""

    descriptors: int
    memory: int
    clients: int
    upstreams: int
    lent: int
    waiting: int

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.memory >> 20} MiB, "
            f"{self.clients} client links, {self.upstreams} upstream links, "
            f"{self.lent} lent or dialled, {self.waiting} waiting"
        )


class Proxy:
    """A running process."""

    def __init__(self, command: Command, ports: tuple[int, int], admin: int) -> None:
        self.pid = command.workers()[0]
        self.port, self.tls_port = ports
        self._command = command
        self._admin = admin

    def _asked(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}{path}", timeout=10) as answer:
            said: bytes = answer.read()
        return said.decode()

    def links(self) -> dict[str, Any]:
        """What /links says."""
        found: dict[str, Any] = json.loads(self._asked("/links"))
        return found

    def faults(self) -> list[str]:
        """What it says of faults of its own: links and requests that ended so, and its log."""
        counts = json.loads(self._asked("/closes"))["counts"]
        closed = [
            f"{one['count']} {one['hop']} links were closed as {one['reason']}"
            for one in counts
            if one["reason"] == CloseReason.INTERNAL_ERROR.label
        ]
        failed = [
            line
            for line in self._asked("/metrics").splitlines()
            if 'cause="proxy_internal_error"' in line and not line.endswith(" 0.0")
        ]
        return closed + failed + self.logged_faults()

    def logged_faults(self) -> list[str]:
        """The first lines of each fault in its log, and whatever else has a traceback."""
        lines = self._command.said.splitlines()
        return [line for line in lines if "Traceback" in line or "fault in" in line]

    def _descriptors(self) -> int:
        """How many are open, but for those of connections to the admin listener that just end."""
        counts = []
        for _ in range(5):
            time.sleep(0.05)
            counts.append(len(os.listdir(f"/proc/{self.pid}/fd")))
        return min(counts)

    def held(self) -> Held:
        """What it holds now."""
        seen = self.links()
        origins = seen["origins"]
        resident = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return Held(
            self._descriptors(),
            resident * os.sysconf("SC_PAGE_SIZE"),
            len(seen["clients"]),
            len(seen["upstreams"]),
            sum(origin["lent"] + origin["dialling"] for origin in origins),
            sum(origin["waiting"] for origin in origins),
        )


class FaultLogged(Exception):
    """hopproxy has met a fault of its own."""


@contextmanager
def running(
    folder: Path,
    ports: Sequence[int],
    head_timeout: str = "2s",
    *,
    secure: Sequence[int] = (),
    streams: Sequence[int] = (),
) -> Iterator[Proxy]:
    """A hopproxy in front of these origins: HTTP/1.1, with TLS (`secure`), HTTP/2 (`streams`)."""
    port, tls_port, admin = free_port(), free_port(), free_port()
    file, ca = folder / "soak.yaml", folder / "ca.crt"
    cert, key = files_of(certificate(NAME), folder)
    ca.write_bytes(authority().cert_pem.bytes())
    # Bound and never listened on: who connects is refused, and nobody else can take the port.
    absent = socket.socket()
    absent.bind(("127.0.0.1", 0))
    gone = absent.getsockname()[1]
    file.write_text(
        SETTINGS.format(
            port=port,
            tls_port=tls_port,
            cert=cert,
            key=key,
            ca=ca,
            admin=admin,
            gone=gone,
            head_timeout=head_timeout,
            origins=", ".join(f'"http://127.0.0.1:{one}"' for one in ports),
            secure=", ".join(f'"https://127.0.0.1:{one}"' for one in secure or (gone,)),
            streams=", ".join(f'"h2c://127.0.0.1:{one}"' for one in streams or (gone,)),
        )
    )
    with absent, hopproxy("run", "--config", str(file), until="listening on") as command:
        proxy = Proxy(command, (port, tls_port), admin)
        yield proxy
        assert command.stop() == 0, command.said
    if proxy.logged_faults():
        raise FaultLogged(command.said[-4000:])

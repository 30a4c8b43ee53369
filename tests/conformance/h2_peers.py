"""The rules of HTTP/2 against running proxies: hopproxy, and nginx, HAProxy and Caddy beside it.

hopproxy is held to its own choice where a rule leaves one, a peer to what the rule says: it may
answer an error of a stream with one of the connection (RFC 9113 section 5.4.1), with any code, and
refuse a malformed request by a status, a reset or the end of the connection.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from hopproxy.settings.units import OriginAddress
from tests import drivers
from tests.conformance import proxies
from tests.conformance.h2_rows import LIMIT, MAY_KEEP, MAY_SERVE, TABLE, Row
from tests.conformance.origin import listen
from tests.conformance.proxies import Proxy, started
from tests.conformance.report import MARKS
from tests.conformance.strict import Malformed
from tests.h2_peer import PING, H2Peer, frame
from tests.ports import free_port
from tests.raw_peers import OK, Message, Origin, Peer

PEERS = ("hopproxy", "nginx", "haproxy", "caddy")
#: Seconds in which a proxy must do what a rule says, and in which it may do what none forbids.
WAIT, REST = 1.5, 0.15
ALIVE = b"are you?"


class Verdict(NamedTuple):
    """What became of a row: pass, fail or n/a, and what was seen."""

    mark: str
    seen: str


class Seen(NamedTuple):
    """What both hops have seen of one row.

    `requests` are whole ones that the origin has read; `ended` if the proxy has ended the
    connection, `alive` if it has answered a PING after all.
    """

    h2: H2Peer
    requests: list[Message]
    ended: bool
    alive: bool
    malformed: str

    def __str__(self) -> str:
        answer = self.h2.answers.get(1)
        parts = [f"GOAWAY {one.code}" for one in self.h2.goaways]
        parts += [f"RST_STREAM {code}" for code in self.h2.reset_codes(1)]
        parts += [f"status {status}" for status in answer.statuses] if answer else []
        parts += ["ended"] if self.ended else ["alive"] if self.alive else ["silent"]
        return f"D: {', '.join(parts)}; U: {len(self.requests)} requests{self.malformed}"


def flaw(row: Row, seen: Seen, *, ours: bool) -> str:
    """What a proxy has done wrong, "" if nothing."""
    if seen.malformed:
        return "the origin reads what is no HTTP"
    return _flaw_of_ours(row, seen) if ours else _flaw_of_peer(row, seen)


def _flaw_of_ours(row: Row, seen: Seen) -> str:
    answer = seen.h2.answers.get(1)
    if [one.code for one in seen.h2.goaways] != ([] if row.goaway is None else [row.goaway]):
        return "another GOAWAY"
    if seen.ended != (row.goaway is not None) or seen.alive == seen.ended:
        return "the connection lives, or does not"
    if row.reset is not None and seen.h2.reset_codes(1) != [row.reset]:
        return "another RST_STREAM"
    if tuple(answer.statuses if answer else ()) != row.statuses:
        return "another status"
    if len(seen.requests) != row.asked:
        return "other requests upstream"
    return "" if row.check is None or row.check(seen.h2, seen.requests) else "other fields"


def _flaw_of_peer(row: Row, seen: Seen) -> str:
    if row.goaway is not None:
        return "" if seen.ended else "the connection lives"
    resets = seen.h2.reset_codes(1)
    if row.reset is not None and not row.statuses:
        return "" if seen.ended or resets else "the stream lives"
    answer = seen.h2.answers.get(1)
    status = answer.status if answer is not None and answer.statuses else 0
    if row.statuses and row.statuses[0] >= 400:
        if row.choice == MAY_SERVE and 200 <= status < 300:
            return ""
        if seen.requests:
            return "passed on"
        return "" if seen.ended or resets or status >= 400 else "neither refused nor reset"
    if not seen.alive:
        return "the connection does not live"
    if not row.statuses:
        return "" if row.check is None or row.check(seen.h2, seen.requests) else "not served"
    if not 200 <= status < 300 or len(seen.requests) != row.asked:
        return "not served"
    if row.check is None or row.choice == MAY_KEEP or row.check(seen.h2, seen.requests):
        return ""
    return "other fields"


# -- one row -----------------------------------------------------------------------------------


class Stage:
    """An origin that answers everything, and keeps what it has read."""

    def __init__(self, port: int = 0) -> None:
        self.sock = listen(port)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.requests: list[Message] = []
        self.malformed = ""

    async def serve(self) -> None:
        """Answer until cancelled."""
        origin = Origin(self.sock, OriginAddress("tcp", host="127.0.0.1", port=self.port))
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._answer, await origin.accept())

    async def _answer(self, peer: Peer) -> None:
        with suppress(EOFError, OSError):
            try:
                while True:
                    self.requests.append(await peer.message())
                    head = self.requests[-1].start.startswith(b"HEAD ")
                    await peer.send(OK[: -len(b"ok")] if head else OK)
            except Malformed as broken:
                self.malformed = f", {broken}"
        peer.close()

    async def play(self, row: Row, address: tuple[str, int]) -> Seen:
        """Send a row on a connection of its own; see what comes of it."""
        self.requests.clear()
        self.malformed = ""
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        h2 = H2Peer(Peer(sock))
        alive = ended = False
        try:
            await sock.connect(address)
            await h2.start()
            with suppress(OSError):  # it may end the connection before it has read all
                await h2.send(row.send(h2))
            with trio.move_on_after(WAIT):
                while not self._is_settled(row, h2):
                    await h2.read()
            with trio.move_on_after(REST):
                while True:
                    await h2.read()
            await h2.send(frame(PING, 0, 0, ALIVE))
            with trio.move_on_after(WAIT):
                while not alive:
                    found = await h2.read()
                    alive = found.kind == PING and found.payload == ALIVE
        except (EOFError, OSError):
            ended = True
        sock.close()
        seen = Seen(h2, list(self.requests), ended, alive, self.malformed)
        await trio.sleep(0.02)  # so that nothing of it comes in the time of the next
        return seen

    def _is_settled(self, row: Row, h2: H2Peer) -> bool:
        """Whether what the row asks for has come, as far as waiting for it is enough."""
        if row.goaway is not None:
            return False
        if row.reset is not None:
            return bool(h2.reset_codes(1))
        answer = h2.answers.get(1) or h2.answers.get(9)
        return answer is not None and (answer.ended or answer.reset is not None)


async def _play_all(
    stage: Stage, rows: Mapping[str, Row], name: str, address: tuple[str, int]
) -> list[Verdict]:
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.serve)
        for row in rows.values():
            if name != "hopproxy" and row.choice == LIMIT:
                found.append(Verdict("n/a", "hopproxy's own limit"))
                continue
            seen = await stage.play(row, address)
            if row.setting and seen.h2.settings.get(row.setting[0], 0) > row.setting[1]:
                found.append(Verdict("n/a", f"its SETTINGS: {seen.h2.settings}"))
                continue
            why = flaw(row, seen, ours=name == "hopproxy")
            found.append(Verdict("fail" if why else "pass", f"{why}; {seen}" if why else str(seen)))
        nursery.cancel_scope.cancel()
    return found


# -- the proxies -------------------------------------------------------------------------------

NGINX = """
daemon off; pid {directory}/pid; error_log stderr; worker_processes 1; {user}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1;
      proxy_set_header Host $host; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""
HAPROXY = """
global
 maxconn 500
 nbthread 1
defaults
 mode http
 timeout connect 5s
 timeout client 30s
 timeout server 30s
 option forwardfor
 option http-no-delay
 http-reuse always
frontend front
 bind 127.0.0.1:{port} proto h2
 default_backend origin
backend origin
 server origin 127.0.0.1:{origin}
"""
CADDY = """
{{
 admin off
 auto_https off
 servers {{
  protocols h1 h2c
 }}
}}
http://:{port} {{
 bind 127.0.0.1
 reverse_proxy 127.0.0.1:{origin} {{
  flush_interval -1
 }}
}}
"""
HOPPROXY = """
listeners: [{{bind: 127.0.0.1:{port}}}]
upstreams: {{app: {{origins: ["http://127.0.0.1:{origin}"]}}}}
"""
CONFIGS = {"hopproxy": HOPPROXY, "nginx": NGINX, "haproxy": HAPROXY, "caddy": CADDY}


def start(name: str, origin: int, directory: Path) -> Proxy:
    """Start this proxy in front of an origin on that port."""
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = directory / ("Caddyfile" if name == "caddy" else "config.yaml")
    config.write_text(
        CONFIGS[name].format(port=port, origin=origin, directory=directory, user=user)
    )
    path = shutil.which(name) or f"/usr/sbin/{name}"
    homes = [f"XDG_{kind}_HOME={directory}" for kind in ("CONFIG", "DATA")]
    command = {
        "hopproxy": [*drivers.COMMAND, "run", "--config", str(config)],
        "nginx": [path, "-p", str(directory), "-c", str(config)],
        "haproxy": [path, "-db", "-f", str(config)],
        "caddy": ["env", *homes, path, "run", "--config", str(config), "--adapter", "caddyfile"],
    }[name]
    return started(Proxy(name, port, {}, directory=directory), command)


def against(name: str, only: str = "") -> dict[str, Verdict]:
    """Play every row whose name contains `only` against this proxy."""
    rows = {title: row for title, row in TABLE.items() if only in title}
    stage = Stage()
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as directory:
        proxy = start(name, stage.port, Path(directory))
        try:
            found = trio.run(_play_all, stage, rows, name, ("127.0.0.1", proxy.port))
        finally:
            proxy.stop()
            stage.sock.close()
    return dict(zip(rows, found, strict=True))


def against_target(address: tuple[str, int], origin_port: int, only: str = "") -> int:
    """Play them against a proxy that somebody else has started, and that speaks HTTP/2.

    Returns 1 when a row failed.
    """
    rows = {title: row for title, row in TABLE.items() if only in title}
    stage = Stage(origin_port)
    found = trio.run(_play_all, stage, rows, "", address)
    stage.sock.close()
    results = dict(zip(rows, found, strict=True))
    show(results)
    print("\n".join(summary({f"{address[0]}:{address[1]}": results})))
    return int(any(verdict.mark == "fail" for verdict in found))


# -- what was found ----------------------------------------------------------------------------


def show(results: Mapping[str, Verdict]) -> None:
    """Print a line for each row."""
    for title, verdict in results.items():
        print(f"{verdict.mark:5} {title:60} {verdict.seen}", flush=True)


def summary(results: Mapping[str, Mapping[str, Verdict]]) -> list[str]:
    """Count the verdicts of each proxy."""
    lines = []
    for name, found in results.items():
        count = Counter(verdict.mark for verdict in found.values())
        lines.append(
            f"{name}: {count['pass']} pass, {count['fail']} fail, {count['n/a']} n/a"
            f" of {len(found)} rows"
        )
    return lines


def table(results: Mapping[str, Mapping[str, Verdict]], versions: Sequence[str]) -> Iterator[str]:
    """The lines of RESULTS-H2.md."""
    yield "# The rules of HTTP/2: hopproxy beside its peers"
    yield ""
    yield "Written by `python -m tests.conformance --http2 --peers`. hopproxy is held to its own"
    yield "choice where a rule leaves one; the peers pass with any answer that the rule allows."
    yield "n/a: how much a proxy bears is its own choice, or its SETTINGS allow what the row sends."
    yield "Clients speak HTTP/2 without TLS, the origin HTTP/1.1."
    yield ""
    yield from (f"- {line}" for line in summary(results))
    yield ""
    yield f"Measured: {', '.join(versions)}."
    yield ""
    yield f"| rule | {' | '.join(results)} |"
    yield "|---|" + "---|" * len(results)
    for title in TABLE:
        marks = [MARKS[found[title].mark] for found in results.values()]
        yield f"| {title} | {' | '.join(marks)} |"
    yield ""
    yield "## What failed, and how"
    yield ""
    for name, found in results.items():
        for title, verdict in found.items():
            if verdict.mark == "fail":
                yield f"- {name}, {title}: `{verdict.seen.replace('`', chr(39))[:300]}`"


def main(names: Sequence[str], only: str, path: Path) -> int:
    """Play the rows against these proxies; write the table if none is left out."""
    results = {}
    for name in names:
        print(f"== {name}", flush=True)
        results[name] = against(name, only)
        show(results[name])
    if not only and tuple(names) == PEERS:
        versions = [proxies.version(name) for name in names]
        path.write_text("\n".join(table(results, versions)) + "\n")
    print("\n".join(summary(results)))
    return int(any(one.mark == "fail" for one in results.get("hopproxy", {}).values()))

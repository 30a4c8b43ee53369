"""python -m tests.conformance: the wire rules against any running proxy, or against the peers.

--target HOST:PORT --origin-port PORT   a proxy that runs, and forwards to that port of 127.0.0.1
--assume GROUP                          the target runs with that group's settings too (repeatable)
--peers [NAME ...]                      start hopproxy, nginx and haproxy, run all, write RESULTS.md
--http2                                 the rules of HTTP/2 instead, without TLS, against the target
--http2 --peers [NAME ...]              or against the peers, Caddy too; writes RESULTS-H2.md
--only TEXT                             cases whose name contains it, or whose rule it is
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conformance import h2_peers, proxies, report
from tests.conformance.case import Case, Outcome, run
from tests.conformance.groups import GROUPS, Group
from tests.conformance.origin import Origin
from tests.conformance.proxies import Proxy
from tests.conformance.table import cases

PEERS = ("hopproxy", "nginx", "haproxy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; exit code 1 when a case failed."""
    asked = _parser().parse_args(arguments)
    host, _, port = asked.target.rpartition(":")
    if asked.http2 and asked.peers is None:
        return h2_peers.against_target((host, int(port)), asked.origin_port, asked.only)
    if asked.http2:
        path = Path(__file__).with_name("RESULTS-H2.md")
        return h2_peers.main(asked.peers or h2_peers.PEERS, asked.only, path)
    if asked.peers is not None:
        names = asked.peers or list(PEERS)
        results = {name: list(against_peer(name, asked.only)) for name in names}
        if not asked.only and names == list(PEERS):
            report.write_results(Path(__file__).with_name("RESULTS.md"), results)
        print(report.summary(results))
        return 0
    outcomes = list(against_target((host, int(port)), asked.origin_port, asked))
    print(report.summary({asked.target: outcomes}))
    return int(any(outcome.verdict == "fail" for outcome in outcomes))


def against_target(
    address: tuple[str, int], origin_port: int, asked: argparse.Namespace
) -> Iterator[Outcome]:
    """Run each case against a proxy that somebody else started."""
    proxy = Proxy(asked.target, address[1], {"": Origin(origin_port)}, address=address[0])
    for case in cases(asked.only):
        if GROUPS[case.group].private:
            outcome = Outcome(case, "n/a", "ends the proxy's process")
        elif case.group != "base" and case.group not in asked.assume:
            outcome = Outcome(case, "n/a", f"needs the settings of group {case.group}")
        else:
            outcome = run(case, proxy.stage(case))
        report.show(outcome, verbose=asked.verbose)
        yield outcome
    proxy.stop()


def against_peer(name: str, only: str) -> Iterator[Outcome]:
    """Run each case against a proxy that is started here, group by group."""
    print(f"== {name}")
    for group in GROUPS.values():
        chosen = cases(only, group.name)
        missing = name != "hopproxy" and getattr(group, name) is None
        for batch in [[case] for case in chosen] if group.private else [chosen] if chosen else []:
            if missing:
                yield from (Outcome(c, "n/a", f"cannot be set: {group.name}") for c in batch)
                continue
            with tempfile.TemporaryDirectory(prefix=f"{name}-") as directory:
                proxy = start(name, group, batch, Path(directory))
                for case in batch:
                    outcome = run(case, proxy.stage(case))
                    report.show(outcome, verbose=bool(only))
                    yield outcome
                proxy.stop()


def start(name: str, group: Group, batch: Sequence[Case], directory: Path) -> Proxy:
    """Start that proxy with the group's settings."""
    if name == "hopproxy":
        return proxies.hopproxy(batch, directory)
    if name == "caddy":
        raise SystemExit("Caddy runs the rules of HTTP/2 only: --http2")
    return (proxies.nginx if name == "nginx" else proxies.haproxy)(group, directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--target", default="127.0.0.1:8080")
    parser.add_argument("--origin-port", type=int, default=3000)
    parser.add_argument("--assume", action="append", default=[], choices=sorted(GROUPS))
    parser.add_argument("--peers", nargs="*", choices=h2_peers.PEERS)
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true", help="print both wires of failures")
    return parser


if __name__ == "__main__":
    sys.exit(main())

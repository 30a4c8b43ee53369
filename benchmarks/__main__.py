"""The benchmark's command: `python -m benchmarks [--only plain,one] [--rounds 5] [--seconds 3]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import load, origin, plot, report
from benchmarks.measure import Outcome
from benchmarks.peers.catalog import HOPPROXY, PEERS, Peer
from benchmarks.processes import NotReady
from benchmarks.scenarios import MANY_LINKS, SCENARIOS, Scenario
from benchmarks.stage import Stage, set_up

OUT = Path(__file__).parent / "out"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; its defaults are the variables ONLY, PEERS, ROUNDS, SECONDS, MINUTES."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=env.get("ONLY", ""), help="scenarios, with commas")
    parser.add_argument("--peers", default=env.get("PEERS", ""), help="proxies, with commas")
    parser.add_argument("--rounds", type=int, default=int(env.get("ROUNDS") or 5))
    parser.add_argument("--seconds", type=int, default=int(env.get("SECONDS") or 3))
    parser.add_argument("--minutes", type=float, default=float(env.get("MINUTES") or 0))
    parser.add_argument("--plot", type=Path, help="where the SVG goes (default: beside the JSON)")
    return parser.parse_args(argv)


def chosen(names: str, known: Sequence[str], what: str) -> list[str]:
    """The names asked for, all when none.  Raises SystemExit for one that is not known."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise SystemExit(f"no {what} is called {name!r}; there are: {', '.join(known)}")
    return asked or list(known)


def present(names: Sequence[str]) -> list[Peer]:
    """The proxies of these names that are installed; says what is missing and how to get it."""
    found = []
    for peer in PEERS:
        if peer.name not in names:
            continue
        if peer.program() is None:
            print(f"{peer.name} is missing: {peer.install}")
        else:
            found.append(peer)
    return found


def progress(text: str) -> None:
    """One line on a terminal, each one over the last; nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r{text:60}\r", end="", file=sys.stderr, flush=True)


def run(scenario: Scenario, stage: Stage, peers: Sequence[Peer], rounds: int) -> Outcome:
    """Interleaved rounds of one scenario; a proxy that fails is left out of those that follow."""
    outcome = Outcome(scenario.name)
    taking_part = [peer for peer in peers if scenario.peers or peer.name == HOPPROXY]
    if scenario.tls:
        taking_part = [peer for peer in taking_part if peer.speaks_tls]
    try:
        for done in range(rounds):
            for peer in taking_part:
                progress(f"{scenario.name} {done + 1}/{rounds} {peer.name}")
                if peer.name in outcome.failures:
                    outcome.add(peer.name, None)
                    continue
                stage.clear()  # a fresh process each time: two of the same code differ by a tenth
                try:
                    outcome.add(peer.name, scenario.trial(stage, peer))
                except NotReady as error:
                    outcome.add(peer.name, None)
                    outcome.failures[peer.name] = str(error)
    finally:
        stage.clear()
        progress("")
    return outcome


def show(scenario: Scenario, outcome: Outcome) -> None:
    """Print one scenario's table and what failed in it."""
    print(f"\n{scenario.name}: {scenario.what}\n")
    print(report.text_table(report.rows(scenario, outcome)))
    for name, why in outcome.failures.items():
        print(f"{name} failed: {' | '.join(why.splitlines()[-3:])}")
    sys.stdout.flush()


def warnings(stage: Stage) -> list[str]:
    """What this machine cannot give, and so which numbers mean less."""
    found = []
    if stage.cores.shared:
        found.append("one core only, shared by proxy, origin and load: compare CPU, not rates")
    if stage.files < MANY_LINKS + 2048:
        found.append(f"only {stage.files} files may be open: idle-links needs `ulimit -n 16384`")
    return found


def perform(asked: argparse.Namespace, scenarios: Sequence[Scenario], peers: Sequence[Peer]) -> int:
    """Run the scenarios, print each table as it is done, write JSON and picture."""
    versions = {peer.name: peer.version_text() for peer in peers}
    for name, version in versions.items():
        print(f"{name}: {version}")
    outcomes = []
    with set_up(asked.seconds, asked.minutes) as stage:
        for warning in warnings(stage):
            print(warning)
        about = report.machine(stage.files, stage.cores.shared)
        for scenario in scenarios:
            outcomes.append(run(scenario, stage, peers, asked.rounds))
            show(scenario, outcomes[-1])
    path = report.write_json(OUT, about, versions, outcomes)
    panels = [
        plot.panel(scenario, outcome, HOPPROXY)
        for scenario, outcome in zip(scenarios, outcomes, strict=True)
        if scenario.peers
    ]
    picture = asked.plot or path.with_suffix(".svg")
    picture.write_text(plot.picture(panels, plot.note(about, asked.rounds)))
    print(f"\nall readings: {path}\nplot: {picture}")
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def main(argv: Sequence[str]) -> int:
    asked = arguments(argv)
    names = chosen(asked.only, [scenario.name for scenario in SCENARIOS], "scenario")
    peers = present(chosen(asked.peers, [peer.name for peer in PEERS], "proxy"))
    needed = [(load.wrk_program(), load.INSTALL), (origin.nginx_program(), origin.INSTALL)]
    if missing := [install for program, install in needed if program is None]:
        print(f"load generator and origin are needed: {', '.join(missing)}")
        return 1
    return perform(asked, [one for one in SCENARIOS if one.name in names], peers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

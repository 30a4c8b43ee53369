"""What the cases found, as lines while they run and as a table afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance import proxies
from tests.conformance.case import Case, Outcome
from tests.conformance.table import LATER

MARKS = {"pass": "pass", "fail": "**fail**", "n/a": "n/a"}


def show(outcome: Outcome, *, verbose: bool) -> None:
    """Print one line, and both wires of a failure when asked."""
    print(f"{outcome.verdict:5} {outcome.case.id:75} {outcome.seen}", flush=True)
    if verbose and outcome.verdict == "fail":
        print("      " + outcome.trace.replace("\n", "\n      "), flush=True)


def summary(results: Mapping[str, Sequence[Outcome]]) -> str:
    """Count the verdicts of each proxy."""
    lines = []
    for name, outcomes in results.items():
        count = Counter(outcome.verdict for outcome in outcomes)
        rules = {outcome.case.rule for outcome in outcomes}
        failed = {outcome.case.rule for outcome in outcomes if outcome.verdict == "fail"}
        lines.append(
            f"{name}: {count['pass']} pass, {count['fail']} fail, {count['n/a']} n/a of"
            f" {len(outcomes)} cases; {len(failed)} of {len(rules)} rules broken"
        )
    return "\n".join(lines)


def write_results(path: Path, results: Mapping[str, Sequence[Outcome]]) -> None:
    """Write the table of all proxies side by side."""
    names = list(results)
    rows: dict[Case, dict[str, Outcome]] = {}
    for name, outcomes in results.items():
        for outcome in outcomes:
            rows.setdefault(outcome.case, {})[name] = outcome
    lines = [
        "# The wire rules: hopproxy beside its peers",
        "",
        "Written by `python -m tests.conformance --peers`. hopproxy is held to its own choice",
        "where a rule leaves one; the peers pass with any answer that the rule allows. n/a: the",
        "setting that the case needs does not exist there.",
        "",
        *[f"- {line}" for line in summary(results).splitlines()],
        "",
        "Measured: " + ", ".join(proxies.version(name) for name in names) + ".",
        "",
        "| rule | behaviour | " + " | ".join(names) + " | source |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for case in sorted(rows, key=lambda case: (case.rule, case.id)):
        variant = f" ({case.variant})" if case.variant else ""
        verdicts = [MARKS[rows[case][name].verdict] if name in rows[case] else "" for name in names]
        behaviour = (case.name.replace("_", " ") + variant).replace("|", "\\|")
        lines.append(f"| {case.rule} | {behaviour} | {' | '.join(verdicts)} | {case.source} |")
    lines += ["", "## What failed, and how", ""]
    for name, outcomes in results.items():
        for outcome in outcomes:
            if outcome.verdict == "fail":
                seen = outcome.seen.replace("`", "'")
                seen = seen if len(seen) < 300 else seen[:300] + "..."
                lines.append(f"- {name}, {outcome.case.id}: `{seen}`")
    lines += ["", "## Rules without a case yet", ""]
    lines += [f"- {number}: waits for {reason}" for number, reason in LATER.items()]
    path.write_text("\n".join(lines) + "\n")

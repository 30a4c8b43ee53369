"""Every wire rule, on both wires of a running hopproxy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.case import Case, run
from tests.conformance.groups import GROUPS
from tests.conformance.proxies import Proxy
from tests.conformance.table import LATER, cases

RULES = range(1, 132)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases()])
def test_rule(case: Case, proxy_for: Callable[[Case], Proxy]) -> None:
    proxy = proxy_for(case)
    outcome = run(case, proxy.stage(case))
    assert outcome.verdict == "pass", f"{outcome.seen}\n{outcome.trace}"
    assert "Traceback" not in proxy.printed(), proxy.printed()


def test_every_rule_has_a_case_or_says_what_it_waits_for() -> None:
    covered = {case.rule for case in cases()}
    assert covered.isdisjoint(LATER)
    assert covered | set(LATER) == set(RULES)


def test_every_case_runs_in_a_group_that_exists_and_has_a_name_of_its_own() -> None:
    assert {case.group for case in cases()} == set(GROUPS)
    assert len({case.id for case in cases()}) == len(cases())
    assert len({case.host for case in cases()}) == len(cases())

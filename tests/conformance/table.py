"""Every case, in the order of the rules."""

from __future__ import annotations

from tests.conformance import (
    cases_client,
    cases_fields,
    cases_forwarding,
    cases_heads,
    cases_interim,
    cases_limits,
    cases_pool,
    cases_repeats,
    cases_requests,
    cases_responses,
    cases_retry,
    cases_streaming,
)
from tests.conformance.case import CASES, Case

SECTIONS = (
    cases_pool,
    cases_retry,
    cases_limits,
    cases_client,
    cases_fields,
    cases_forwarding,
    cases_repeats,
    cases_interim,
    cases_requests,
    cases_heads,
    cases_responses,
    cases_streaming,
)
"""Each section enters its cases as it is imported."""

LATER = {
    11: "TLS to the origin",
    32: "TLS to the origin",
    33: "the PROXY protocol",
    39: "reload",
    40: "DNS",
    99: "reload",
    124: "TLS to the origin",
}
"""Rules without a case yet, and what they wait for."""


def cases(only: str = "", group: str = "") -> list[Case]:
    """Return the cases whose id contains `only` (or whose rule it is), of that group."""
    chosen = [
        case
        for case in CASES
        if (not only or only in case.id or only == str(case.rule))
        and (not group or case.group == group)
    ]
    return sorted(chosen, key=lambda case: case.rule)

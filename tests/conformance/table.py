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
    11: "tests/links/test_origin_tls.py: close_notify ends an idle link",
    32: "tests/links/test_origin_trust.py: two upstreams share no link",
    33: "tests/links/test_announced.py: clients share no connection",
    39: "reload",
    40: "DNS",
    99: "reload",
    124: "tests/links/test_origin_trust.py: nothing passes before the handshake has ended",
}
"""Rules without a case, and what they wait for, or where they are tested."""


def cases(only: str = "", group: str = "") -> list[Case]:
    """Return the cases whose id contains `only` (or whose rule it is), of that group."""
    chosen = [
        case
        for case in CASES
        if (not only or only in case.id or only == str(case.rule))
        and (not group or case.group == group)
    ]
    return sorted(chosen, key=lambda case: case.rule)

"""How slowly a body may arrive."""

from __future__ import annotations

from math import inf

from hopproxy.rules.pace import GRACE, Pace


def test_a_client_may_make_us_wait_for_the_grace_and_what_its_bytes_are_worth() -> None:
    pace = Pace(100)
    assert pace.patience == GRACE
    pace.waited(3.0)
    pace.came(200)
    assert pace.patience == GRACE - 3.0 + 2.0


def test_without_a_rate_patience_has_no_end() -> None:
    pace = Pace(0)
    pace.waited(1000.0)
    pace.came(1)
    assert pace.patience == inf

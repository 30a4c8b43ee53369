"""When a worker that has ended is started again."""

from __future__ import annotations

import math

from hopproxy.server.backoff import FIRST, HOPELESS, MOST, STEADY, BackOff


def test_a_worker_that_has_served_for_a_while_is_replaced_at_once() -> None:
    back_off = BackOff()
    assert [back_off.ended(STEADY) for _ in range(20)] == [0.0] * 20


def test_pauses_double_up_to_the_longest() -> None:
    back_off = BackOff()
    pauses = [back_off.ended(1.0) for _ in range(10)]
    assert pauses[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert pauses[-1] == MOST


def test_a_steady_worker_ends_the_row_of_failures() -> None:
    back_off = BackOff()
    for _ in range(5):
        back_off.ended(0.1)
    back_off.ended(STEADY)
    assert back_off.ended(0.1) == FIRST


def test_workers_that_never_serve_are_given_up() -> None:
    back_off = BackOff()
    pauses = [back_off.ended(None) for _ in range(HOPELESS)]
    assert math.inf not in pauses[:-1]
    assert pauses[-1] == math.inf


def test_one_that_has_served_a_moment_gives_new_hope() -> None:
    back_off = BackOff()
    for _ in range(HOPELESS - 1):
        back_off.ended(None)
    back_off.ended(0.1)
    assert back_off.ended(None) < math.inf

"""What may be sent again, and what never (RFC 9110 section 9.2.2)."""

import pytest

from hopproxy.rules.retry import (
    IDEMPOTENT,
    MAX_ATTEMPTS,
    MAX_UNPROCESSED,
    SAFE,
    Again,
    Budget,
    Trace,
    after,
)
from tests.pure.search import get

ALL = sorted(IDEMPOTENT | {b"POST", b"PATCH", b"LOCK", b"get"})
KEYED = b"Idempotency-Key: x"


def stale(
    *, attempt: int = 1, reused: bool = True, written: int = 60, answered: bool = False
) -> Trace:
    """An attempt on a pooled link that died without a byte of an answer."""
    return Trace(attempt=attempt, reused=reused, written=written, answered=answered)


@pytest.mark.parametrize("method", ALL)
def test_only_what_is_done_once_in_effect_is_sent_twice(method: bytes) -> None:
    head = get(start=method + b" / HTTP/1.1")
    again = after(head, stale())
    assert again is (Again.ANYWHERE if method in IDEMPOTENT else Again.NOTHING)


@pytest.mark.parametrize("method", ALL)
def test_what_was_never_written_may_go(method: bytes) -> None:
    head = get(start=method + b" / HTTP/1.1")
    assert after(head, stale(written=0)) is Again.ANYWHERE


@pytest.mark.parametrize("written", [0, 60])
@pytest.mark.parametrize(
    "trace",
    [
        pytest.param({"answered": True}, id="a byte of an answer was seen"),
        pytest.param({"attempt": MAX_ATTEMPTS}, id="a repetition that failed too"),
    ],
)
def test_nothing_is_sent_again_after(trace: dict[str, bool], written: int) -> None:
    for start in (b"GET / HTTP/1.1", b"POST / HTTP/1.1"):
        again = after(get(KEYED, start=start), stale(written=written, **trace), True)
        assert again is Again.NOTHING


@pytest.mark.parametrize("written", [0, 60])
def test_a_body_that_is_gone_cannot_be_sent_again(written: int) -> None:
    trace = stale(written=written)
    trace.replayable = False
    for start in (b"PUT / HTTP/1.1", b"POST / HTTP/1.1"):
        assert after(get(KEYED, start=start), trace, True) is Again.NOTHING


@pytest.mark.parametrize(
    ("line", "switch", "verdict"),
    [
        (KEYED, False, False),
        (KEYED, True, True),
        (b"idempotency-key:x", True, True),
        (b"X: 1", True, False),
    ],
)
def test_a_key_makes_a_post_repeatable_where_the_settings_say_so(
    line: bytes, switch: bool, verdict: bool
) -> None:
    again = after(get(line, start=b"POST / HTTP/1.1"), stale(), switch)
    assert again is (Again.ANYWHERE if verdict else Again.NOTHING)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("written", [0, 60])
def test_after_a_fresh_link_only_what_nobody_notices_twice_goes_and_only_elsewhere(
    method: bytes, written: int
) -> None:
    head = get(KEYED, start=method + b" / HTTP/1.1")
    again = after(head, stale(reused=False, written=written), True)
    assert again is (Again.ELSEWHERE if method in SAFE else Again.NOTHING)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("reused", [False, True])
def test_what_the_origin_did_nothing_with_may_go_again_and_again(
    method: bytes, reused: bool
) -> None:
    head = get(start=method + b" / HTTP/1.1")
    for attempt in range(1, MAX_UNPROCESSED + 1):
        trace = stale(attempt=attempt, reused=reused)
        trace.unprocessed = True
        again = after(head, trace) is Again.ANYWHERE
        assert again is (attempt < MAX_UNPROCESSED)
        trace.replayable = False
        assert after(head, trace) is Again.NOTHING


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("answered", [False, True])
def test_what_an_origin_did_not_serve_goes_elsewhere_if_nobody_notices_it_twice(
    method: bytes, reused: bool, answered: bool
) -> None:
    trace = stale(reused=reused, answered=answered)  # answered: with a status that is listed
    trace.ended, trace.refused = False, True
    again = after(get(KEYED, start=method + b" / HTTP/1.1"), trace, True)
    assert again is (Again.ELSEWHERE if method in SAFE else Again.NOTHING)


def test_a_link_that_was_not_ended_by_its_origin_is_no_reason() -> None:
    trace = stale()
    trace.ended = False
    assert after(get(), trace) is Again.NOTHING


# -- the budget --------------------------------------------------------------------------------


def test_at_most_a_fifth_of_many_requests_get_another_chance() -> None:
    budget = Budget()
    taken = sum(budget.take(number) for number in range(1, 5001))
    assert taken == 1000 + Budget.RESERVE - 1
    assert (budget.used, budget.refused) == (taken, 5000 - taken)


def test_what_was_not_used_is_kept_up_to_a_bound() -> None:
    budget = Budget()
    assert budget.left(0) == Budget.RESERVE
    assert budget.left(100) == Budget.RESERVE + 20
    assert budget.left(100) == Budget.RESERVE + 20, "each request counts once"
    assert budget.left(10**6) == Budget.MOST

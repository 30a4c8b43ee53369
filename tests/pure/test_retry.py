"""What may be sent again, and what never (RFC 9110 section 9.2.2)."""

import pytest

from hopproxy.rules.retry import IDEMPOTENT, MAX_ATTEMPTS, MAX_UNPROCESSED, Trace, may_retry
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
    assert may_retry(head, stale()) is (method in IDEMPOTENT)


@pytest.mark.parametrize("method", ALL)
def test_what_was_never_written_may_go(method: bytes) -> None:
    assert may_retry(get(start=method + b" / HTTP/1.1"), stale(written=0))


@pytest.mark.parametrize("written", [0, 60])
@pytest.mark.parametrize(
    "trace",
    [
        pytest.param({"reused": False}, id="a fresh link"),
        pytest.param({"answered": True}, id="a byte of an answer was seen"),
        pytest.param({"attempt": MAX_ATTEMPTS}, id="a repetition that failed too"),
    ],
)
def test_nothing_is_sent_again_after(trace: dict[str, bool], written: int) -> None:
    for start in (b"GET / HTTP/1.1", b"POST / HTTP/1.1"):
        assert not may_retry(get(KEYED, start=start), stale(written=written, **trace), True)


@pytest.mark.parametrize("written", [0, 60])
def test_a_body_that_is_gone_cannot_be_sent_again(written: int) -> None:
    trace = stale(written=written)
    trace.replayable = False
    for start in (b"PUT / HTTP/1.1", b"POST / HTTP/1.1"):
        assert not may_retry(get(KEYED, start=start), trace, True)


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
    assert may_retry(get(line, start=b"POST / HTTP/1.1"), stale(), switch) is verdict


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("reused", [False, True])
def test_what_the_origin_did_nothing_with_may_go_again_and_again(
    method: bytes, reused: bool
) -> None:
    head = get(start=method + b" / HTTP/1.1")
    for attempt in range(1, MAX_UNPROCESSED + 1):
        trace = stale(attempt=attempt, reused=reused)
        trace.unprocessed = True
        assert may_retry(head, trace) is (attempt < MAX_UNPROCESSED)
        trace.replayable = False
        assert not may_retry(head, trace)

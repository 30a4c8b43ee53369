"""Whether a request may be retried (RFC 9110 section 9.2.2).

A pooled connection can end just as a request is sent on it.  A retry must not execute the request
twice.  So there is at most one, only after a failure on a reused link, only if no byte of a
response has arrived, and only if the request is idempotent or none of it was sent.
"""

from hopproxy.message import RequestHead

#: Idempotent methods (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

MAX_ATTEMPTS = 2


class Trace:
    """What is known about a failed attempt."""

    __slots__ = ("answered", "attempt", "replayable", "reused", "written")

    def __init__(self, *, attempt: int, reused: bool, written: int, answered: bool) -> None:
        self.attempt = attempt
        self.reused = reused
        self.written = written
        self.answered = answered
        self.replayable = True


def may_retry(head: RequestHead, trace: Trace, idempotency_key: bool = False) -> bool:
    """Whether the request may be retried on another link.

    If nothing of it was written, any method may.  With `idempotency_key` a request that has an
    Idempotency-Key field counts as idempotent.
    """
    if trace.attempt >= MAX_ATTEMPTS or not trace.reused or trace.answered:
        return False
    if not trace.replayable:
        return False
    return trace.written == 0 or is_idempotent(head, idempotency_key)


def is_idempotent(head: RequestHead, idempotency_key: bool) -> bool:
    """Whether the request is idempotent, by its method or its key."""
    if head.method in IDEMPOTENT:
        return True
    return idempotency_key and bool(head.values(b"idempotency-key"))

"""May a request be sent again?  (RFC 9110 section 9.2.2)

A pooled socket can die under a request through nobody's fault.  Sent again it must not be done
twice: so once only, only on a link that had served before, only when not one byte of an answer was
seen, and only what may be repeated.
"""

from hopproxy.message import RequestHead

#: Methods that may be sent twice: the effect is that of once (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

MAX_ATTEMPTS = 2


class Trace:
    """What is known of a failed attempt: all that the verdict rests on."""

    __slots__ = ("answered", "attempt", "replayable", "reused", "written")

    def __init__(self, *, attempt: int, reused: bool, written: int, answered: bool) -> None:
        self.attempt = attempt
        self.reused = reused
        self.written = written
        self.answered = answered
        self.replayable = True


def may_retry(head: RequestHead, trace: Trace, idempotency_key: bool = False) -> bool:
    """Whether the request may be sent once more, on another link.

    A request of which nothing was written was never sent at all: any method may go.
    `idempotency_key` lets a request that carries that field count as idempotent.
    """
    if trace.attempt >= MAX_ATTEMPTS or not trace.reused or trace.answered:
        return False
    if not trace.replayable:
        return False
    return trace.written == 0 or is_idempotent(head, idempotency_key)


def is_idempotent(head: RequestHead, idempotency_key: bool) -> bool:
    """Whether to do it twice is to do it once: by its method, or by its key."""
    if head.method in IDEMPOTENT:
        return True
    return idempotency_key and bool(head.values(b"idempotency-key"))

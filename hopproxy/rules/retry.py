"""Whether a request may be retried (RFC 9110 section 9.2.2).

A pooled connection can end just as a request is sent on it.  A retry must not execute the request
twice.  So there is at most one, only after a failure on a reused link, only if no byte of a
response has arrived, and only if the request is idempotent or none of it was sent.

An HTTP/2 origin can say that it did nothing with a request: by REFUSED_STREAM, or by a GOAWAY whose
last stream is an earlier one (RFC 9113 section 8.7).  Then any request may be retried, and more
than once, since origins say so whenever they are replaced.
"""

from hopproxy.message import RequestHead

#: Idempotent methods (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

MAX_ATTEMPTS = 2
#: The same if the origins have done nothing with the request.
MAX_UNPROCESSED = 4


class Trace:
    """What is known about a failed attempt.

    `unprocessed` if the origin has said that it did nothing with the request.
    """

    __slots__ = ("answered", "attempt", "replayable", "reused", "unprocessed", "written")

    def __init__(
        self,
        *,
        attempt: int,
        reused: bool,
        written: int,
        answered: bool,
        unprocessed: bool = False,
    ) -> None:
        self.attempt = attempt
        self.reused = reused
        self.written = written
        self.answered = answered
        self.unprocessed = unprocessed
        self.replayable = True


def may_retry(head: RequestHead, trace: Trace, idempotency_key: bool = False) -> bool:
    """Whether the request may be retried on another link.

    If nothing of it was written, any method may.  With `idempotency_key` a request that has an
    Idempotency-Key field counts as idempotent.
    """
    if trace.unprocessed:
        return trace.attempt < MAX_UNPROCESSED and trace.replayable
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

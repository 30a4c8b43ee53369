"""Whether a request may be sent a second time (RFC 9110 section 9.2.2), and where.

A pooled connection can end while a request is sent on it, and an origin can accept a request and
never answer.  A second attempt must not execute the request twice.  So there is at most one, only
if no byte of a response has arrived, and

- on any origin after a failure on a reused link, if the request is idempotent or none of it was
  sent: the link was dead before, which says nothing about the origin;
- on another origin for GET and HEAD, also after a failure on a fresh link, after a status that
  counts as a failure, and if the request was a trial of an origin that still fails.

A refused dial is no attempt: nothing was sent, and any request goes on to another origin.

An HTTP/2 origin can say that it did not process a request: by REFUSED_STREAM, or by a GOAWAY whose
last stream is an earlier one (RFC 9113 section 8.7).  Then any request may be retried, and more
than once, since origins say so whenever they are replaced.  It is not believed of a request that
already has an interim response.
"""

from enum import Enum

from hopproxy.message import RequestHead

#: Idempotent methods (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
#: Methods that may go to another origin, since executing them twice has no effect.
SAFE = frozenset({b"GET", b"HEAD"})

MAX_ATTEMPTS = 2
#: The same if the origins did not process the request.
MAX_UNPROCESSED = 4


class Again(Enum):
    """What may follow a failed attempt."""

    NOTHING = "nothing"
    ANYWHERE = "anywhere"  # on a fresh link, to another origin if there is one
    ELSEWHERE = "elsewhere"  # on another origin, or not at all


class Trace:
    """What is known about a failed attempt.

    It `ended` if the origin has closed or reset the link, and was `refused` if the origin did not
    serve the request although the link may live: it answered with a status that counts as a
    failure, or failed once more while it was being tried.  `unprocessed` if the origin has
    said that it did nothing with the request.
    """

    __slots__ = (
        "answered", "attempt", "ended", "refused", "replayable", "reused", "unprocessed", "written",
    )  # fmt: skip

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
        self.ended = True
        self.refused = False
        self.replayable = True


def after(head: RequestHead, trace: Trace, idempotency_key: bool = False) -> Again:
    """What may follow the attempt.

    If nothing of it was written, any method may be retried.  With `idempotency_key` a request that
    has an Idempotency-Key field counts as idempotent.
    """
    if trace.unprocessed:
        again = trace.attempt < MAX_UNPROCESSED and trace.replayable
        return Again.ANYWHERE if again else Again.NOTHING
    if trace.attempt >= MAX_ATTEMPTS or not trace.replayable:
        return Again.NOTHING
    if trace.refused:
        return Again.ELSEWHERE if head.method in SAFE else Again.NOTHING
    if trace.answered or not trace.ended:
        return Again.NOTHING
    if trace.reused and (trace.written == 0 or is_idempotent(head, idempotency_key)):
        return Again.ANYWHERE
    return Again.ELSEWHERE if head.method in SAFE else Again.NOTHING


def is_idempotent(head: RequestHead, idempotency_key: bool) -> bool:
    """Whether the request is idempotent, by its method or its key."""
    if head.method in IDEMPOTENT:
        return True
    return idempotency_key and bool(head.values(b"idempotency-key"))


class Budget:
    """How many requests of one upstream may get another chance elsewhere.

    At most a fifth of all requests, and at first `RESERVE`.  What is not used is kept for later, up
    to `MOST`.  So retries cannot overload the origins.
    """

    SHARE = 0.2
    RESERVE, MOST = 10.0, 100.0

    __slots__ = ("_left", "_seen", "refused", "used")

    def __init__(self) -> None:
        self._left = self.RESERVE
        self._seen = 0
        self.used = 0
        self.refused = 0

    def left(self, requests: int) -> int:
        """How many are left, of `requests` so far, those under way included."""
        if requests > self._seen:
            self._left = min(self.MOST, self._left + (requests - self._seen) * self.SHARE)
            self._seen = requests
        return int(self._left)

    def take(self, requests: int) -> bool:
        """Use one; False if none is left."""
        if self.left(requests) < 1:
            self.refused += 1
            return False
        self._left -= 1
        self.used += 1
        return True

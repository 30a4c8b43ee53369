"""What can go wrong, each with the status to answer with and whose fault it is.

Two families.  A `Refusal` is about bytes: what was read cannot stand.  A `LinkError` is about a
link: it ended, or was ended, before its work was done.  Both carry the RFC 9209 proxy error type
that the client is told, and the close reason that the link's record keeps.
"""

from hopproxy.record import CloseReason, ExchangeRecord, Hop, Owner

#: The status, for the log alone, of a client that nothing can be sent to (as nginx writes it).
LOG_ONLY = 499


class HopError(Exception):
    """An exchange that fails: the answer to give (if none has begun) and its cause.

    `status` is for the client.  `cause` is a proxy error type of RFC 9209 section 2.3, `detail`
    one sentence for people.  `at` is the hop at fault, None when it is the gateway itself.
    Each class has a usual status and cause; one error may have others.  `error_type` is the one of
    RFC 9209 where the cause is a word of our own.  `limit` names the setting that was passed.
    `read` is what was read of a request's head that is refused.
    """

    status = 500
    cause = "proxy_internal_error"
    reason = CloseReason.INTERNAL_ERROR
    at: Hop | None = None
    error_type = ""
    limit = ""
    read = b""

    def __init__(
        self, detail: str, status: int | None = None, cause: str | None = None, limit: str = ""
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or self.status
        self.cause = cause or self.cause
        self.limit = limit or self.limit


class BadRequest(HopError):
    """A request that cannot be read in exactly one way, or that passes a limit."""

    status = 400
    cause = "http_request_error"
    reason = CloseReason.BAD_REQUEST
    at = Hop.CLIENT


class Denied(HopError):
    """A request that is understood and not served (no route, a method switched off, a loop).

    Its connection may stay open: the message itself was sound.
    """

    status = 404
    cause = "http_request_denied"
    reason = CloseReason.BAD_REQUEST
    at = Hop.CLIENT


class BadResponse(HopError):
    """A response that cannot be read in exactly one way, or that passes a limit.

    `hint` says what whoever runs the origin can do about it, empty where nothing is known.
    """

    status = 502
    cause = "http_protocol_error"
    reason = CloseReason.BAD_RESPONSE
    at = Hop.UPSTREAM

    def __init__(self, detail: str, hint: str = "", limit: str = "") -> None:
        super().__init__(detail, limit=limit)
        self.hint = hint


class PoolExhausted(HopError):
    """No upstream link is free, and the queue is full."""

    status = 503
    cause = "connection_limit_reached"
    reason = CloseReason.NEVER_OPENED
    at = None
    limit = "queue"


class QueueTimeout(PoolExhausted):
    """No upstream link came free in `queue_timeout`."""

    cause = "queue_timeout"
    error_type = "connection_limit_reached"
    limit = "queue_timeout"


class ConnectFailed(HopError):
    """No connection to the origin could be made; nothing was sent, so another may be tried."""

    status = 502
    cause = "connection_refused"
    reason = CloseReason.NEVER_OPENED
    at: Hop | None = Hop.UPSTREAM


class Unanswered(ConnectFailed):
    """An origin has not accepted a connection yet, and another one can be asked meanwhile."""

    status = 504
    cause = "connection_timeout"


class OriginRemoved(ConnectFailed):
    """The origin that was waited for is no longer one of its upstream; another may be tried."""

    status = 503
    cause = "destination_unavailable"


class LocalShortage(ConnectFailed):
    """This machine had nothing left to connect with (descriptors, ports, memory).

    It says nothing about the origin, which stays reachable for all we know.
    """

    status = 503
    cause = "proxy_internal_error"
    at = None


class Fault(HopError):
    """A fault of the gateway itself met the exchange; the log has its traceback."""

    def __init__(self) -> None:
        super().__init__("a fault in hopproxy")


class LinkError(HopError):
    """A link that ended, or was ended, before its work was done."""

    def __init__(self, at: Hop, reason: CloseReason, detail: str) -> None:
        timed = reason.owner is Owner.TIMEOUT
        super().__init__(detail, *_answers(at, reason), reason.label if timed else "")
        self.at = at
        self.reason = reason


def _answers(at: Hop, reason: CloseReason) -> tuple[int, str]:
    """(status, proxy error type) for a link that failed on one hop.

    A client's own failure has a status for the log alone, but for a head or a body that did not
    come in time: 408 can still reach it.  RFC 9209 knows errors of the
    next hop only, so a client that leaves has a cause of our own.
    """
    if at is Hop.CLIENT:
        if reason in (CloseReason.HEAD_TIMEOUT, CloseReason.BODY_TIMEOUT):
            return 408, "http_request_error"
        return (
            LOG_ONLY,
            "client_timeout" if reason is CloseReason.WRITE_TIMEOUT else "client_closed",
        )
    return _UPSTREAM_ANSWERS.get(reason, (502, "connection_terminated"))


_UPSTREAM_ANSWERS = {
    CloseReason.RESPONSE_TIMEOUT: (504, "http_response_timeout"),
    CloseReason.BODY_TIMEOUT: (504, "connection_read_timeout"),
    CloseReason.WRITE_TIMEOUT: (504, "connection_write_timeout"),
    CloseReason.INCOMPLETE: (502, "http_response_incomplete"),
}


def note_failure(
    record: ExchangeRecord, error: HopError, client: object, upstream: object = None
) -> None:
    """Write down why an exchange failed, and the limit it passed, out of the settings of its hop.

    Call it before `record.status` is that of the failure.
    """
    record.cause = error.cause
    record.detail = error.detail
    if isinstance(error, LinkError) and error.cause == "client_closed":
        record.detail = _left(record, error.reason)
    if error.limit:
        at_client = error.at is Hop.CLIENT
        for settings in (client,) if at_client else (upstream, getattr(upstream, "pool", None)):
            value = getattr(settings, error.limit, None)
            if value is not None:
                record.passed = error.limit, value


def _left(record: ExchangeRecord, reason: CloseReason) -> str:
    """How and when a client has left."""
    how = "reset" if reason is CloseReason.PEER_RESET else "closed"
    when = "before the response had ended" if record.status else "before the response"
    if reason is CloseReason.INCOMPLETE:
        when = "inside its request"
    return f"the client {how} the connection {when}"

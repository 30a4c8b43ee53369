"""Errors, each with the status to answer with and whose fault it is.

There are three kinds: bytes that cannot be accepted (`BadRequest`, `BadResponse`), requests that
are not served (`Denied`, `PoolExhausted`, `ConnectFailed`), and links that ended too early
(`LinkError`).  Each carries the RFC 9209 error type for the client and the close reason for the
link's record.
"""

from hopproxy.reasons import CloseReason, Hop, Owner
from hopproxy.record import ExchangeRecord

#: The status in the log if the client has left and gets no response (as in nginx).
LOG_ONLY = 499


class HopError(Exception):
    """Why an exchange fails, and what to answer if no response has begun.

    `status` is for the client.  `cause` is an error type of RFC 9209 section 2.3 or one of our own;
    then `error_type` is the nearest one of RFC 9209.  `detail` is one sentence for people.  `at` is
    the hop at fault, None if it is the gateway.  `limit` names the setting that was exceeded.
    `read` is what was read of a refused request's head.  A class has defaults for status and cause.
    """

    status = 500
    cause = "proxy_internal_error"
    reason = CloseReason.INTERNAL_ERROR
    at: Hop | None = None
    error_type = ""
    limit = ""
    read = b""
    #: Seconds after which the client may try again, 0 if that is not known.
    retry_after = 0

    def __init__(
        self, detail: str, status: int | None = None, cause: str | None = None, limit: str = ""
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or self.status
        self.cause = cause or self.cause
        self.limit = limit or self.limit


class BadRequest(HopError):
    """A request that cannot be read in exactly one way, or that exceeds a limit."""

    status = 400
    cause = "http_request_error"
    reason = CloseReason.BAD_REQUEST
    at = Hop.CLIENT


class Denied(HopError):
    """A valid request that is not served (no route, a disabled method, a loop).

    Its connection may persist.
    """

    status = 404
    cause = "http_request_denied"
    reason = CloseReason.BAD_REQUEST
    at = Hop.CLIENT


class BadResponse(HopError):
    """A response that cannot be read in exactly one way, or that exceeds a limit.

    `hint` says how the origin can be fixed; empty if that is not known.
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
    """No upstream link became free within `queue_timeout`."""

    cause = "queue_timeout"
    error_type = "connection_limit_reached"
    limit = "queue_timeout"


class Overloaded(HopError):
    """The upstream has as many requests under way as `max_requests_in_flight` allows."""

    status = 503
    cause = "overloaded"
    error_type = "connection_limit_reached"
    reason = CloseReason.NEVER_OPENED
    limit = "max_requests_in_flight"

    def __init__(self, upstream: str, most: int) -> None:
        super().__init__(f"{most} requests to {upstream} are under way already")


class RateLimited(HopError):
    """The route's rate is exceeded; the connection may persist."""

    status = 429
    cause = "rate_limited"
    error_type = "http_request_denied"
    reason = CloseReason.BAD_REQUEST
    at = Hop.CLIENT

    def __init__(self, seconds: int) -> None:
        super().__init__("too many requests: the rate of this route is limited")
        self.retry_after = seconds


class ConnectFailed(HopError):
    """The origin could not be connected to.  Nothing was sent, so another may be tried."""

    status = 502
    cause = "connection_refused"
    reason = CloseReason.NEVER_OPENED
    at: Hop | None = Hop.UPSTREAM


class TlsFailed(ConnectFailed):
    """The origin accepted a connection, but TLS failed, or we do not trust its certificate."""

    cause = "tls_protocol_error"


class Unanswered(ConnectFailed):
    """The origin has not accepted a connection yet; another one may be tried meanwhile."""

    status = 504
    cause = "connection_timeout"


class OriginRemoved(ConnectFailed):
    """The origin was removed from its upstream during a wait for it; another may be tried."""

    status = 503
    cause = "destination_unavailable"


class LocalShortage(ConnectFailed):
    """This machine lacks a resource to connect (descriptors, ports, memory).

    It says nothing about the origin.
    """

    status = 503
    cause = "proxy_internal_error"
    at = None


class Fault(HopError):
    """An unexpected exception in hopproxy; the log has its traceback."""

    def __init__(self) -> None:
        super().__init__("a fault in hopproxy")


class LinkError(HopError):
    """A link ended, or was closed by us, before its work was done."""

    def __init__(self, at: Hop, reason: CloseReason, detail: str) -> None:
        timed = reason.owner is Owner.TIMEOUT
        super().__init__(detail, *_answers(at, reason), reason.label if timed else "")
        self.at = at
        self.reason = reason


def ends_connection(error: HopError) -> bool:
    """Whether the client's connection ends after the answer to this error."""
    return isinstance(error, BadRequest | Fault) or error.status in (405, 408)


class Passed(LinkError):
    """An origin does not serve a request: it goes to another origin, if there still is one."""

    def __init__(self, detail: str, status: int = 502) -> None:
        super().__init__(Hop.UPSTREAM, CloseReason.WENT_ELSEWHERE, detail)
        self.status = status


def _answers(at: Hop, reason: CloseReason) -> tuple[int, str]:
    """(status, cause) for a link that failed on one hop.

    If the client has left, the status is only for the log.  For a head or a body that did not
    arrive in time, 408 can still reach the client.  RFC 9209 defines errors of the next hop only,
    so the causes for a client that leaves are our own.  A silent tunnel is the fault of no hop.
    """
    if reason is CloseReason.TUNNEL_TIMEOUT:
        return 504, reason.label
    if at is Hop.CLIENT:
        if reason in (CloseReason.HEAD_TIMEOUT, CloseReason.BODY_TIMEOUT, CloseReason.BODY_RATE):
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
    """Record why an exchange failed, and the limit it exceeded, from the settings of its hop.

    Call it before `record.status` is set to the status of the failure.
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
    """How a client has left, and when."""
    how = "reset" if reason is CloseReason.PEER_RESET else "closed"
    when = "before the response had ended" if record.status else "before the response"
    if reason is CloseReason.INCOMPLETE:
        when = "inside its request"
    elif record.upgraded:
        when = "inside the tunnel"
    return f"the client {how} the connection {when}"

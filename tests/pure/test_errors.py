"""Errors: whose fault they are, and the answer to the client."""

import pytest

from hopproxy.errors import (
    BadRequest,
    BadResponse,
    ConnectFailed,
    Denied,
    Fault,
    HopError,
    LinkError,
    Overloaded,
    Passed,
    PoolExhausted,
    QueueTimeout,
    RateLimited,
    note_failure,
)
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import CLIENT_CAUSES, ExchangeRecord

#: RFC 9209 section 2.3: the only words that Proxy-Status may use.
ERROR_TYPES = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable",
    "destination_ip_prohibited", "destination_ip_unroutable", "connection_refused",
    "connection_terminated", "connection_timeout", "connection_read_timeout",
    "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size",
    "http_response_header_size", "http_response_body_size", "http_response_trailer_section_size",
    "http_response_trailer_size", "http_response_transfer_coding",
    "http_response_content_coding", "http_response_timeout", "http_upgrade_failed",
    "http_protocol_error", "proxy_internal_response", "proxy_internal_error",
    "proxy_configuration_error", "proxy_loop_detected",
}  # fmt: skip

SILENT = CloseReason.TUNNEL_TIMEOUT


@pytest.mark.parametrize(
    ("error", "at", "reason"),
    [
        (HopError("why"), None, CloseReason.INTERNAL_ERROR),
        (BadRequest("why"), Hop.CLIENT, CloseReason.BAD_REQUEST),
        (Denied("why"), Hop.CLIENT, CloseReason.BAD_REQUEST),
        (BadResponse("why"), Hop.UPSTREAM, CloseReason.BAD_RESPONSE),
        (PoolExhausted("why"), None, CloseReason.NEVER_OPENED),
        (ConnectFailed("why"), Hop.UPSTREAM, CloseReason.NEVER_OPENED),
    ],
)
def test_an_error_knows_whose_fault_it_is(
    error: HopError, at: Hop | None, reason: CloseReason
) -> None:
    assert (error.at, error.reason) == (at, reason)
    assert error.detail == str(error) == "why"
    assert error.cause in ERROR_TYPES


@pytest.mark.parametrize(
    ("hop", "reason", "status", "cause"),
    [
        (Hop.CLIENT, CloseReason.HEAD_TIMEOUT, 408, "http_request_error"),
        (Hop.CLIENT, CloseReason.BODY_TIMEOUT, 408, "http_request_error"),
        (Hop.CLIENT, CloseReason.PEER_CLOSED, 499, "client_closed"),
        (Hop.CLIENT, CloseReason.PEER_RESET, 499, "client_closed"),
        (Hop.CLIENT, CloseReason.WRITE_TIMEOUT, 499, "client_timeout"),
        (Hop.CLIENT, CloseReason.INCOMPLETE, 499, "client_closed"),
        (Hop.UPSTREAM, CloseReason.RESPONSE_TIMEOUT, 504, "http_response_timeout"),
        (Hop.UPSTREAM, CloseReason.BODY_TIMEOUT, 504, "connection_read_timeout"),
        (Hop.UPSTREAM, CloseReason.WRITE_TIMEOUT, 504, "connection_write_timeout"),
        (Hop.UPSTREAM, CloseReason.INCOMPLETE, 502, "http_response_incomplete"),
        (Hop.UPSTREAM, CloseReason.PEER_CLOSED, 502, "connection_terminated"),
        (Hop.UPSTREAM, CloseReason.PEER_RESET, 502, "connection_terminated"),
    ],
)
def test_a_failed_link_has_a_status(hop: Hop, reason: CloseReason, status: int, cause: str) -> None:
    error = LinkError(hop, reason, "why")
    assert (error.status, error.cause) == (status, cause)
    assert (error.at, error.reason, error.detail) == (hop, reason, "why")


@pytest.mark.parametrize("hop", Hop)
@pytest.mark.parametrize("reason", [one for one in CloseReason if one is not SILENT])
def test_every_end_of_a_link_has_a_word_of_the_rfc_or_is_the_clients_own(
    hop: Hop, reason: CloseReason
) -> None:
    error = LinkError(hop, reason, "why")
    assert (error.cause in ERROR_TYPES) is not (error.cause in CLIENT_CAUSES)
    assert (error.cause in CLIENT_CAUSES) is (hop is Hop.CLIENT and error.status == 499)
    assert 400 <= error.status <= 599
    assert error.limit in ("", reason.label)


@pytest.mark.parametrize("hop", Hop)
def test_a_silent_tunnel_is_the_fault_of_no_hop(hop: Hop) -> None:
    error = LinkError(hop, SILENT, "why")
    assert (error.cause, error.limit) == ("tunnel_timeout", "tunnel_timeout")


def test_waits_that_end_differently_have_causes_of_their_own() -> None:
    full, late = PoolExhausted("why"), QueueTimeout("why")
    assert (full.cause, late.cause) == ("connection_limit_reached", "queue_timeout")
    assert (full.status, late.status) == (503, 503)
    assert late.error_type in ERROR_TYPES


class PoolSettings:
    """A pool's."""

    queue_timeout = 5.0


class Settings:
    """A hop's settings, as much as is asked of them."""

    write_timeout = 20.0
    pool = PoolSettings()


@pytest.mark.parametrize(
    ("reason", "status", "detail"),
    [
        (CloseReason.PEER_CLOSED, 0, "the client closed the connection before the response"),
        (CloseReason.PEER_RESET, 0, "the client reset the connection before the response"),
        (
            CloseReason.PEER_CLOSED,
            200,
            "the client closed the connection before the response had ended",
        ),
        (CloseReason.INCOMPLETE, 0, "the client closed the connection inside its request"),
    ],
)
def test_it_is_logged_when_a_client_has_left(reason: CloseReason, status: int, detail: str) -> None:
    record = ExchangeRecord("", 1, 1, 0.0)
    record.status = status
    note_failure(record, LinkError(Hop.CLIENT, reason, "why"), Settings())
    assert (record.cause, record.detail, record.passed) == ("client_closed", detail, None)


def test_it_is_logged_when_a_client_has_left_a_tunnel() -> None:
    record = ExchangeRecord("", 1, 1, 0.0)
    record.status, record.upgraded = 101, True
    error = LinkError(Hop.CLIENT, CloseReason.PEER_RESET, "why")
    note_failure(record, error, Settings())
    assert record.detail == "the client reset the connection inside the tunnel"


CLIENT_LATE = LinkError(Hop.CLIENT, CloseReason.WRITE_TIMEOUT, "why")
ORIGIN_LATE = LinkError(Hop.UPSTREAM, CloseReason.WRITE_TIMEOUT, "why")
QUEUE_LATE = QueueTimeout("why")


@pytest.mark.parametrize(
    ("error", "client", "upstream", "passed"),
    [
        (CLIENT_LATE, Settings(), None, ("write_timeout", 20.0)),
        (CLIENT_LATE, None, Settings(), None),
        (ORIGIN_LATE, None, Settings(), ("write_timeout", 20.0)),
        (ORIGIN_LATE, Settings(), None, None),
        (QUEUE_LATE, Settings(), Settings(), ("queue_timeout", 5.0)),
        (BadRequest("why"), Settings(), Settings(), None),
    ],
)
def test_a_limit_that_was_passed_is_reported_with_its_value(
    error: HopError, client: object, upstream: object, passed: tuple[str, float] | None
) -> None:
    record = ExchangeRecord("", 1, 1, 0.0)
    note_failure(record, error, client, upstream)
    assert (record.cause, record.detail, record.passed) == (error.cause, "why", passed)


def test_a_fault_of_ours_is_nobody_elses() -> None:
    fault = Fault()
    assert (fault.status, fault.cause, fault.at) == (500, "proxy_internal_error", None)
    assert fault.reason is CloseReason.INTERNAL_ERROR


def test_refusals_of_too_much_say_when_to_come_again() -> None:
    limited, overloaded = RateLimited(7), Overloaded("app", 20)
    assert (limited.status, limited.cause, limited.retry_after) == (429, "rate_limited", 7)
    assert (overloaded.status, overloaded.cause, overloaded.limit) == (
        503,
        "overloaded",
        "max_requests_in_flight",
    )
    assert overloaded.detail == "20 requests to app are under way already"


def test_a_request_that_is_passed_on_names_no_fault_of_the_origin() -> None:
    passed = Passed("it does not serve this", 503)
    assert (passed.at, passed.reason) == (Hop.UPSTREAM, CloseReason.WENT_ELSEWHERE)
    assert (passed.status, passed.detail) == (503, "it does not serve this")

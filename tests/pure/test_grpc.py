"""Our own errors as gRPC's clients read them."""

from __future__ import annotations

import pytest

from hopproxy.errors import (
    BadRequest,
    BadResponse,
    ConnectFailed,
    Denied,
    Fault,
    HopError,
    LinkError,
    PoolExhausted,
    Unanswered,
)
from hopproxy.message import HTTP_2, NO_BODY, RequestHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.grpc import asks_grpc, grpc_answer, grpc_status


def call(media_type: bytes = b"application/grpc", minor: int = HTTP_2) -> RequestHead:
    return RequestHead(b"POST", b"/s/m", minor, [b"content-type: " + media_type], [])


@pytest.mark.parametrize(
    ("media_type", "asks"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"Application/gRPC; charset=x", True),
        (b"application/grpc-web+proto", True),
        (b"application/grpcx", False),
        (b"application/json", False),
    ],
)
def test_what_is_a_call(media_type: bytes, asks: bool) -> None:
    assert asks_grpc(call(media_type)) is asks
    assert not asks_grpc(call(media_type, minor=1))


def test_what_is_none() -> None:
    assert not asks_grpc(RequestHead(b"POST", b"/", HTTP_2, [], []))
    simple = call()
    simple.simple = True
    assert not asks_grpc(simple)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PoolExhausted("full"), 14),
        (ConnectFailed("refused"), 14),
        (Unanswered("slow"), 14),
        (BadResponse("odd"), 14),
        (LinkError(Hop.UPSTREAM, CloseReason.RESPONSE_TIMEOUT, "late"), 4),
        (LinkError(Hop.UPSTREAM, CloseReason.WRITE_TIMEOUT, "late"), 4),
        (LinkError(Hop.UPSTREAM, CloseReason.PEER_CLOSED, "gone"), 14),
        (BadRequest("large", 413), 8),
        (BadRequest("odd"), 13),
        (Denied("no route"), 12),
        (Denied("no", 403), 7),
        (Fault(), 13),
        (HopError("odd", 418), 2),
    ],
)
def test_statuses(error: HopError, status: int) -> None:
    assert grpc_status(error) == status


def test_an_answer_is_a_head_alone() -> None:
    request = call(b"application/grpc+proto")
    head, body = grpc_answer(request, PoolExhausted("100 % full: é\r\n"), b"hopproxy")
    assert (head.status, head.body, body) == (200, NO_BODY, b"")
    assert head.lines[:3] == [
        b"content-type: application/grpc+proto",
        b"grpc-status: 14",
        b"grpc-message: 100 %25 full: %C3%A9%0D%0A",
    ]
    assert head.lines[3].startswith(b"Proxy-Status: hopproxy; error=connection_limit_reached")

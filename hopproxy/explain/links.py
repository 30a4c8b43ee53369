"""Why a connection persists or ends, in words."""

from hopproxy.explain.told import LinkTold
from hopproxy.message import RequestHead
from hopproxy.reasons import CloseReason
from hopproxy.rules.retry import is_idempotent
from hopproxy.rules.upgrade import asks_websocket
from hopproxy.settings.upstream import UpstreamSettings

_PERSISTENCE = "RFC 9112 section 9.3"

#: What each reason means, and its place in an RFC.
WHY: dict[CloseReason, tuple[str, str]] = {
    CloseReason.PEER_ASKED: ("the peer sent Connection: close", "RFC 9112 section 9.6"),
    CloseReason.PEER_HTTP10: ("HTTP/1.0 without Connection: keep-alive", _PERSISTENCE),
    CloseReason.NO_LENGTH: (
        "the body has no length, and an HTTP/1.0 client finds its end by the close",
        "RFC 9112 section 6.3",
    ),
    CloseReason.CLOSE_DELIMITED: (
        "the response has no length: the close ends it", "RFC 9112 section 6.3",
    ),
    CloseReason.BAD_REQUEST: ("what follows on this connection cannot be trusted", _PERSISTENCE),
    CloseReason.BAD_RESPONSE: ("the response is ambiguous", "RFC 9112 section 6.3"),
    CloseReason.BODY_UNREAD: ("the body of the request is not read", "RFC 9112 section 9.3"),
    CloseReason.REQUEST_LIMIT: ("max_requests", ""),
    CloseReason.UPGRADE_DECLINED: (
        "an upgrade with a body was declined: the body may be taken for a request",
        "RFC 9110 section 7.8",
    ),
    CloseReason.PRIVATE: ("it is bound to this client, whose connection ends (NTLM)", ""),
    CloseReason.HINT: ("the origin's Keep-Alive field", ""),
    CloseReason.TUNNEL_ENDED: ("it becomes a tunnel, and ends with it", "RFC 9110 section 7.8"),
}  # fmt: skip


def told(reason: CloseReason | None, otherwise: str = "") -> LinkTold:
    """The verdict about a connection; `otherwise` says why it persists."""
    if reason is None:
        return LinkTold(True, "", otherwise or "HTTP/1.1 persists by default", _PERSISTENCE)
    why, rfc = WHY.get(reason, (reason.label.replace("_", " "), ""))
    return LinkTold(False, reason.label, why, rfc)


def before(head: RequestHead, settings: UpstreamSettings) -> LinkTold:
    """Which upstream connection a request may take, and whether it is kept afterwards."""
    if head.binds:
        which = "one that only this client uses from now on: its credentials bind it (NTLM)"
        return LinkTold(True, "private", which, "RFC 9110 section 3.3")
    if settings.protocol == "h2" or all(one.scheme == "h2c" for one in settings.origins):
        return _stream(head)
    if is_idempotent(head, settings.retry_idempotency_key):
        which = "any idle one: if it has just ended, the request may be sent again"
    else:
        share = f"{round(settings.pool.young_share * 100)}%"
        which = f"a young idle one (young_share: {share}) or a new one: it must not be sent twice"
    if head.upgrade is not None:
        which += "; after a 101 it is a tunnel"
    return LinkTold(
        True, "", f"{which}; kept unless the response ends it", "RFC 9110 section 9.2.2"
    )


def _stream(head: RequestHead) -> LinkTold:
    """The same for an origin that speaks HTTP/2."""
    which, rfc = "a stream of a connection that has room, else of a new one", "RFC 9113 section 5"
    if asks_websocket(head):
        which += (
            ": as an extended CONNECT, without Connection, Upgrade and Sec-WebSocket-Key; if the "
            "origin's SETTINGS do not allow that, the answer is 502"
        )
        rfc = "RFC 8441 section 4"
    elif head.upgrade is not None:
        which += "; HTTP/2 has no Upgrade, so it is left out"
    return LinkTold(True, "", f"{which}; the connection is kept, whatever the response is", rfc)

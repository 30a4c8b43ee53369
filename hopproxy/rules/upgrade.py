"""Upgrade: when it is passed on, and which response starts a tunnel (RFC 9110 section 7.8)."""

from hopproxy.errors import BadResponse
from hopproxy.message import NO_BODY, RequestHead, ResponseHead, list_of
from hopproxy.reasons import CloseReason


def settle_upgrade(head: RequestHead) -> None:
    """Note the protocols a client offers to switch to.

    HTTP/1.0 cannot upgrade, and an Upgrade that Connection does not name is ignored.  `h2c` is
    never passed on, since hopproxy does not support it.  The request may have a body: the new
    protocol begins after it.
    """
    if b"upgrade" not in head.options or head.minor == 0:
        return
    value = head.special_value(b"upgrade")
    if value is None:
        return
    offered = [member for member in list_of(value) if not member.lower().startswith(b"h2")]
    if offered:
        head.upgrade = b", ".join(offered)


def asks_websocket(request: RequestHead) -> bool:
    """Whether a request offers to switch to WebSocket, as RFC 6455 section 4.1 wants it."""
    if request.upgrade is None or request.method != b"GET" or request.body is not NO_BODY:
        return False
    return b"websocket" in [member.lower() for member in list_of(request.upgrade)]


def check_switch(request: RequestHead, response: ResponseHead) -> bytes:
    """The protocol that a 101 switches to.

    Raises BadResponse if the request was no upgrade, or did not offer that protocol.
    """
    if request.upgrade is None:
        raise BadResponse("101 without a request to upgrade")
    chosen = response.special_value(b"upgrade")
    offered = [member.lower() for member in list_of(request.upgrade)]
    if chosen is None or b"upgrade" not in response.options:
        raise BadResponse("101 that does not name its protocol")
    if chosen.lower() not in offered:
        raise BadResponse("101 to a protocol that was not offered")
    return chosen


def switches(head: ResponseHead | None) -> bool:
    """Whether another protocol begins after this head."""
    return head is not None and head.status == 101


def declined(request: RequestHead) -> CloseReason | None:
    """Why a link must not be used again after a response other than 101; None if it may.

    Some origins stop reading after the head of an upgrade, and would take its body for the next
    request on the connection.
    """
    if request.upgrade is None or request.body is NO_BODY:
        return None
    return CloseReason.UPGRADE_DECLINED


def check_sent(sent: bool) -> None:
    """Refuse a 101 from an origin that did not read the whole request."""
    if not sent:
        raise BadResponse("101, and then the request's body was not taken")

"""Upgrade: when it may be honoured, and which answer makes a tunnel (RFC 9110 section 7.8)."""

from hopproxy.errors import BadResponse
from hopproxy.message import NO_BODY, RequestHead, ResponseHead, list_of


def settle_upgrade(head: RequestHead) -> None:
    """Note the protocols a client asks for, if a switch could be honoured at all.

    HTTP/1.0 cannot upgrade, an Upgrade that Connection does not name is not ours to act on, one
    beside a body is left out so that the body has one meaning, and `h2c` is never passed on: we
    could not read what follows as one hop.
    """
    if b"upgrade" not in head.options or head.minor == 0 or head.body is not NO_BODY:
        return
    value = head.special_value(b"upgrade")
    if value is None:
        return
    offered = [member for member in list_of(value) if not member.lower().startswith(b"h2")]
    if offered:
        head.upgrade = b", ".join(offered)


def check_switch(request: RequestHead, response: ResponseHead) -> bytes:
    """The protocol that a 101 switches to.

    Raises BadResponse when nobody asked, or for a protocol that was not offered.
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

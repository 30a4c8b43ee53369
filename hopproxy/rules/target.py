"""What a request is for: its target and its Host (RFC 9112 section 3.2, RFC 9110 section 7.2)."""

import re

from hopproxy.errors import BadRequest, Denied
from hopproxy.message import Kind, RequestHead

#: Visible ASCII but '#': a fragment is never sent (RFC 9112 section 3.2.1).
ORIGIN_FORM = re.compile(rb"/[!-\"$-~]*")

_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#]*)([/?][!-\"$-~]*)?")

#: reg-name, IPv4 or bracketed IPv6, and a port up to 65535: no userinfo, no spaces.
_AUTHORITY = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::([0-9]{0,5}))?"
)


def is_authority(value: bytes) -> bool:
    """Whether `value` is uri-host [ ":" port ] (RFC 9110 section 7.2)."""
    match = _AUTHORITY.fullmatch(value)
    return match is not None and (not match[1] or int(match[1]) < 65536)


def settle_target(head: RequestHead) -> None:
    """Bring the target to origin-form (or `*`) and the host to one authority.

    An absolute-form target's authority is the host; a Host that differs is refused rather than
    replaced, so that nobody behind us can see another one (RULES.md part C).
    Raises BadRequest, and Denied for CONNECT (405).
    """
    hosts = [field.value for field in head.special if field.kind is Kind.HOST]
    if len(hosts) > 1:
        raise BadRequest("more than one Host")
    if hosts:
        if not is_authority(hosts[0]):
            raise BadRequest("a Host that is no authority")
        head.host = hosts[0]
    elif head.minor:
        raise BadRequest("no Host in an HTTP/1.1 request")
    if head.method == b"CONNECT":
        raise Denied("CONNECT is not served here", 405)
    target = head.target
    if ORIGIN_FORM.fullmatch(target):
        return
    if target == b"*" and head.method == b"OPTIONS":
        return
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not is_authority(match[1]):
        raise BadRequest("a request target in no form that is served here")
    if hosts and hosts[0].lower() != match[1].lower():
        raise BadRequest("a Host that differs from the target's authority")
    path = match[2] or (b"*" if head.method == b"OPTIONS" else b"/")
    head.target = b"/" + path if path.startswith(b"?") else path
    head.host = match[1]
